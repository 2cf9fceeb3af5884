"""Trains by the engine alone, with figures that are given, and kills itself where it is told to.

``python -m tests.train_program WORKSPACE SCRATCH OPTIONS`` with OPTIONS as JSON; writes ``SCRATCH/figures.json``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ARGUMENTS: dict[str, Any] = {
    "epochs": 6,
    "imgsz": 96,
    "batch": 4,
    "nbs": 16,  # an optimizer step every 4 batches, 6 of which make an epoch
    "warmup_epochs": 1.5,
    "optimizer": "AdamW",
    "lr0": 0.003,
    "mosaic": 1.0,
    "mixup": 0.2,
    "multi_scale": 0.34,
    "close_mosaic": 2,
    "patience": 2,
    "plots": False,
    "seed": 3,
}
LOSS_SIGMA = {"from": 0.3, "to": 0.1, "over": 0.75}
FULL_STRENGTH = {"from": 1.0, "to": 1.0}
FIGURES = [0.1, 0.2, 0.4, 0.3, 0.3, 0.2]
"""What each epoch is said to be worth: patience ends the training after the fifth."""


def main(workspace: Path, scratch: Path, options: Mapping[str, Any]) -> None:
    """Train, or go on."""
    from tasks.engine.settings import configure
    from tasks.engine.training import run as engine
    from tasks.engine.training.job import Epoch, TrainJob
    from tasks.grading.augmentation import StrengthCourse, StrengthSchedule
    from tasks.grading.loss_sigma import SigmaCourse, SigmaSchedule
    from tasks.train import count_instances
    from tasks.workspace.dataset import read_schema, read_split

    scratch.mkdir(parents=True, exist_ok=True)
    configure(scratch, threads=1)
    record = scratch / "figures.json"
    epochs: list[dict[str, float]] = json.loads(record.read_text()) if record.exists() else []
    reached = engine.read_reached_epoch(scratch)
    scored = [reached]

    def score(predictions: Sequence[Any]) -> dict[str, float]:
        scored[0] += 1
        if options.get("kill_while_scoring") == scored[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        (scratch / f"rows-{scored[0]}.json").write_text(json.dumps(list(predictions)))
        return {"oks_AP": options.get("figures", FIGURES)[scored[0] - 1]}

    def on_epoch(epoch: Epoch) -> None:
        if options.get("kill_before_record") == epoch.number:
            os.kill(os.getpid(), signal.SIGKILL)
        epochs[epoch.number - 1 :] = [epoch.metrics]
        record.write_text(json.dumps(epochs))
        if options.get("kill_before_state") == epoch.number:
            os.kill(os.getpid(), signal.SIGKILL)

    job = TrainJob(
        model=options.get("model", "yolov8n-pose.yaml"),
        schema=read_schema(workspace),
        data=workspace.resolve() / "data/yolo/data.yaml",
        arguments={**ARGUMENTS, **options.get("arguments", {})},
        device="cpu",
        workers=options.get("workers"),
        cache=options.get("cache", False),
        scratch=scratch.resolve(),
        instances={split: count_instances(read_split(workspace, split)) for split in ("train", "val")},
        loss_sigma=SigmaCourse(SigmaSchedule.model_validate(options.get("loss_sigma", LOSS_SIGMA)), 13),
        best_by="oks_AP",
        score=score,
        average_last=options.get("average_last", 0),
        augmentation=StrengthCourse(StrengthSchedule.model_validate(options.get("augmentation", FULL_STRENGTH))),
        on_epoch=on_epoch,
    )
    trained = engine.train(job)
    averaged = {"averaged": trained.averaged} if trained.averaged else {}
    (scratch / "trained.json").write_text(
        json.dumps({"best_epoch": trained.best_epoch, "reached": reached, **averaged})
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
