"""The trained model on disk, as train writes it and the later stages read it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from keypipe.errors import ModelError
from tasks.workspace.places import BEST, RECORD

LICENSE = "AGPL-3.0-or-later"  # Ultralytics' own, which its weights inherit


class TrainingRecord(msgspec.Struct):
    """What a training run is made of; enough to write it anew on a server that does not know it.

    Attributes:
        fingerprint: DVC's fingerprint of the train stage.
        params: flat parameters, such as ``train.epochs``.
        tags: what identifies data, code and machine.
        raw_version: DVC hash of ``data/raw``.
        counts: images and objects by side, such as ``train images``.
        epochs: metrics of each epoch, by their MLflow names.
    """

    fingerprint: str
    params: dict[str, str]
    tags: dict[str, str]
    raw_version: str
    counts: dict[str, int]
    epochs: list[dict[str, float]] = []


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
    record: TrainingRecord
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
