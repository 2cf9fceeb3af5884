"""What an image costs in every step, and what the records of many runs weigh: the figures of docs/scale.md.

    python -m benchmarks.steps [--small 500] [--large 2500] [--runs 40] [--epochs 100]

Every step is run on two sizes of a drawn dataset (JPEGs of 640 by 480 pixels); the difference of the processor times,
divided by that of the sizes, is the cost of an image without what starting costs. Processor time of the process and all
that it starts, user and system; so a busy machine changes little. Then trainings are written into an MLflow database as
keypipe writes them, without training, and what grows is measured. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.data import SCHEMA, write_dataset
from benchmarks.workspace import environment, make_workspace, stage


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=500)
    parser.add_argument("--large", type=int, default=2500)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    sizes = (options.small, options.large)
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure_steps(Path(folder) / str(size), size) for size in sizes]
        print("| step | an image, processor time | start |\n|---|---|---|")
        for name, small in measured[0].items():
            each = (measured[1][name] - small) / (sizes[1] - sizes[0])
            print(f"| {name} | {1000 * each:.2f} ms | {small - each * sizes[0]:.1f} s |", flush=True)
        sizes_of = {size: count_files(Path(folder) / str(size)) for size in sizes}
        for what in sizes_of[sizes[0]]:
            each_file = (sizes_of[sizes[1]][what] - sizes_of[sizes[0]][what]) / (sizes[1] - sizes[0])
            print(f"| {what} | {each_file:.2f} an image | |")
        print(measure_records(Path(folder) / "records", options.runs, options.epochs))


def measure_steps(root: Path, n_images: int) -> dict[str, float]:
    """Return the processor time of every step on so many images, seconds."""
    make_workspace(root, SCHEMA)
    write_dataset(root / "data/raw", n_images, embed=False)
    for command in (["init", "-q"], ["config", "core.analytics", "false"]):
        subprocess.run(
            [sys.executable, "-m", "dvc", *command], cwd=root, env=environment(), check=False, capture_output=True
        )
    dvc = [sys.executable, "-m", "dvc"]
    steps = {
        "DVC: a version of data/raw": [*dvc, "add", "-q", "data/raw"],
        "DVC: is data/raw unchanged": [*dvc, "status", "-q", "data/raw.dvc"],
        "convert": stage("convert"),
        "convert, nothing new": stage("convert"),
        "split": stage("split"),
        "split, nothing new": stage("split"),
        "doctor": [sys.executable, "-m", "keypipe", "doctor", "--json"],
    }
    return {name: processor_time(command, root) for name, command in steps.items()}


def processor_time(command: list[str], cwd: Path) -> float:
    """Run a command and return the processor time of it and all that it started, seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1, 2}:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def count_files(root: Path) -> dict[str, float]:
    """Return the number of files, and of kilobytes, that versions and caches of the data take."""
    cache = [path for path in (root / ".dvc/cache").rglob("*") if path.is_file()]
    own = [path for path in (root / ".keypipe").rglob("*") if path.is_file()]
    return {
        "files in DVC's cache": len(cache),
        "kB of .keypipe": sum(path.stat().st_size for path in own) / 1000,
    }


def measure_records(root: Path, runs: int, epochs: int) -> str:
    """Write trainings into an MLflow database as keypipe does, and return what they weigh and how long a look takes."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    root.mkdir()
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.create_experiment("keypipe", artifact_location=root.as_uri())
    names = [f"val_epoch/figure_{number}" for number in range(30)]
    lines = ["", "| trainings | mlflow.db | a list of them all |", "|---|---|---|"]
    for number in range(1, runs + 1):
        run = client.create_run(experiment, tags={f"keypipe.tag{tag}": "x" * 40 for tag in range(20)})
        client.log_batch(run.info.run_id, params=[Param(f"train.key{key}", "value") for key in range(90)])
        for first in range(0, epochs, 30):
            points = [Metric(name, 0.5, 0, epoch) for epoch in range(first, min(epochs, first + 30)) for name in names]
            client.log_batch(run.info.run_id, metrics=points)
        client.set_terminated(run.info.run_id)
        if number in {runs // 4, runs}:
            started = time.process_time()
            client.search_runs([experiment], max_results=50_000)
            size = (root / "mlflow.db").stat().st_size / 1e6
            lines.append(f"| {number} of {epochs} epochs | {size:.1f} MB | {time.process_time() - started:.2f} s |")
    shutil.rmtree(root)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
