"""One training of one recipe without one fold, and what its model finds on that fold."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.few_images.recipes import EPOCHS, MIRRORED, RECIPES, describe
from benchmarks.loss_sigma import measure, predict, read_truth
from benchmarks.trainings import PROTOCOLS, prepare, run_quietly, set_training
from benchmarks.workspace import environment, make_workspace, stage
from tasks.workspace.places import ANNOTATIONS, COCO, DATA_YAML, DERIVED, FOLDS, RAW

N_FOLDS = 5
SPLIT = {"train": 0.8, "val": 0.1, "test": 0.1, "folds": N_FOLDS}
"""Train and val are dealt into folds; what split calls test, which no fold holds, chooses the best epoch of each."""

RESULTS = "few_images.jsonl"


class Cell(NamedTuple):
    """One training: ``fold`` is held out, from 1."""

    data: str
    steps: int
    seed: int
    fold: int
    recipe: str

    @property
    def name(self) -> str:
        """Of its files."""
        return "-".join(map(str, self)).replace(" ", "-")


def list_cells(
    data: Sequence[str], steps: Sequence[int], seeds: Sequence[int], folds: Sequence[int], recipes: Sequence[str]
) -> Iterator[Cell]:
    """Yield the trainings so that recipes can be compared as early as possible: fold by fold, all recipes of each."""
    for number in steps:
        for seed in seeds:
            for name in data:
                for fold in folds:
                    for recipe in recipes:
                        if recipe not in MIRRORED or PROTOCOLS[name].arguments["fliplr"]:
                            yield Cell(name, number, seed, fold, recipe)


def read_rows(work: Path) -> dict[Cell, dict[str, Any]]:
    """Return what was trained with the recipes as they are now; a line that was cut off by a kill is none."""
    path = work / RESULTS
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    rows = [json.loads(line) for line in whole.splitlines()]
    return {Cell(*row["cell"]): row for row in rows if row["parameters"] == describe(Cell(*row["cell"]).recipe)}


def open_source(work: Path, data: str) -> Path:
    """Return the workspace whose data are converted and dealt into folds, which is made once."""
    source = work / PROTOCOLS[data].images
    if not source.exists():
        partial = source.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        prepare(partial, PROTOCOLS[data], SPLIT)
        partial.rename(source)
    return source


def open_workspace(work: Path, cell: Cell) -> Path:
    """Return the workspace of a training, which shares the images; one that a stop has left is gone on with."""
    source, root = open_source(work, cell.data), work / cell.name
    if not root.exists():
        partial = work / f"{cell.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        make_workspace(partial, PROTOCOLS[cell.data].schema)
        (partial / "local.yaml").write_text("device: cpu\nthreads: 1\n", encoding="utf-8")
        (partial / ANNOTATIONS).mkdir(parents=True)
        fold = source / FOLDS / str(cell.fold) / "annotations"
        for split, path in (("train", fold / "train.json"), ("val", source / ANNOTATIONS / "test.json"),
                            ("test", fold / "val.json")):  # fmt: skip
            shutil.copy2(path, partial / ANNOTATIONS / f"{split}.json")
        shutil.copy2(source / DATA_YAML, partial / DATA_YAML)
        for shared in (RAW, DERIVED, COCO.parent):
            if (source / shared).exists():
                (partial / shared).parent.mkdir(parents=True, exist_ok=True)
                (partial / shared).symlink_to((source / shared).resolve(), target_is_directory=True)
        partial.rename(root)
    return root


def count_images(root: Path, split: str) -> int:
    """Count the images of a split of a workspace."""
    return len(json.loads((root / ANNOTATIONS / f"{split}.json").read_text(encoding="utf-8"))["images"])


def train(root: Path, cell: Cell, epochs: int) -> tuple[float, float]:
    """Train in a workspace.

    Returns:
        How many seconds the epochs took, and the processor time of the whole stage, seconds.
    """
    arguments = {**PROTOCOLS[cell.data].arguments, "epochs": epochs}
    set_training(root, cell.seed, arguments, **RECIPES[cell.recipe])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_quietly(stage("train"), root, environment() | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(json.loads((root / "models/timings.json").read_text(encoding="utf-8"))["seconds"]), processor


def count_epochs(cell: Cell, images: int) -> int:
    """Return how many epochs the recipe has: as many as make the steps with the protocol's batch, or its share."""
    epochs = cell.steps / math.ceil(images / PROTOCOLS[cell.data].arguments["batch"])
    return max(1, round(epochs * EPOCHS.get(cell.recipe, 1.0)))


