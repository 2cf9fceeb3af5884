"""The six losses of a head of YOLO26-pose in numpy, written from docs/pose-loss.md and not from Ultralytics' code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.numpy_pose_loss import (
    ALPHA,
    BETA,
    Anchors,
    Assigned,
    Objects,
    TieError,
    complete_iou,
    cross_entropy,
    pose_and_kobj,
)

Array = NDArray[np.float64]

LEVEL_SIZES = (2.0, 12.0)
AREA_SHARE = 0.53


class Outputs(NamedTuple):
    """What a head gives for one image: distances (n, 4), class logits (n, c), keypoints (n, k, 3), logits of their
    scales (n, k, 2).
    """

    boxes: Array
    scores: Array
    keypoints: Array
    scales: Array


class Coupling(NamedTuple):
    """A layer of the flow: which coordinate it leaves alone (2,), and its two small networks of (weight, bias)."""

    kept: Array
    scale: list[tuple[Array, Array]]
    shift: list[tuple[Array, Array]]


def decode_boxes(distances: Array, anchors: Anchors) -> Array:
    """Turn distances into boxes, in cells (n, 4)."""
    return np.concatenate([anchors.centres - distances[:, :2], anchors.centres + distances[:, 2:]], axis=1)


def decode_keypoints(raw: Array, anchors: Anchors) -> Array:
    """Turn raw x and y into places, in cells (n, k, 2)."""
    return raw[..., :2] + anchors.centres[:, None]


def similarity(places_px: Array, keypoints: Array, box: Array, sigmas: Array) -> Array:
    """OKS of every anchor's keypoints with an object's, (n,)."""
    labelled = keypoints[:, 2] > 0
    area = (box[2:] - box[:2]).prod() * AREA_SHARE
    apart = ((places_px - keypoints[:, :2]) ** 2).sum(-1)
    return (np.exp(-apart / (2 * area * (2 * sigmas) ** 2)) * labelled).sum(1) / labelled.sum()


def assign(
    outputs: Outputs, objects: Objects, anchors: Anchors, sigmas: Array, top_k: int, kept: int, smallest_px: float
) -> Assigned:
    """Choose the positives of one image.

    Args:
        outputs: of the head.
        objects: the truth.
        anchors: of all levels.
        sigmas: of the loss.
        top_k: best aligned candidates of an object.
        kept: how many of them stay when every anchor has its object.
        smallest_px: sides of boxes count as at least so long.

    Raises:
        TieError: the choice hangs on a tie.
    """
    n_anchors, n_objects = len(anchors.centres), len(objects.classes)
    strides = anchors.strides
    centres_px = anchors.centres * strides[:, None]
    boxes_px = decode_boxes(outputs.boxes, anchors) * strides[:, None]
    places_px = decode_keypoints(outputs.keypoints, anchors) * strides[:, None, None]
    probability = 1 / (1 + np.exp(-outputs.scores))
    overlap, alignment = np.zeros((n_objects, n_anchors)), np.zeros((n_objects, n_anchors))
    positive = np.zeros((n_objects, n_anchors), dtype=bool)
    for index, (label, box, points) in enumerate(zip(objects.classes, objects.boxes, objects.keypoints, strict=True)):
        middle, size = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], smallest_px)
        candidates = (np.abs(centres_px - middle) < size / 2 - 1e-9).all(1)
        side = math.sqrt((box[2:] - box[:2]).prod())
        fits = (side >= LEVEL_SIZES[0] * strides) | (strides == strides.min())
        fits &= (side <= LEVEL_SIZES[1] * strides) | (strides == strides.max())
        if (candidates & fits).any():
            candidates &= fits
        if (points[:, 2] > 0).any():
            found = similarity(places_px, points, box, sigmas)
        else:
            found = np.clip(complete_iou(np.broadcast_to(box, boxes_px.shape), boxes_px), 0, None)
        overlap[index] = np.where(candidates, found, 0)
        alignment[index] = np.where(candidates, probability[:, label] ** ALPHA * found**BETA, 0)
        if (alignment[index] > 1e-30).sum() < min(top_k, candidates.sum()):
            raise TieError
        positive[index, np.argsort(-alignment[index], kind="stable")[:top_k]] = True
        positive[index] &= candidates
    for anchor in np.flatnonzero(positive.sum(0) > 1):
        positive[:, anchor] = False
        positive[overlap[:, anchor].argmax(), anchor] = True
    for index in range(n_objects):
        best = np.argsort(-np.where(positive[index], alignment[index], -1), kind="stable")[kept:]
        positive[index, best] = False
    objects_of, anchors_of = np.nonzero(positive)
    targets = np.zeros_like(outputs.scores)
    for index in range(n_objects):
        mine = positive[index]
        if mine.any():
            share = alignment[index, mine] / (alignment[index, mine].max() + 1e-9)
            targets[mine, objects.classes[index]] = share * overlap[index, mine].max()
    return Assigned(anchors_of, objects_of, targets)


def log_density(points: Array, flow: Sequence[Coupling]) -> Array:
    """Log density of residuals (n, 2) under a flow of coupling layers (Dinh et al., arXiv 1605.08803)."""
    place, growth = points, np.zeros(len(points))
    for layer in reversed(flow):
        fixed = layer.kept * place
        scale = np.tanh(_run(layer.scale, fixed)) * (1 - layer.kept)
        shift = _run(layer.shift, fixed) * (1 - layer.kept)
        place = (1 - layer.kept) * (place - shift) * np.exp(-scale) + fixed
        growth -= scale.sum(1)
    return -0.5 * (place**2).sum(1) - math.log(2 * math.pi) + growth


def _run(layers: Sequence[tuple[Array, Array]], values: Array) -> Array:
    for index, (weight, bias) in enumerate(layers):
        values = values @ weight.T + bias
        if index < len(layers) - 1:
            values = values / (1 + np.exp(-values))  # SiLU
    return values


def pose_losses(
    outputs: Sequence[Outputs],
    truth: Sequence[Objects],
    anchors: Anchors,
    sigmas: Array,
    gains: Mapping[str, float],
    flow: Sequence[Coupling],
    size_wh: tuple[int, int],
    top_k: int,
    kept: int,
    smallest_px: float = 16.0,
) -> dict[str, Any]:
    """Compute the six losses of a head, gains included.

    Args:
        outputs: of the head, an entry for each image.
        truth: an entry for each image.
        anchors: common to all images.
        sigmas: float64 (k,), of the loss and of the assignment.
        gains: ``box``, ``pose``, ``kobj``, ``cls``, ``dfl`` and ``rle``.
        flow: the density of the residuals.
        size_wh: of the input, pixels.
        top_k: see ``assign``.
        kept: see ``assign``.
        smallest_px: see ``assign``.

    Returns:
        The losses by name, and the number of positives.
    """
    assigned = [assign(o, t, anchors, sigmas, top_k, kept, smallest_px) for o, t in zip(outputs, truth, strict=True)]
    total = max(sum(item.targets.sum() for item in assigned), 1.0)
    box = l1 = cls = 0.0
    pose: list[Array] = []
    kobj: list[Array] = []
    rle: list[Array] = []
    for found, objects, chosen in zip(outputs, truth, assigned, strict=True):
        cls += cross_entropy(found.scores, chosen.targets).sum() / total
        at, strides = chosen.anchors, anchors.strides[chosen.anchors]
        weight = chosen.targets[at].sum(1)
        wanted = objects.boxes[chosen.objects] / strides[:, None]
        box += ((1 - complete_iou(decode_boxes(found.boxes, anchors)[at], wanted)) * weight).sum() / total
        centres = anchors.centres[at]
        distances = np.concatenate([centres - wanted[:, :2], wanted[:, 2:] - centres], axis=1)
        shares = np.abs(found.boxes[at] - distances) * strides[:, None] / np.tile(size_wh, 2)
        l1 += (shares.mean(1) * weight).sum() / total

        apart = decode_keypoints(found.keypoints, anchors)[at]
        apart = apart - objects.keypoints[chosen.objects][..., :2] / strides[:, None, None]
        of_pose, of_kobj, labelled = pose_and_kobj(
            apart, found.keypoints[at, :, 2], objects.keypoints[chosen.objects], wanted, sigmas
        )
        pose.append(of_pose)
        kobj.append(of_kobj)
        scale = 1 / (1 + np.exp(-found.scales[at][labelled]))
        residual = np.clip(apart[labelled] / (scale + 1e-9), -100, 100)
        surprise = np.log(scale) - log_density(residual, flow)[:, None] + np.log(2 * scale) + np.abs(residual)
        rle.append(surprise.sum(1))
    n_positives = sum(len(item.anchors) for item in assigned)
    losses = {
        "box": box,
        "pose": np.concatenate(pose).mean() if n_positives else 0.0,
        "kobj": np.concatenate(kobj).mean() if n_positives else 0.0,
        "cls": cls,
        "l1": l1,
        "rle": max(np.concatenate(rle).mean(), 0.0) if n_positives else 0.0,
    }
    gains = {**gains, "l1": gains["dfl"]}
    return {name: float(value * gains[name]) for name, value in losses.items()} | {"positives": n_positives}
