"""Cold beside warm start: the same data, growing by quarters, from random weights or from the last quarter's model.

Val and test are the same throughout; of the images to train on a quarter comes at a time. The first quarter is trained
from random weights. After it three ways part: from random weights again, from the weights that the same way had after
the last quarter, and that with half the epochs. Every model is measured on the test split by keypipe's evaluation,
sigma 0.1, and after every epoch on val: so it is seen after how many steps a warm start has what the cold one ends
with.

Every training is appended to ``warm_start.jsonl`` in the folder; the same command goes on after a stop, a training at
its last whole epoch, and ``--table`` prints the tables from there.

    python -m benchmarks.warm_start --work FOLDER [--data demo setsquare] [--seeds 0] [--epochs 20] [--imgsz 128]
        [--minutes 60] [--table]
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.loss_sigma import measure, predict, read_truth
from benchmarks.trainings import PROTOCOLS, SHARED_DATA, prepare, run_quietly, set_training
from benchmarks.workspace import environment, stage
from keypipe.dataset.coco_stream import CocoLines, write_parts
from tests.workspace import keep_weights

QUARTERS = (1, 2, 3, 4)
WAYS = ("cold", "warm", "warm, half the epochs")
DATA = ("demo", "setsquare")
RESULTS = "warm_start.jsonl"
TRAIN = "data/dataset/annotations/train.json"
START = "data/weights/start.pt"


class Cell(NamedTuple):
    """One training; ``epochs`` and ``imgsz`` are those of the cold way."""

    data: str
    epochs: int
    imgsz: int
    seed: int
    quarter: int
    way: str

    @property
    def before(self) -> Cell | None:
        """The training whose weights it starts from."""
        if self.way == "cold":
            return None
        earlier = self._replace(quarter=self.quarter - 1)
        return earlier._replace(way="cold") if earlier.quarter == 1 else earlier

    @property
    def trained_epochs(self) -> int:
        """Epochs of this way."""
        return math.ceil(self.epochs / 2) if "half" in self.way else self.epochs

    @property
    def name(self) -> str:
        """Of its files."""
        way = self.way.replace(", ", "-").replace(" ", "-")
        return f"{self.data}-{self.epochs}-{self.imgsz}-{self.seed}-{self.quarter}-{way}"


def list_cells(data: list[str], seeds: list[int], epochs: int, imgsz: int) -> Iterator[Cell]:
    """Yield the trainings in an order in which each finds the weights that it starts from."""
    for seed in seeds:
        for name in data:
            for quarter in QUARTERS:
                for way in WAYS if quarter > 1 else WAYS[:1]:
                    yield Cell(name, epochs, imgsz, seed, quarter, way)


def read_rows(work: Path) -> list[dict[str, Any]]:
    """Return what was trained; a line that was cut off by a kill is none."""
    path = work / RESULTS
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def to_cell(row: dict[str, Any]) -> Cell:
    """Return the cell of a row."""
    return Cell(**{name: row[name] for name in Cell._fields})


def take_quarters(root: Path, quarters: int, seed: int) -> int:
    """Leave so many quarters of the images to train on, the same ones first for the same seed.

    Returns:
        How many images are left.
    """
    path, whole = root / TRAIN, root / "whole.json"
    path.rename(whole)
    coco = CocoLines(whole)
    n_images = sum(1 for _ in coco.images())
    order = np.random.default_rng([19, seed]).permutation(n_images)
    chosen = np.zeros(n_images, dtype=np.uint8)
    chosen[order[: math.ceil(n_images * quarters / len(QUARTERS))]] = 1
    write_parts(coco, {path: chosen.tobytes()})
    whole.unlink()
    return int(chosen.sum())


def open_workspace(work: Path, cell: Cell) -> Path:
    """Return the training's workspace; one that a stop has left is gone on with."""
    source, root = work / cell.data, work / cell.name
    if not source.exists():
        partial = work / f"{cell.data}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        prepare(partial, PROTOCOLS[cell.data])
        partial.rename(source)
    if not root.exists():
        partial = work / f"{cell.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, symlinks=True)
        take_quarters(partial, cell.quarter, cell.seed)
        if cell.before is not None:
            keep_weights(partial, work / f"{cell.before.name}.pt", Path(START).name)
        partial.rename(root)
    return root


def train(root: Path, cell: Cell, epochs: int) -> None:
    """Train in a workspace."""
    arguments = {**PROTOCOLS[cell.data].arguments, "epochs": epochs, "imgsz": cell.imgsz}
    own = {} if cell.before is None else {"model": START}
    set_training(root, cell.seed, arguments, **own)
    run_quietly(stage("train"), root, environment())


