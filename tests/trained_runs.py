"""Trainings as they are recorded, with reports and an export, without anything being trained."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from keypipe.demo.scene import SCHEMA as DEMO
from keypipe.keypoints.skeleton import parse_schema
from tasks.tracking import runs as tracking
from tasks.workspace.models import FORMAT, Summary, TrainingRecord
from tasks.workspace.places import ANNOTATIONS, BEST, EXPORTS, MODELS, RECORD, report_folder
from tasks.workspace.program import write_json
from tests.onnx_files import metadata_of, raw_output, write_constant_model

SCHEMA = parse_schema({"classes": DEMO["classes"]})
SEEN = ("cow", 0.9, [32.0, 32.0, 20.0, 10.0], dict.fromkeys(SCHEMA.slots, (30.0, 30.0, 0.8)))
LOSSES = ("box", "cls", "dfl", "kobj", "pose")


def record_training(root: Path, epochs: int = 12, rate: float = 0.15, data: str = "0a1b2c3d4e5f.dir") -> str:
    """Record a training whose losses fall and whose figures rise; returns its run's id.

    Args:
        root: the workspace.
        epochs: how many.
        rate: how fast it learns, for each epoch.
        data: name of its raw data.
    """
    draw = random.Random(epochs)
    fingerprint = f"{epochs:02d}{int(rate * 1000):04d}".ljust(32, "f")
    params = {"train.model": "yolov8n-pose.yaml", "train.epochs": str(epochs), "train.lr0": str(rate / 10), "seed": "0"}
    tags = {"keypipe.git_commit": "1f2e3d4c" * 5, "keypipe.git_dirty": "false", tracking.START: "random weights"}
    tags |= {"mlflow.source.name": "python -m tasks.train", "mlflow.source.type": "LOCAL"}
    counts = {"train images": 80, "train objects": 104}
    record = TrainingRecord(fingerprint, params, tags, data, counts)
    live = tracking.start_training(root, record)
    with tracking.ending(live):
        for epoch in range(1, epochs + 1):
            left = math.exp(-rate * epoch)
            names = [f"{part}/{loss}_loss" for loss in LOSSES for part in ("train", "val")]
            figures = {name: 4 * left + draw.random() / 5 for name in names}
            record.epochs.append(figures | {"val_epoch/oks_AP": 0.8 * (1 - left), "lr/pg0": 0.01 * left})
            live.log_metrics(record.epochs[-1], epoch)
        headline = f"{epochs} epochs, best {epochs} by oks_AP {0.8 * (1 - left):.3f} on val"
        (root / MODELS).mkdir(exist_ok=True)
        (root / BEST).write_bytes(fingerprint.encode())
        live.relax()
        write_json(root / RECORD, Summary(headline, live.run_id, epochs, [], record, "oks_AP", 0.5, 1, FORMAT))
        live.set_tags({tracking.HEADLINE: headline})
        live.log_files(root / MODELS, "models")
    return live.run_id


def record_validation(root: Path, value: float = 0.6) -> None:
    """Record what was measured of the workspace's training: more than a hundred figures, and a page."""
    for split, images in (("val", 12), ("test", 20)):
        (root / ANNOTATIONS).mkdir(parents=True, exist_ok=True)
        held = {"images": [{"id": id_} for id_ in range(images)], "annotations": [{}] * images}
        (root / ANNOTATIONS / f"{split}.json").write_text(json.dumps(held))
    figures = {f"{split}_coco/oks_AP": value for split in ("val", "test")}
    for name in ("oks_AP50", "within_0.1_diagonals", "detected"):
        figures |= {f"{split}_coco/{name}": value + 0.1 for split in ("val", "test")}
    figures |= {f"test_interval/oks_AP_{end}": value + off for end, off in (("low", -0.08), ("high", 0.07))}
    figures |= {f"{split}_ultralytics/figure_{number}": 0.5 for split in ("val", "test") for number in range(50)}
    page = _write_page(root, "validate", f"OKS AP {value:.3f} on test")
    parent = tracking.find_run(root)
    with tracking.child_run(root, parent, "validate") as live:
        live.log_metrics(figures)
        parent.log_metrics(figures)
        live.log_files(page, "reports/validate")


def record_export(root: Path) -> None:
    """Record an export of the workspace's training, whose network is a real, small one."""
    (root / EXPORTS).mkdir(exist_ok=True)
    model = write_constant_model(root / EXPORTS / "model.onnx", raw_output(SCHEMA, [SEEN]), metadata_of(SCHEMA))
    page = _write_page(root, "export", "ONNX; at most 0.0001 px from PyTorch")
    parent = tracking.find_run(root)
    with tracking.child_run(root, parent, "export") as live:
        figures = {f"export_onnx/figure_{number}": 1.0 for number in range(16)}
        parent.log_metrics(figures)
        live.log_metrics(figures)
        live.log_files(page, "reports/export")
        live.log_onnx_model(model, 64, 64)


def _write_page(root: Path, stage: str, headline: str) -> Path:
    folder = root / report_folder(stage)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "training.html"):
        (folder / name).write_text(f"<!doctype html><title>{stage}</title><h1>{headline}</h1>")
    write_json(folder / "report.json", {"headline": headline})
    return folder
