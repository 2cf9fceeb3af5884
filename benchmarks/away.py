"""What a training loses while MLflow is away: the same training with a server that answers, and with ones that do not.

    python -m benchmarks.away [--rounds 4] [--images 60] [--epochs 20] [--imgsz 96]

A real MLflow server, a port where nothing listens, a server that takes connections and never answers, and one that
loses a tenth of what goes over the line. Each round trains once with each, in turn. The training is fixed by its seed
and is the same in all; times are of the whole stage, from its start to its end. The same with the answering server a
second time shows what the machine's noise alone makes of a ratio.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.timing import run
from benchmarks.trainings import COMMON, run_quietly, set_training
from benchmarks.workspace import environment, make_workspace, stage
from keypipe.demo.scene import SCHEMA, write_demo
from tests.faults.proxy import BadLine
from tests.mlflow_server import MlflowServer

AGAIN = "answers, again"


def main() -> None:
    """Train in turn and print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--imgsz", type=int, default=96)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "workspace"
        make_workspace(root, SCHEMA)
        write_demo(root / "data/raw", options.images, 0)
        (root / "local.yaml").write_text("device: cpu\n")
        set_training(root, 0, {**COMMON, "epochs": options.epochs, "imgsz": options.imgsz})
        for name in ("convert", "split"):
            run_quietly(stage(name), root, environment())
        server = MlflowServer(Path(scratch) / "mlflow")
        server.start()
        with (
            ExitStack() as ending,
            BadLine(server.port, 0) as bad,
            socket.create_server(("127.0.0.1", 0), backlog=128) as silent,
            socket.socket() as closed,
        ):
            ending.callback(server.stop)
            closed.bind(("127.0.0.1", 0))  # taken, and nothing listens
            ways = {
                "answers": server.url,
                AGAIN: server.url,
                "nothing listens": f"http://127.0.0.1:{closed.getsockname()[1]}",
                "never answers": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "loses a tenth": bad.url,
            }
            print_table(measure(root, ways, options.rounds))


def measure(root: Path, ways: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every training, by way."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way, uri in ways.items():
            env = environment() | {"MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
            seconds[way].append(run(stage("train"), root, env).seconds)
            print(f"round {number + 1}, {way}: {seconds[way][-1]:.1f} s", flush=True)
    return seconds


def print_table(seconds: dict[str, list[float]]) -> None:
    """Print medians, and the median and range of the ratios to the training of the same round whose server answers."""
    print("| MLflow | median | seconds more | ratio (range) |\n|---|---|---|---|")
    for way, values in seconds.items():
        pairs = list(zip(values, seconds["answers"], strict=True))
        more = statistics.median(value - answered for value, answered in pairs)
        ratios = sorted(value / answered for value, answered in pairs)
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(f"| {way} | {statistics.median(values):.1f} s | {more:+.1f} s | {spread} |")


if __name__ == "__main__":
    main()
