"""The pre-flight of a training: what its first batches showed, assessed and told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.errors import ConfigError, DatasetError, ModelError, PoseError
from tasks.workspace.program import format_seconds

_SKIP = "or skip the check with train.preflight: false"
_TINY_PX = 8.0  # the finest anchors are 8 px apart, and augmentation drops boxes below 2 px
_MUST_BE_POSITIVE = {"kobj_loss": "kobj", "pose_loss": "pose"}


class AugmentedImage(msgspec.Struct):
    """An image of a batch, as the network gets it.

    Attributes:
        name: the file it was made from (a mosaic: the first of them), below ``images/train``.
        image_rgb: uint8 (height, width, 3).
        classes: class id of each object.
        boxes_xyxy: float64 (n_objects, 4), left, top, right, bottom, pixels.
        keypoints: float64 (n_objects, n_slots, 3): x and y in pixels, visibility 0, 1 or 2.
        note: what else is to be said of it.
    """

    name: str
    image_rgb: NDArray[np.uint8]
    classes: list[int]
    boxes_xyxy: NDArray[np.float64]
    keypoints: NDArray[np.float64]
    note: str = ""


class Survivors(msgspec.Struct):
    """How much of what images hold reaches the network.

    Attributes:
        before: on the images that were drawn, each counted as often as it was used.
        after: on the augmented images.
    """

    before: int = 0
    after: int = 0

    @property
    def lost_share(self) -> float:
        """Share that augmentation loses, 0 to 1."""
        return 1 - self.after / self.before if self.before else 0.0


class Later(msgspec.Struct):
    """What a later epoch makes of the same images, where the strength of the augmentation changes.

    Attributes:
        epoch: the first, from 1, that is as strong as the last.
        strength: of its augmentation, 0 to 1.
        objects: how many objects augmentation leaves then.
        keypoints: how many labelled keypoints augmentation leaves then.
    """

    epoch: int
    strength: float
    objects: Survivors
    keypoints: Survivors


class Facts(msgspec.Struct):
    """``models/preflight.json``: what the first batches of a training are; the same in every run.

    Attributes:
        batch: the batch that was put through the network, from 1.
        losses: of that batch, as a training logs them: gains included.
        finite_gradients: whether all gradients are finite.
        finite_weights: whether all weights that the training starts from are.
        mixed_precision: whether the network computes in half precision.
        batches: drawn for the counts below.
        images: augmented images in them.
        objects: how many objects augmentation leaves.
        keypoints: how many labelled keypoints augmentation leaves.
        bare_objects: objects on the augmented images without any labelled keypoint.
        largest_object_px: longest side of any object before augmentation, pixels of the resized image.
        imgsz: input size, pixels.
        later: how it will be in later epochs; None where the strength of the augmentation stays.
    """

    batch: int
    losses: dict[str, float]
    finite_gradients: bool
    finite_weights: bool
    mixed_precision: bool
    batches: int
    images: int
    objects: Survivors
    keypoints: Survivors
    bare_objects: int
    largest_object_px: float
    imgsz: int
    later: Later | None = None


class Times(msgspec.Struct):
    """What the pre-flight took, and how long it expects the training to take, seconds.

    Attributes:
        seconds: of the pre-flight itself.
        step_seconds: forward and backward pass of a batch.
        load_seconds: loading and augmenting a batch in one process.
        epoch_seconds: estimate for an epoch with its validation.
        total_seconds: estimate for all planned epochs.
        epochs: planned epochs.
    """

    seconds: float
    step_seconds: float
    load_seconds: float
    epoch_seconds: float
    total_seconds: float
    epochs: int


class Preflight(msgspec.Struct):
    """What the engine saw: facts, times, the batch itself, and how a later epoch changes the same images."""

    facts: Facts
    times: Times
    batch: list[AugmentedImage]
    later: list[AugmentedImage] = []


def assess(facts: Facts, gains: Mapping[str, Any]) -> None:
    """Refuse a training that would learn nothing.

    Args:
        facts: of its first batches.
        gains: the training's arguments; a loss whose gain is 0 may be 0.

    Raises:
        PoseError: a loss or a gradient is not finite, or no object or no keypoint reaches the loss.
    """
    broken = [name for name, value in facts.losses.items() if not math.isfinite(value)]
    if broken or not facts.finite_gradients:
        raise _explain_not_finite(facts, broken)
    for loss, gain in _MUST_BE_POSITIVE.items():
        if gains.get(gain, 1) != 0 and facts.losses.get(loss) == 0:
            raise _explain_zero(facts, loss)


def _explain_not_finite(facts: Facts, broken: Sequence[str]) -> PoseError:
    what = f"{', '.join(broken)} of batch {facts.batch} is not a finite number" if broken else (
        f"the losses of batch {facts.batch} are finite and their gradients are not"
    )  # fmt: skip
    if not facts.finite_weights:
        return ModelError(f"pre-flight: {what}, since train.model holds weights that are not; choose other weights")
    if facts.mixed_precision:
        return ConfigError(f"pre-flight: {what}; set train.amp: false, {_SKIP}")
    return ConfigError(
        f"pre-flight: {what}; look at the gains train.box, train.cls, train.dfl, train.pose, train.kobj"
        f" and train.rle, and train.loss_sigma, {_SKIP}"
    )


def _explain_zero(facts: Facts, loss: str) -> PoseError:
    drawn = f"{facts.images} images of the train split"
    objects, keypoints = facts.objects, facts.keypoints
    if objects.before == 0:
        return DatasetError(
            f"pre-flight: {loss} is 0: none of {drawn} has an object; annotate more of them,"
            f" set convert.unlabelled_images: ignore, {_SKIP}"
        )
    if facts.largest_object_px < _TINY_PX:
        return ConfigError(
            f"pre-flight: {loss} is 0: on {drawn} the largest object has {facts.largest_object_px:.1f} px at"
            f" train.imgsz {facts.imgsz}, too few for any anchor; raise train.imgsz, {_SKIP}"
        )
    if keypoints.before == 0:
        return DatasetError(
            f"pre-flight: {loss} is 0: on {drawn} none of {objects.before} objects has a labelled keypoint;"
            f" label them, look at convert.occluded (ignore leaves occluded keypoints out), {_SKIP}"
        )
    kind, survivors = ("objects", objects) if objects.after == 0 else ("keypoints", keypoints)
    if survivors.after == 0:
        return ConfigError(
            f"pre-flight: {loss} is 0: augmentation leaves none of {survivors.before} {kind} on {drawn}; lower"
            f" train.scale, train.translate, train.degrees, train.shear and train.perspective, {_SKIP}"
        )
    return ConfigError(
        f"pre-flight: {loss} is 0: the network assigns no anchor to any of {objects.after} objects on {drawn},"
        f" the largest of {facts.largest_object_px:.1f} px; raise train.imgsz, {_SKIP}"
    )


def describe(facts: Facts, times: Times) -> list[str]:
    """Say what was found, in lines for a person."""
    losses = " ".join(f"{name.removesuffix('_loss')} {value:.3f}" for name, value in facts.losses.items())
    later = facts.later
    return [
        f"pre-flight: batch {facts.batch}: {losses}; gradients finite",
        f"pre-flight: augmentation loses {show_survivors(facts.objects, ' objects')} and"
        f" {show_survivors(facts.keypoints, ' keypoints')} on {facts.images} images"
        + (
            f"; at strength {later.strength:.2g}, from epoch {later.epoch}, {show_survivors(later.objects)} and"
            f" {show_survivors(later.keypoints)}"
            if later
            else ""
        ),
        f"pre-flight: about {format_seconds(times.epoch_seconds)} an epoch,"
        f" {format_seconds(times.total_seconds)} for {times.epochs}",
    ]


def show_survivors(survivors: Survivors, kind: str = "") -> str:
    """Say how much augmentation loses: ``3 of 100 objects (3%)`` for the kind `` objects``."""
    lost = survivors.before - survivors.after
    return f"{lost} of {survivors.before}{kind} ({survivors.lost_share:.0%})"
