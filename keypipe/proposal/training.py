"""Training parameters that fit a folder and a machine, each with its reason."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from keypipe.errors import format_count
from keypipe.proposal.geometry import Geometry
from keypipe.proposal.values import Proposal

INPUTS = (160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280)
"""Inputs that are proposed, pixels; the network wants multiples of 32. Time and memory grow with the square."""

CELL_PX = 8
"""Side of a cell of the network's finest grid; an object below it has none of its own."""
LEAST_PX = 2 * CELL_PX
"""Longer side that nine tenths of the objects shall have whatever it costs."""
APART_PX = 4
"""Distance that the nearest keypoints of nine tenths of the objects shall have: half a cell."""
CLEAR_PX = 32
"""Longer side that nine tenths of the objects shall have where it is affordable: COCO calls those below it small."""
FINE_PX = 96
"""Longer side that half of the objects shall have where it is affordable: a tenth of it is then a cell."""
AFFORDABLE = {"cpu": 640, "gpu": 1280}
"""Largest input that is proposed for more than the least."""

BASE_BYTES = 1.0e9
"""Memory of the process and the network, without a batch."""
BYTES_PER_PX = {"cpu": 510.0, "gpu": 510.0}
"""Memory of a training step for each pixel of the batch. Measured for yolov8n-pose on a CPU: batches of 16 took 1.77 GB
at 320 px and 4.25 GB at 640 px. A GPU computes in half precision and takes less; that was not measured."""

SCRATCH, PUBLISHED = "yolov8n-pose.yaml", "yolov8n-pose.pt"
STEPS = {SCRATCH: 3000, PUBLISHED: 1500}
EPOCHS = {SCRATCH: (100, 300), PUBLISHED: (60, 150)}
RATES = {SCRATCH: 0.003, PUBLISHED: 0.001}

_ALL_WHOLE, _HALF_WHOLE = 0.6, 0.4
_UPRIGHT_DEGREES, _MOST_DEGREES = 5.0, 30.0
_QUARTERS = 0.7
_BOTH_HANDS = 0.15


class Machine(msgspec.Struct, frozen=True):
    """Where the training runs.

    Attributes:
        kind: ``cpu`` or ``gpu``.
        memory_bytes: free memory, of the GPU if there is one.
    """

    kind: str
    memory_bytes: float


class Images(NamedTuple):
    """How many images there are to train on, and to choose the best epoch by."""

    train: int
    val: int


def propose_training(
    geometry: Geometry, images: Images, machine: Machine, *, published: bool, offline: str, has_pairs: bool
) -> list[Proposal]:
    """Propose the section ``train``.

    Args:
        geometry: of the objects.
        images: their number.
        machine: where the training runs.
        published: whether published weights can be had.
        offline: why not, if not.
        has_pairs: whether any keypoints have left/right partners.
    """
    model = PUBLISHED if published else SCRATCH
    imgsz = propose_imgsz(geometry, machine)
    batch = propose_batch(imgsz.value, images, machine)
    epochs = propose_epochs(images, batch.value, model)
    weights = "published weights, learnt from photos of people; the keypoint head starts anew"
    return [
        Proposal("train.model", model, weights if published else f"from random weights: {offline}"),
        imgsz,
        batch,
        Proposal("train.nbs", batch.value, "as train.batch: an optimizer step every batch"),
        epochs,
        propose_patience(images, epochs.value),
        Proposal(
            "train.lr0", RATES[model], "of AdamW, from published weights" if published else "of AdamW, from scratch"
        ),
        propose_mosaic(geometry),
        propose_degrees(geometry),
        *propose_mirroring(geometry, has_pairs=has_pairs),
    ]


def propose_imgsz(geometry: Geometry, machine: Machine) -> Proposal:
    """Propose the smallest input at which objects and keypoints are large enough, no larger than the images are."""
    spacing = geometry.spacing if math.isfinite(geometry.spacing) and geometry.spacing > 0 else math.inf
    least = max(LEAST_PX / geometry.small, CELL_PX / geometry.smallest, APART_PX / spacing)
    wished = max(CLEAR_PX / geometry.small, FINE_PX / geometry.median)
    wanted = max(least, min(wished, AFFORDABLE[machine.kind]))
    size = min(_fit(wanted), _fit(geometry.image_px))
    said = f"objects {geometry.median * size:.0f} px (median), nine tenths {geometry.small * size:.0f} px or more"
    if math.isfinite(spacing):
        said += f", nearest keypoints {spacing * size:.0f} px apart"
    if size < _fit(wanted):
        said += f"; no larger than the images, {geometry.image_px:.0f} px"
    elif size < _fit(wished):
        said += f"; more is finer, and slow on this {machine.kind.upper()}"
    elif wanted > INPUTS[-1]:
        said += "; cut such images into tiles"
    return Proposal("train.imgsz", size, said)


