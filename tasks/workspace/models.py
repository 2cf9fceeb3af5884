"""The trained model on disk, as train writes it and the later stages read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from keypipe.errors import DatasetError, ModelError
from tasks.workspace.formats import check_format
from tasks.workspace.places import BEST, RECORD

FORMAT = 2
"""Of ``models/train.json``."""

BATCHES = "KEYPIPE_BATCHES"
"""Environment variable of a training that is reproduced: the sizes of its batch, such as ``1:16 12:8``."""

LICENSE = "AGPL-3.0-or-later"  # Ultralytics' own, which its weights inherit

T = TypeVar("T")


class TrainingRecord(msgspec.Struct):
    """What a training run is made of; enough to write it anew on a server that does not know it.

    Attributes:
        fingerprint: DVC's fingerprint of the train stage.
        params: flat parameters, such as ``train.epochs``.
        tags: what identifies data, code and machine.
        raw_version: DVC hash of ``data/raw``.
        counts: images and objects by split, such as ``train images``.
        epochs: metrics of each epoch, by their MLflow names; one that is not a number is left out.
    """

    fingerprint: str
    params: dict[str, str]
    tags: dict[str, str]
    raw_version: str
    counts: dict[str, int]
    epochs: list[dict[str, float]] = []


class Summary(msgspec.Struct):
    """``models/train.json``, by the names that it has there.

    Attributes:
        headline: one line for people.
        run_id: the MLflow run that recorded the training.
        best_epoch: from 1; where ``averaged``, the best single one, which the mean is no worse than.
        warnings: what the training warned of.
        record: what the run is made of.
        best_by: the figure that the best epoch was chosen by.
        best_value: what that figure was; the stage validate measures it again, from the file.
        learns: number of what a training of these data and parameters learns, see ``tasks.engine.training.job``.
        batches: from which epoch on, from 1, the batch had which size, such as ``[[1, 8]]``, where memory has forced
            another one on the training than ``train.batch``.
        averaged: of how many epochs, the last ones, the best weights are the mean; 0: they are the best epoch's.
        format: of this file; 1, without ``learns`` and ``format``, is read as well.
    """

    headline: str
    run_id: str
    best_epoch: int
    warnings: list[str]
    record: TrainingRecord
    best_by: str
    best_value: float
    learns: int = 1
    format: int = 1
    batches: list[tuple[int, int]] = []
    averaged: int = 0


def read_record(root: Path) -> Summary:
    """Read what the training left.

    Raises:
        ModelError: there is no trained model.
        DatasetError: what the training left is damaged, or of a newer keypipe.
    """
    path = root / RECORD
    if not path.exists() or not (root / BEST).exists():
        raise ModelError(f"{root / BEST}: no trained model; run `keypipe run`, or the train stage")
    content = path.read_bytes()
    check_format(content, FORMAT, RECORD.as_posix())
    try:
        return decode_figures(content, Summary)
    except msgspec.ValidationError as error:
        raise DatasetError(f"{RECORD}: damaged ({error}); `dvc checkout` brings the last good one back") from error


def decode_figures(content: bytes, kind: type[T]) -> T:
    """Decode JSON that holds figures; one that was not a number, which JSON calls null, is left out."""
    return msgspec.convert(_without_nulls(msgspec.json.decode(content)), kind)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def read_run_id(root: Path) -> str:
    """Return the id of the MLflow run of the workspace's training; empty where none can be read."""
    try:
        return msgspec.json.decode((root / RECORD).read_bytes(), type=_Identity).run_id
    except (OSError, msgspec.DecodeError):
        return ""


class _Identity(msgspec.Struct):
    run_id: str = ""