def run_cell(work: Path, cell: Cell) -> dict[str, Any]:
    """Train and measure."""
    root = open_workspace(work, cell)
    train(root, cell, cell.trained_epochs)
    timings = json.loads((root / "models/timings.json").read_text(encoding="utf-8"))
    epochs = json.loads((root / "models/epochs.json").read_text(encoding="utf-8"))
    images = len(json.loads((root / TRAIN).read_text(encoding="utf-8"))["images"])
    weights = work / f"{cell.name}.pt"
    shutil.copy2(root / "models/best.pt", weights)
    test = measure(read_truth(root), predict(root, weights, work))
    steps = math.ceil(images / PROTOCOLS[cell.data].arguments["batch"])
    row = {
        **cell._asdict(),
        "images": images,
        "test_images": len(read_truth(root).images),
        "steps_an_epoch": steps,
        "seconds": timings["seconds"],
        "val_AP": [epoch["val_epoch/oks_AP"] for epoch in epochs],
        "val_within": [epoch["val_epoch/within_0.1_diagonals"] for epoch in epochs],
        "test": test,
    }
    with (work / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    shutil.rmtree(root)
    return row


def estimate(work: Path, cells: list[Cell], rows: list[dict[str, Any]]) -> float:
    """Return how many seconds the trainings will take: from those that are there, else from one epoch of a quarter."""
    total = 0.0
    for name in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == name]
        known = [row for row in rows if row["data"] == name and row["imgsz"] == mine[0].imgsz]
        if known:
            seconds = sum(row["seconds"] for row in known)
            rate = seconds / sum(len(row["val_AP"]) * row["quarter"] for row in known)
        else:
            cell = mine[0]._replace(quarter=1, way="cold", epochs=1)
            root = open_workspace(work, cell)
            train(root, cell, 1)
            rate = json.loads((root / "models/timings.json").read_text(encoding="utf-8"))["seconds"]
            shutil.rmtree(root)
        total += rate * sum(cell.trained_epochs * cell.quarter for cell in mine)
    return total


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print what was trained: a line for each dataset, quarter and way, means over the seeds that all ways have."""
    cells = {to_cell(row): row for row in rows}
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for cell, row in cells.items():
        cold = cells.get(cell._replace(way="cold"))
        if cold is not None:
            target = max(cold["val_AP"])
            reached = next((n for n, value in enumerate(row["val_AP"], 1) if value >= target), None)
            cold_reached = cold["val_AP"].index(target) + 1
            saved = None if reached is None else (cold_reached - reached) * row["steps_an_epoch"]
            lines[cell.data, cell.epochs, cell.imgsz, cell.quarter, cell.way].append(
                {
                    **row,
                    "cold_steps": cold_reached * cold["steps_an_epoch"],
                    "steps": None if reached is None else reached * row["steps_an_epoch"],
                    "saved": saved,
                }
            )
    print(
        "| data | images | start | seeds | steps | test OKS AP | close keypoints | best on val | steps to the cold best"
        " on val | of them saved |\n|" + "---|" * 10
    )
    for (data, epochs, imgsz, _, way), found in sorted(
        lines.items(), key=lambda item: (DATA.index(item[0][0]), *item[0][1:4], WAYS.index(item[0][4]))
    ):
        first = found[0]
        reached = [row for row in found if row["steps"] is not None]
        steps = "never" if not reached else f"{np.mean([row['steps'] for row in reached]):.0f}"
        steps += f" ({len(reached)} of {len(found)} seeds)" if 0 < len(reached) < len(found) else ""
        saved = "" if way == "cold" or not reached else f"{np.mean([_share(row) for row in reached]):.0%}"
        print(
            f"| {data}, {imgsz} px, {epochs} epochs | {first['images']} | {way} | {len(found)} |"
            f" {len(first['val_AP']) * first['steps_an_epoch']} |"
            f" {_spread([row['test']['AP'] for row in found])} | {_spread([row['test']['within'] for row in found])} |"
            f" {_spread([max(row['val_AP']) for row in found])} | {steps} | {saved} |"
        )


def _share(row: dict[str, Any]) -> float:
    return float(row["saved"] / row["cold_steps"])


def _spread(values: list[float]) -> str:
    """Format the mean and, of several, the range."""
    text = f"{np.mean(values):.3f}"
    return text if len(values) == 1 else f"{text} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Train what is not yet there, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for workspaces, weights and results; kept")
    parser.add_argument("--data", nargs="+", choices=DATA, default=[*DATA])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--minutes", type=float, default=60, help="begin no training after so long")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = read_rows(options.work)
    if not options.table:
        ends = time.monotonic() + 60 * options.minutes
        here = [name for name in options.data if PROTOCOLS[name].is_here]
        for name in [name for name in options.data if name not in here]:
            print(f"{name}: skipped, {SHARED_DATA / str(PROTOCOLS[name].folder)} is not there")
        known = {to_cell(row) for row in rows}
        cells = [cell for cell in list_cells(here, options.seeds, options.epochs, options.imgsz) if cell not in known]
        seconds = estimate(options.work, cells, rows)
        print(f"{len(cells)} trainings; about {seconds / 60:.0f} minutes on this machine", flush=True)
        for done, cell in enumerate(cells):
            if time.monotonic() > ends:
                print(f"{done} of {len(cells)} trained; the same command goes on")
                break
            row = run_cell(options.work, cell)
            rows.append(row)
            print(f"{cell.name}: {row['seconds']:.0f} s, test {row['test']}", flush=True)
    print_table(rows)


if __name__ == "__main__":
    main()
