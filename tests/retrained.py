"""A workspace that can be retrained in seconds, whose models are as good as what they were trained on.

Every image is noise and shows an animal at about the same place. The stand-in of a training learns where keypoints are
on average, and the exported ONNX model says just that of every image: so honest labels make a good model, and exchanged
ones a bad one. All else is real: convert, split, DVC, MLflow, git, onnxruntime, the gate.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keypipe.splits.manifest import read_manifest
from tests.conftest import point, rectangle
from tests.flows.recorded import TRAIN, VALIDATE
from tests.imports import ROOT
from tests.workspace import git, make_workspace, set_params

PLACES = {"nose": (14.0, 30.0), "left_ear": (22.0, 16.0), "right_ear": (22.0, 44.0), "tail": (50.0, 30.0)}
BOX = (8.0, 10.0, 56.0, 50.0)
SIDE_PX = 64

EXPORT = '''\
"""Stands for an export: a model that sees keypoints where they are on average in the train split."""
import os, pathlib
import numpy as np
from tasks.constant_model import metadata_of, raw_output, write_constant_model
from tasks.workspace.dataset import read_schema, read_split
from tasks.workspace import params as read
from tasks.workspace.program import replacing, run_program, write_json


def main(root):
    schema, truth = read_schema(root), read_split(root, "train")
    off = float(read.read_params(root)["train"].get("hsv_h", 0.0)) * 100
    (category,) = truth.categories
    rows = np.array([item.keypoints for item in truth.annotations], float).reshape(len(truth.annotations), -1, 3)
    means = rows[..., :2].mean(0) + off
    boxes = np.array([item.bbox for item in truth.annotations], float).mean(0)
    box = [boxes[0] + boxes[2] / 2, boxes[1] + boxes[3] / 2, boxes[2], boxes[3]]
    points = {name: (x, y, 0.9) for name, (x, y) in zip(category.keypoints, means)}
    output = raw_output(schema, [(category.name, 0.9, box, points)])
    with replacing(root, pathlib.Path("exports")) as exports:
        exports.mkdir()
        write_constant_model(exports / "model.onnx", output, metadata_of(schema))
        timing = {"median_ms": 1.5, "p95_ms": 2.0, "runs": 3}
        measured = [{"setting": {"batch": 1, "threads": 1}, "timings": {"onnx": timing}}]
        write_json(exports / "latency.json", {"measured": measured})
    with replacing(root, pathlib.Path("reports/export")) as report:
        report.mkdir()
        write_json(report / "report.json", {"headline": "exported", "proofs": {"onnx": {}}, "faults": []})
    with replacing(root, pathlib.Path("metrics/export.json")) as file:
        write_json(file, {"onnx": {"size_mb": 0.2}})


if __name__ == "__main__":
    run_program("export", main)
'''

SETTINGS = {
    "schema.classes": {"cow": {"keypoints": list(PLACES), "skeleton": [["nose", "tail"]], "pairs": "auto"}},
    "split.train": 0.3,
    "split.val": 0.1,
    "split.test": 0.6,
    "split.near_duplicates": False,
    "retrain.changed_images": 10,
    "retrain.changed_share": None,
    "retrain.gate.margin_ap": 0.1,
    "retrain.gate.margin_close": 0.1,
}


def make_retrainable(root: Path, n_images: int = 120, **params: Any) -> Path:
    """Make the workspace, committed to git; nothing has run in it."""
    make_workspace(root, n_images=0, **(SETTINGS | params))
    for stage, program in {"train": TRAIN, "validate": VALIDATE, "export": EXPORT}.items():
        path = root / "tasks" / f"{stage}.py"
        # What the stage's module offers stays, for flows that run on the workspace's own code.
        path.write_text(path.read_text().partition("\nif __name__ ==")[0] + "\n\n" + program)
    shutil.copy2(ROOT / "tests/onnx_files.py", root / "tasks/constant_model.py")
    add_images(root, range(n_images))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "stand-ins")
    return root


def add_images(root: Path, numbers: Iterable[int], prefix: str = "image") -> list[Path]:
    """Write annotated images of noise, the same for the same numbers; returns the JSON files."""
    return write_images(root / "data/raw", numbers, prefix)


def write_images(folder: Path, numbers: Iterable[int], prefix: str = "image") -> list[Path]:
    """Write them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for number in numbers:
        draw = np.random.default_rng([number, len(prefix)])
        pixels = draw.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        path = folder / f"{prefix}{number:03d}.json"
        Image.fromarray(pixels).save(path.with_suffix(".png"))
        shapes = [rectangle("cow", BOX)]
        for name, (x, y) in PLACES.items():
            shapes.append(point(name, *(float(v) for v in draw.normal((x, y), 0.7).round(2))))
        document = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": path.with_suffix(".png").name,
            "imageData": None,
            "imageHeight": SIDE_PX,
            "imageWidth": SIDE_PX,
        }
        path.write_text(json.dumps(document))
        made.append(path)
    return made


def edit(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the shapes of a JSON file."""
    document = json.loads(path.read_text())
    change(document["shapes"])
    path.write_text(json.dumps(document))


def exchange_ears(shapes: list[dict[str, Any]]) -> None:
    """Label the left ear as the right one, and the other way round."""
    other = {"left_ear": "right_ear", "right_ear": "left_ear"}
    for shape in shapes:
        shape["label"] = other.get(shape["label"], shape["label"])


def move_a_little(shapes: list[dict[str, Any]]) -> None:
    """Move the nose by a fifth of a pixel."""
    for shape in shapes:
        if shape["label"] == "nose":
            shape["points"][0][0] += 0.2


def labels_of(root: Path, split: str) -> list[Path]:
    """Return the JSON files of the images of a split."""
    lines = read_manifest(root / "data/dataset/manifest.csv").lines
    return [(root / "data" / line.image).with_suffix(".json") for line in lines if line.split == split]


def spoil(root: Path, share: float = 0.5) -> int:
    """Exchange the ears on a share of the train images; returns on how many."""
    chosen = labels_of(root, "train")
    chosen = chosen[: round(share * len(chosen))]
    for path in chosen:
        edit(path, exchange_ears)
    return len(chosen)


def set_gate(root: Path, **rules: Any) -> None:
    """Set rules of the gate, and commit them."""
    set_params(root, **{f"retrain.gate.{name}": value for name, value in rules.items()})
    git(root, "commit", "--quiet", "--all", "--message", "other rules")
