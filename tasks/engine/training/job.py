"""What a training is given, what it tells after every epoch, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import DatasetError
from keypipe.keypoints.rows import Row
from keypipe.keypoints.skeleton import Schema
from tasks.grading.augmentation import StrengthCourse
from tasks.grading.loss_sigma import SigmaCourse
from tasks.grading.preflight import Preflight

LEARNS = 1
"""Number of what a training of given data and parameters learns. It is raised by one whenever code changes that:
another draw, loss, schedule or choice of the best epoch; not for what is only told, checked, or faster with the same
bits."""

STATE_FILE = "state.pt"
FITNESS = "fitness"
"""Ultralytics' own figure of how good an epoch is."""

_NO_METRIC_NAME = str.maketrans({"(": "_", ")": "", "%": "_", "=": "_"})


class Epoch(msgspec.Struct):
    """What one epoch gave.

    Attributes:
        number: from 1.
        total: planned epochs.
        metrics: ``train/…_loss``, ``train/loss_sigma`` (mean over the slots), ``train/augmentation`` (its strength,
            where it is not 1 throughout), ``val/…_loss``, ``lr/…``, ``val_ultralytics/…`` for the engine's own figures,
            and ``val_epoch/…`` for what ``TrainJob.score`` says; of the last epoch of a training that averages also
            ``val_mean/…``, both kinds of figures of the mean.
        best: number of the best epoch so far.
        seconds: wall time of the epoch, validation included.
        state_seconds: what keeping the exact state of the epoch before took.
    """

    number: int
    total: int
    metrics: dict[str, float]
    best: int
    seconds: float
    state_seconds: float


def tell_nobody(_epoch: Epoch) -> None:
    """Take the place of ``TrainJob.on_epoch`` where nobody asks."""


class Start(msgspec.Struct, frozen=True):
    """What a training starts from.

    Attributes:
        weights: sha256 over their state dict (``hash_weights``); empty: random weights.
        keypoints: which are taken over, and how; for people.
        teacher: as ``weights``, of those that it learns from as well; empty: none.
    """

    weights: str = ""
    keypoints: str = ""
    teacher: str = ""


def start_unseen(_start: Start) -> None:
    """Take the place of ``TrainJob.on_start`` where nobody asks."""


class Batch(msgspec.Struct, frozen=True):
    """The size of the training's batch from an epoch on.

    Attributes:
        epoch: the first of that size, from 1.
        size: images.
    """

    epoch: int
    size: int


def take_batches(_batches: Sequence[Batch], _why: str) -> None:
    """Take the place of ``TrainJob.on_batches`` where nobody asks."""


class TrainJob(msgspec.Struct):
    """One training.

    Attributes:
        model: model YAML, weights, or a published name.
        schema: classes and keypoint slots of the dataset.
        data: ``data.yaml`` of the YOLO folder.
        arguments: Ultralytics' train arguments.
        device: such as ``cpu`` or ``0``; None for what is there.
        workers: loader processes; None for 2 on a GPU and none on the CPU.
        cache: whether decoded images are kept: ``auto``, ``ram``, ``disk`` or False.
        scratch: folder that keeps the state between a killed run and the next.
        instances: for each of ``train`` and ``val``, image file name below ``images/<split>`` -> number of objects.
        loss_sigma: sigmas of the pose loss in every epoch.
        best_by: the figure of an epoch that decides which is the best; ``fitness`` or one that ``score`` gives.
        score: gets the predictions for the validation split, gives figures by name.
        new_head: weights for another number of keypoints may be used, with a fresh keypoint head.
        augmentation: how strongly images are changed in every epoch.
        paste: share of the images that get an object of another one, at full strength.
        batches: sizes of the batch where it is not the one of the arguments throughout, as a run that is reproduced
            had them; in the order of their epochs.
        on_batches: gets these, and those that memory has forced on the training so far, whenever it is set up with any;
            and why there is a new one, one line, empty where there is none.
        average_last: over how many epochs the weights are averaged at the end; the mean is the best where no epoch has
            more of ``best_by``. Below two: nothing is averaged.
        on_start: gets what the training starts from, before anything is trained; once more after a kill.
        on_epoch: called after every epoch.
        on_preflight: gets what the first batches of a training that starts showed, or None where a batch does not fit
            into memory; may raise to stop. Without it they are not looked at.
    """

    model: str
    schema: Schema
    data: Path
    arguments: dict[str, Any]
    device: str | int | None
    workers: int | None
    cache: str | bool
    scratch: Path
    instances: dict[str, dict[str, int]]
    loss_sigma: SigmaCourse
    best_by: str
    score: Callable[[Sequence[Row]], Mapping[str, float]]
    new_head: bool = False
    augmentation: StrengthCourse = msgspec.field(default_factory=StrengthCourse)
    paste: float = 0.0
    batches: tuple[Batch, ...] = ()
    on_batches: Callable[[Sequence[Batch], str], None] = take_batches
    average_last: int = 0
    on_start: Callable[[Start], None] = start_unseen
    on_epoch: Callable[[Epoch], None] = tell_nobody
    on_preflight: Callable[[Preflight | None], None] | None = None


class Trained(msgspec.Struct):
    """What a training left in its scratch folder.

    Attributes:
        best: weights of the best epoch.
        last: weights of the last epoch.
        best_epoch: number of the best epoch, from 1.
        folder: where the curves and plots are.
        not_repeatable: why another run with the same data, code and parameters may differ; None where it does not.
        batches: sizes of the batch where it was not the one of the arguments throughout.
        averaged: of how many epochs, the last ones, ``best`` is the mean; 0: it is the best epoch's.
    """

    best: Path
    last: Path
    best_epoch: int
    folder: Path
    not_repeatable: str | None
    batches: tuple[Batch, ...] = ()
    averaged: int = 0


def metric_name(name: str) -> str:
    """Return the name under which one of Ultralytics' figures is recorded.

    ``metrics/mAP50(P)`` -> ``val_ultralytics/pose_mAP50``; losses and learning rates keep theirs.
    """
    kinds = {"(B)": "box", "(P)": "pose"}
    if name.startswith("metrics/"):
        bare = name.removeprefix("metrics/")
        kind = kinds.get(bare[-3:])
        return f"val_ultralytics/{kind}_{bare[:-3]}" if kind else f"val_ultralytics/{bare}"
    return name.translate(_NO_METRIC_NAME)


def check_loaded(split: str, labels: Sequence[Mapping[str, Any]], expected: Mapping[str, int]) -> None:
    """Compare what Ultralytics' loader holds with what was converted.

    Ultralytics drops an image for one bad label row, and removes equal rows, with a warning only.

    Args:
        split: ``train`` or ``val``.
        labels: the loader's labels, one mapping an image with ``im_file`` and ``cls``.
        expected: image file name below ``images/<split>`` -> number of objects.

    Raises:
        DatasetError: an image or an object is missing; names the first few.
    """
    marker = f"/images/{split}/"
    held = {str(label["im_file"]).rpartition(marker)[2]: len(label["cls"]) for label in labels}
    differing = [name for name in expected if held.get(name) != expected[name]]
    if differing:
        shown = "; ".join(
            f"{name}: {expected[name]} converted, " + ("image dropped" if name not in held else f"{held[name]} held")
            for name in differing[:5]
        )
        raise DatasetError(
            f"the loader holds fewer {split} objects than were converted, in {len(differing)} images: {shown};"
            " two equal boxes on one image, or an image that Ultralytics cannot read, are the usual reasons"
        )
