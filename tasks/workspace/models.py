"""The trained model on disk, as train writes it and the later stages read it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from keypipe.errors import ModelError
from tasks.tracking import runs as tracking
from tasks.workspace.program import say

MODELS = Path("models")
BEST = MODELS / "best.pt"
RECORD = MODELS / "train.json"
LICENSE = "AGPL-3.0-or-later"  # Ultralytics' own, which its weights inherit


class Summary(msgspec.Struct):
    """``models/train.json``.

    Attributes:
        headline: one line for people.
        run_id: the MLflow run that recorded the training.
        best_epoch: from 1.
        warnings: what the training warned of.
        record: what the run is made of.
        best_by: the figure that the best epoch was chosen by.
        best_value: what that figure was; the stage validate measures it again, from the file.
    """

    headline: str
    run_id: str
    best_epoch: int
    warnings: list[str]
    record: tracking.TrainingRecord
    best_by: str
    best_value: float


def read_record(root: Path) -> Summary:
    """Read what the training left.

    Raises:
        ModelError: there is no trained model.
    """
    path = root / RECORD
    if not path.exists() or not (root / BEST).exists():
        raise ModelError(f"{root / BEST}: no trained model; run `keypipe run`, or the train stage")
    return msgspec.json.decode(path.read_bytes(), type=Summary)


def find_run(root: Path) -> tracking.Run:
    """Find the MLflow run of the trained model, writing it anew where the server does not know it."""
    run, restored = tracking.ensure_training(root, read_record(root).record, root / MODELS)
    if restored:
        say(f"MLflow at {tracking.tracking_uri(root)} did not know this training: restored as run {run.run_id}")
    return run
