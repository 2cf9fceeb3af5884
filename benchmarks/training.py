"""keypipe's train stage beside plain ``yolo pose train``: the same arguments, images, seeds and loss sigma, in turn.

Start-up, records in MLflow, the exact state of every epoch and keypipe's own evaluation are in keypipe's time; plots
are off in both. Beside the wall time stands that of the processors, which says something on a busy machine as well.

    python -m benchmarks.training [--data setsquare] [--epochs 10] [--imgsz 256] [--pairs 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.loss_sigma import measure, predict, read_truth
from benchmarks.trainings import (
    PROTOCOLS,
    plain_command,
    plain_environment,
    prepare,
    run_quietly,
    set_training,
)
from benchmarks.workspace import environment, stage


class Cost(NamedTuple):
    """Seconds of wall time, and of all processors together."""

    wall: float
    processors: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", choices=[*PROTOCOLS], default="setsquare" if PROTOCOLS["setsquare"].is_here else "demo"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--imgsz", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    protocol = PROTOCOLS[options.data]
    arguments = {**protocol.arguments, "epochs": options.epochs, "imgsz": options.imgsz}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "workspace"
        prepare(root, protocol)
        sigma = round(1 / _count_slots(root), 6)
        set_training(root, 0, arguments, loss_sigma=sigma)
        run_quietly(stage("split"), root, environment())  # so that validation has this sigma as well
        pairs: list[dict[str, Any]] = []
        for seed in range(options.pairs):
            runs: dict[str, Callable[[], Path]] = {
                "keypipe": lambda seed=seed: train_ours(root, seed, arguments, sigma),  # type: ignore[misc]
                "ultralytics": lambda seed=seed: train_plain(root, seed, arguments),  # type: ignore[misc]
            }
            order = list(runs) if seed % 2 == 0 else list(runs)[::-1]
            pair: dict[str, Any] = {"seed": seed, "load": os.getloadavg()[0]}
            for name in order:
                cost, weights = timed(runs[name])
                pair[name] = {**cost._asdict(), **measure(read_truth(root), predict(root, weights, root))}
            pairs.append(pair)
            print(pair, flush=True)
        timings = json.loads((root / "models/timings.json").read_text(encoding="utf-8"))
    result = {
        "data": options.data,
        "epochs": options.epochs,
        "imgsz": options.imgsz,
        "cores": os.cpu_count(),
        "pairs": pairs,
        "ratio_wall": ratio(pairs, "wall"),
        "ratio_processors": ratio(pairs, "processors"),
        "state_share": sum(timings["state_seconds_per_epoch"]) / timings["seconds"],
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{options.data}, {options.epochs} epochs of {options.imgsz} px, {os.cpu_count()} cores, {len(pairs)} pairs")
    print(f"{'':14}{'wall s':>10}{'processors s':>14}{'AP':>8}{'within':>8}")
    for name in ("keypipe", "ultralytics"):
        means = [statistics.mean(pair[name][key] for pair in pairs) for key in ("wall", "processors", "AP", "within")]
        print(f"{name:14}{means[0]:10.1f}{means[1]:14.1f}{means[2]:8.3f}{means[3]:8.3f}")
    print(f"ratio of wall times: {result['ratio_wall']}")
    print(f"ratio of processor times: {result['ratio_processors']}")
    print(f"share of an epoch that keeping its exact state takes: {result['state_share']:.1%}")


def _count_slots(root: Path) -> int:
    import yaml

    return int(yaml.safe_load((root / "data/yolo/data.yaml").read_text(encoding="utf-8"))["kpt_shape"][0])


def train_ours(root: Path, seed: int, arguments: dict[str, Any], sigma: float) -> Path:
    """Run the stage with Ultralytics' own loss sigma and choice of the best, so that both do the same."""
    shutil.rmtree(root / "models", ignore_errors=True)
    set_training(root, seed, arguments, loss_sigma=sigma, best_by="fitness")
    run_quietly(stage("train"), root, environment())
    return root / "models/best.pt"


def train_plain(root: Path, seed: int, arguments: dict[str, Any]) -> Path:
    """Run plain Ultralytics."""
    shutil.rmtree(root / "plain", ignore_errors=True)
    run_quietly(plain_command(root, seed, arguments), root, plain_environment(root))
    return root / "plain/run/weights/best.pt"


def timed(train: Callable[[], Path]) -> tuple[Cost, Path]:
    """Run a training; return what it and its processes cost, and its weights."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    weights = train()
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), weights


def ratio(pairs: list[dict[str, Any]], key: str) -> str:
    """Return the median and the range over the pairs of keypipe's share of Ultralytics' cost."""
    values = sorted(pair["keypipe"][key] / pair["ultralytics"][key] for pair in pairs)
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    main()
