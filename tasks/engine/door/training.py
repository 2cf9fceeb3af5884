"""What train asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tasks.engine.training import run
from tasks.engine.training.job import FITNESS, LEARNS, Batch, Epoch, Start, Trained, TrainJob

__all__ = ["FITNESS", "LEARNS", "Batch", "Epoch", "Start", "TrainJob", "Trained", "TrainingEngine", "engine"]


class TrainingEngine(Protocol):
    """Trains a pose model.

    Attributes:
        RESERVED: train arguments that keypipe sets, and why a user may not.
    """

    RESERVED: dict[str, str]

    def read_train_arguments(self) -> dict[str, Any]:
        """Return all train arguments with their defaults; before ``configure``, and quickly."""
        ...

    def configure(self, root: Path, threads: int | None = None) -> None:
        """Set the engine up for a workspace, before it trains; ``threads`` is None for every core."""
        ...

    def train(self, job: TrainJob) -> Trained:
        """Train, or go on with a killed training from the end of its last whole epoch.

        Raises:
            PoseError: arguments, weights or the dataset cannot be used, the loss diverges, or memory ends though the
                batch was halved.
        """
        ...

    def read_reached_epoch(self, scratch: Path) -> int:
        """Return the number of whole epochs that a killed training in this folder goes on from; 0 without one."""
        ...

    def write_checkpoint(self, source: Path, target: Path, description: Mapping[str, Any]) -> None:
        """Copy weights and let them carry what keypipe knows of them: schema, license and version."""
        ...


def engine() -> TrainingEngine:
    """Return the engine that trains."""
    return run