def weights_of(work: Path, cell: Cell) -> Path:
    """Return where the best weights of a training are kept that is looked at in another way as well."""
    return work / "weights" / f"{cell.name}.pt"


def run_cell(work: Path, cell: Cell) -> dict[str, Any]:
    """Train and measure; of a mirrored recipe only measure, where the weights are there."""
    root = open_workspace(work, cell)
    images = count_images(root, "train")
    trained = cell._replace(recipe=MIRRORED.get(cell.recipe, cell.recipe))
    epochs, weights = count_epochs(trained, images), weights_of(work, trained)
    seconds = processor = 0.0
    best_epoch: int | None = None
    learns: int | None = None
    if cell == trained or not weights.exists():
        seconds, processor = train(root, trained, epochs)
        record = json.loads((root / "models/train.json").read_text(encoding="utf-8"))
        best_epoch, learns = record["best_epoch"], record["learns"]
        if trained.recipe in MIRRORED.values():
            weights.parent.mkdir(exist_ok=True)
            shutil.copy2(root / "models/best.pt", weights)
    started = time.process_time()
    best = root / "models/best.pt" if cell == trained else weights
    truth, detections = read_truth(root), predict(root, best, work, mirror=cell != trained)
    predicting = time.process_time() - started
    found = work / "found"
    found.mkdir(exist_ok=True)
    (found / f"{cell.name}.json").write_bytes(msgspec.json.encode(detections))
    shutil.copy2(root / ANNOTATIONS / "test.json", found / f"{PROTOCOLS[cell.data].images}-{cell.fold}.truth.json")
    batch = RECIPES[trained.recipe].get("batch", PROTOCOLS[cell.data].arguments["batch"])
    row = {
        "cell": list(cell),
        "parameters": describe(cell.recipe),
        "learns": learns,
        "images": images,
        "held_out": len(truth.images),
        "epochs": epochs,
        "steps": epochs * math.ceil(images / batch),
        "seconds": seconds,
        "processor_seconds": processor,
        "predicting_seconds": predicting,
        "best_epoch": best_epoch,
        **measure(truth, detections),
    }
    with (work / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    shutil.rmtree(root)
    return row


def estimate(work: Path, cells: Sequence[Cell], rows: dict[Cell, dict[str, Any]]) -> float:
    """Return how many seconds the trainings will take: by those of the same data, else by an epoch of the first."""
    total = 0.0
    cells = [cell for cell in cells if cell.recipe not in MIRRORED]
    rows = {cell: row for cell, row in rows.items() if cell.recipe not in MIRRORED}
    for name in dict.fromkeys(cell.data for cell in cells):
        mine = [cell for cell in cells if cell.data == name]
        known = [row for cell, row in rows.items() if cell.data == name]
        if known:
            rate = sum(row["seconds"] for row in known) / sum(row["steps"] for row in known)
        else:
            root = open_workspace(work, mine[0])
            steps = math.ceil(count_images(root, "train") / PROTOCOLS[name].arguments["batch"])
            rate = train(root, mine[0], 1)[0] / steps
            shutil.rmtree(root)
        total += rate * sum(cell.steps for cell in mine)
    return total


def lower_priority() -> None:
    """Give way to everything else on the machine; the figures depend on steps, and not on time."""
    os.nice(19 - os.nice(0))
