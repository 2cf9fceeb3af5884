"""Workspaces with a history of recorded trainings, for tests of what is done with runs afterwards.

Convert and split are the real stages, DVC, MLflow and git are real. Train and export are stand-ins of a second, since
what is tested is where results go and come from, and validate evaluates answers that are wrong by known amounts.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from PIL import Image

from tests.flows.toy import Api, Toy
from tests.workspace import git, make_workspace, set_params

TRAIN = '''\
"""Stands for a training: its weights follow from data, code and parameters, and from nothing else."""
import hashlib, os, pathlib, random, time
from tasks.tracking import runs as tracking
from tasks.tracking.machine import machine_type
from tasks.workspace import params as read
from tasks.versions import snapshots
from tasks.versions.git_state import git_state
from tasks.versions.raw import raw_version
from tasks.versions.stages.state import stage_fingerprint
from tasks.workspace.dataset import read_split
from tasks.workspace.models import Summary, TrainingRecord
from tasks.workspace.places import MODELS
from tasks.workspace.program import replacing, run_program, say, write_json


def main(root):
    document = read.read_params(root)
    fingerprint = stage_fingerprint(root, "train")
    tags = {tracking.MACHINE: os.environ.get("TOY_MACHINE", machine_type())}
    tags["keypipe.git_commit"] = git_state(root).commit or "none"
    params = {"train.epochs": str(document["train"]["epochs"])}
    record = TrainingRecord(fingerprint, params, tags, raw_version(root) or "", {})
    live = tracking.start_training(root, record)
    live.set_tags(snapshots.take(root, live.run_id, fingerprint))
    drift = os.environ.get("TOY_DRIFT", "")
    with tracking.ending(live):
        if os.environ.get("TOY_FAULT") == "train":
            raise ArithmeticError("the stand-in was told to fail")
        if sleep := float(os.environ.get("TOY_SLEEP_TRAIN", "0")):
            (root / ".keypipe/asleep-train").write_text(str(os.getpid()))
            time.sleep(sleep)
        seed = f"{read_split(root, 'train')} {document['seed']} {dict(document['train'])} {drift}"
        draw = random.Random(hashlib.sha256(seed.encode()).hexdigest())
        headline = f"{document['train']['epochs']} epochs"
        with replacing(root, MODELS) as models:
            models.mkdir()
            (models / "best.pt").write_bytes(draw.randbytes(200_000))
            (models / "last.pt").write_bytes(draw.randbytes(100_000))
            write_json(models / "train.json", Summary(headline, live.run_id, 1, [], record, "oks_AP", 0.5))
        live.log_files(root / MODELS, "models")
        live.set_tags({tracking.HEADLINE: headline})
    say(f"train: {headline}")


if __name__ == "__main__":
    run_program("train", main)
'''

VALIDATE = '''\
"""Stands for a validation: the answers are the truth, moved by so many pixels as the training had few epochs."""
import os, pathlib
import numpy as np
from keypipe.evaluation.evaluation import Detection, evaluate, flatten_figures
from tasks.workspace import params as read
from tasks.tracking import runs as tracking
from tasks.workspace.dataset import read_splits
from tasks.workspace.program import replacing, run_program, write_json
from tasks.pages.plots import PLOTS


def main(root):
    document = read.read_params(root)
    off = 8 / int(document["train"]["epochs"]) + float(os.environ.get("TOY_DRIFT", "0"))
    splits, metrics = {}, {}
    with tracking.child_run(root, tracking.find_run(root), "validate") as live:
        for split in ("val", "test"):
            truth = read_splits(root)[split]
            found = []
            for one in truth.annotations:
                points = np.array(one.keypoints, float).reshape(-1, 3)
                points[:, 0] += off * (1 + np.arange(len(points)) / len(points))
                points[:, 2] = 0.9
                found.append(Detection(one.image_id, one.category_id, 0.9, one.bbox, points.ravel().tolist()))
            names = {category.name: np.full(len(category.keypoints), 0.1) for category in truth.categories}
            splits[split] = evaluate(truth, found, names)
            metrics[split] = {"coco": flatten_figures(splits[split])}
        headline = f"OKS AP50 {splits['val'].oks['AP50']:.3f}"
        with replacing(root, pathlib.Path("reports/validate")) as report:
            report.mkdir()
            write_json(report / "report.json", {"headline": headline, "sides": splits})
        with replacing(root, pathlib.Path("metrics/validate.json")) as file:
            write_json(file, metrics)
        for path in PLOTS:
            with replacing(root, path) as file:
                file.write_text("x\\n1\\n")
        live.log_files(root / "reports/validate", "reports/validate")


if __name__ == "__main__":
    run_program("validate", main)
'''

EXPORT = '''\
"""Stands for an export."""
import pathlib
from tasks.workspace.program import replacing, run_program, write_json


def main(root):
    with replacing(root, pathlib.Path("exports")) as exports:
        exports.mkdir()
        (exports / "model.onnx").write_bytes((root / "models/best.pt").read_bytes()[::-1])
    with replacing(root, pathlib.Path("reports/export")) as report:
        report.mkdir()
        write_json(report / "report.json", {"headline": "exported"})
    with replacing(root, pathlib.Path("metrics/export.json")) as file:
        write_json(file, {"onnx": {"size_mb": 0.2}})


if __name__ == "__main__":
    run_program("export", main)
'''


def make_recorded(root: Path, n_images: int = 16) -> Path:
    """Make a workspace of the real code with stand-ins for the stages that need torch; nothing has run."""
    make_workspace(root, n_images=n_images)
    for stage, program in {"train": TRAIN, "validate": VALIDATE, "export": EXPORT}.items():
        (root / "tasks" / f"{stage}.py").write_text(program)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "stand-ins")
    return root


def copy_recorded(template: Path, root: Path, api: Api) -> Toy:
    """Copy a workspace; its MLflow database names absolute paths, which are turned to the copy."""
    shutil.copytree(template, root, symlinks=True)
    with sqlite3.connect(root / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(template), str(root)))
    return Toy(root, api)


def edit_data(root: Path) -> dict[str, Any]:
    """Move a keypoint of one image, remove an image and take another one anew; returns their names."""
    names = sorted((root / "data/raw").rglob("*.json"))
    labelled = [path for path in names if json.loads(path.read_text())["shapes"]]
    relabelled, removed, copied = labelled[0], labelled[1], labelled[2]
    document = json.loads(relabelled.read_text())
    shape = next(shape for shape in document["shapes"] if shape["shape_type"] == "point")
    shape["points"][0][0] += 3.0
    moved = shape["label"]
    relabelled.write_text(json.dumps(document))
    image = removed.with_name(json.loads(removed.read_text())["imagePath"])
    removed.unlink()
    image.unlink()
    new = copied.with_name("new.json")
    document = json.loads(copied.read_text())
    source = copied.with_name(document["imagePath"])
    Image.open(source).rotate(180).save(new.with_suffix(".jpg"))
    size = (document["imageWidth"], document["imageHeight"])
    for shape in document["shapes"]:
        shape["points"] = [[size[0] - x, size[1] - y] for x, y in shape["points"]]
    new.write_text(json.dumps(document | {"imagePath": "new.jpg", "imageData": None}))
    folder = root / "data"
    return {
        "relabelled": relabelled.relative_to(folder).with_suffix(".jpg").as_posix(),
        "keypoint": moved,
        "removed": image.relative_to(folder).as_posix(),
        "added": new.with_suffix(".jpg").relative_to(folder).as_posix(),
    }


def set_epochs(root: Path, epochs: int) -> None:
    """Set the number of epochs, on which the stand-ins' results depend."""
    set_params(root, **{"train.epochs": epochs})
