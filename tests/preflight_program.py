"""Sets up a training with or without a pre-flight and tells its state where the first epoch starts.

``python -m tests.preflight_program WORKSPACE SCRATCH OPTIONS`` with OPTIONS as JSON; writes ``SCRATCH/start.json``
(hashes), ``SCRATCH/preflight.json`` (facts) and ``SCRATCH/first.json`` (losses of the batches that were trained).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.hashes import hash_nested


def main(workspace: Path, scratch: Path, options: Mapping[str, Any]) -> None:
    """Train the first batches."""
    import msgspec
    import torch

    from tasks.engine.settings import configure
    from tasks.engine.training import run as engine
    from tasks.engine.training.job import TrainJob
    from tasks.grading.augmentation import StrengthCourse, StrengthSchedule
    from tasks.grading.loss_sigma import SigmaCourse
    from tasks.train import count_instances
    from tasks.workspace.dataset import read_schema, read_split
    from tests.train_program import ARGUMENTS, FULL_STRENGTH

    scratch.mkdir(parents=True)
    configure(scratch, threads=1)
    from tasks.engine.training.trainer import Trainer

    start_epoch, start_batch = Trainer._start_epoch, Trainer._start_batch

    def tell_start(trainer: Any) -> None:
        dataset, loader = trainer.train_loader.dataset, trainer.train_loader
        images = [None if image is None else np.asarray(image) for image in dataset.ims]
        state = {
            "model": trainer.model.state_dict(),
            "strides": [value.stride() for value in trainer.model.parameters()],
            "modes": [module.training for module in trainer.model.modules()],
            "gradients": [None if p.grad is None else p.grad for p in trainer.model.parameters()],
            "criterion": repr(getattr(trainer.model, "criterion", None)),
            "ema": trainer.ema.ema.state_dict(),
            "ema updates": trainer.ema.updates,
            "optimizer": trainer.optimizer.state_dict(),
            "scaler": trainer.scaler.state_dict(),
            "random": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "loader": loader.generator.get_state(),
            "loading": (loader.num_workers, loader.iterator),
            "validation loader": (trainer.test_loader.generator.get_state(), trainer.test_loader.iterator),
            "buffer": dataset.buffer,
            "pool": sorted(dataset._pool),
            "key": dataset._key,
            "images": images,
            "sizes": [dataset.im_hw0, dataset.im_hw],
            "labels": dataset.labels,
            "dataset": sorted(vars(dataset)),
            "arguments": {key: value for key, value in vars(trainer.args).items() if "dir" not in key},
        }
        state["arguments"].pop("project"), state["arguments"].pop("save_dir", None)
        (scratch / "start.json").write_text(json.dumps({key: hash_nested(value) for key, value in state.items()}))
        start_epoch(trainer)

    losses: list[dict[str, float]] = []

    def tell_losses(trainer: Any) -> None:
        if trainer.tloss is not None:
            losses.append({name: float(value) for name, value in trainer.loss_items.items()})
            (scratch / "first.json").write_text(json.dumps(losses))
            raise SystemExit(0)
        start_batch(trainer)

    Trainer._start_epoch, Trainer._start_batch = tell_start, tell_losses

    def on_preflight(found: Any) -> None:
        (scratch / "preflight.json").write_bytes(msgspec.json.encode(found.facts))

    engine.train(
        TrainJob(
            model=options.get("model", "yolov8n-pose.yaml"),
            schema=read_schema(workspace),
            data=workspace.resolve() / "data/yolo/data.yaml",
            arguments={**ARGUMENTS, **options.get("arguments", {})},
            device="cpu",
            workers=options.get("workers", 0),
            cache=options.get("cache", False),
            scratch=scratch.resolve(),
            instances={split: count_instances(read_split(workspace, split)) for split in ("train", "val")},
            loss_sigma=SigmaCourse(0.3, 13),
            best_by="fitness",
            score=lambda _: {},
            augmentation=StrengthCourse(StrengthSchedule.model_validate(options.get("augmentation", FULL_STRENGTH))),
            paste=options.get("paste", 0.0),
            on_epoch=lambda _: None,
            on_preflight=on_preflight if options.get("preflight") else None,
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