def _fit(wanted_px: float) -> int:
    return next((size for size in INPUTS if size >= wanted_px), INPUTS[-1])


def propose_batch(imgsz: int, images: Images, machine: Machine) -> Proposal:
    """Propose 16 images a step, fewer where memory or images are few, more on a GPU with many images."""
    fits = max(0.0, 0.6 * machine.memory_bytes - BASE_BYTES) / (BYTES_PER_PX[machine.kind] * imgsz**2)
    memory = f"{machine.memory_bytes / 2**30:.0f} GB free on this {machine.kind.upper()}"
    batch = 8 if images.train < 64 else 16
    why = (
        f"{memory}" if batch == 16 else f"few images: {format_count(math.ceil(images.train / batch), 'step')} an epoch"
    )
    while machine.kind == "gpu" and batch < 64 and images.train >= 100 * batch and fits >= 2 * batch:
        batch *= 2
    if fits < batch:
        batch = max(1, 2 ** int(math.log2(max(fits, 1))))
        why = f"{memory}: room for {batch} images of {imgsz} px"
    return Proposal("train.batch", batch, why)


def propose_epochs(images: Images, batch: int, model: str) -> Proposal:
    """Propose as many epochs as make some thousand steps."""
    per_epoch = max(1, math.ceil(images.train / batch))
    low, high = EPOCHS[model]
    epochs = min(high, max(low, round(STEPS[model] / per_epoch / 10) * 10))
    why = f"{images.train} images: {format_count(per_epoch, 'step')} an epoch, {per_epoch * epochs} in all"
    return Proposal("train.epochs", epochs, why)


def propose_patience(images: Images, epochs: int) -> Proposal:
    """Propose how many epochs without a better one end the training: the fewer images judge, the more."""
    few = images.val < 50
    patience = max(30, epochs // 2 if few else epochs // 3)
    why = f"{format_count(images.val, 'image')} choose the best epoch"
    return Proposal("train.patience", patience, f"{why}: their figure jumps" if few else why)


def propose_mosaic(geometry: Geometry) -> Proposal:
    """Propose mosaics where objects are small enough to come through whole."""
    whole = geometry.whole
    value = 1.0 if whole >= _ALL_WHOLE else 0.5 if whole >= _HALF_WHOLE else 0.0
    why = f"{_percent(whole)} of the objects stay whole in a mosaic"
    return Proposal("train.mosaic", value, why if value else f"{why}: they are too large for it")


def propose_degrees(geometry: Geometry) -> Proposal:
    """Propose to turn images as far as objects are turned, unless they are turned by quarters."""
    turned = geometry.turned_degrees
    if not math.isfinite(turned):
        return Proposal("train.degrees", 0.0, "too few keypoints to tell how objects are turned")
    seen = f"nine tenths of the objects are turned by {turned:.0f} degrees or less"
    if turned >= 45 and geometry.quarters >= _QUARTERS:
        return Proposal("train.degrees", 0.0, f"{seen}, but by quarter turns: nothing stands aslant")
    if turned < _UPRIGHT_DEGREES:
        return Proposal("train.degrees", 0.0, f"{seen}: they stand upright")
    value = min(_MOST_DEGREES, 5.0 * round(turned / 5))
    limit = "; more would make boxes loose" if value == _MOST_DEGREES else ""
    return Proposal("train.degrees", value, seen + limit)


def propose_mirroring(geometry: Geometry, *, has_pairs: bool) -> list[Proposal]:
    """Propose to mirror images where names have partners; ask where mirror images occur among the objects."""
    if has_pairs:
        return [Proposal("train.fliplr", 0.5, "left/right pairs exchange their names in a mirror")]
    if not geometry.mirrored >= _BOTH_HANDS:  # NaN as well
        return [Proposal("train.fliplr", 0.0, "no left/right pairs: in a mirror the names may be wrong")]
    seen = f"{_percent(geometry.mirrored)} of the objects are mirror images of the others, under the same names"
    return [
        Proposal(
            "train.symmetric",
            value=True,
            why=f"{seen}: images may be mirrored",
            sure=False,
            question=f"{seen}. Does every keypoint keep its name in a mirror?",
            else_value=False,
            else_why=f"{seen}; true, if every keypoint keeps its name in a mirror",
        )
    ]


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"
