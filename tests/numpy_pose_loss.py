"""The five losses of YOLOv8-pose in numpy, written from docs/pose-loss.md and not from Ultralytics' code.

One image and one object at a time where that is clearer; nothing here is fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

TOP_K = 10
ALPHA, BETA = 0.5, 6.0
REG_MAX = 16


class TieError(Exception):
    """Which anchors are positive hangs on the order of equals: candidates of an object with an alignment of 0."""


class Anchors(NamedTuple):
    """Cell centres of all levels, in cells (n, 2), and the stride of each, pixels (n,)."""

    centres: Array
    strides: Array


class Outputs(NamedTuple):
    """What the head gives for one image: box logits (n, 4, 16), class logits (n, c), keypoints raw (n, k, 3)."""

    boxes: Array
    scores: Array
    keypoints: Array


class Objects(NamedTuple):
    """The truth of one image, pixels of the input: classes (m,), boxes x1 y1 x2 y2 (m, 4), keypoints (m, k, 3)."""

    classes: Indices
    boxes: Array
    keypoints: Array


class Assigned(NamedTuple):
    """The positives of one image: their anchors (p,), their objects (p,), and the class targets of all (n, c)."""

    anchors: Indices
    objects: Indices
    targets: Array


def make_anchors(shapes: Sequence[tuple[int, int]], strides: Sequence[float]) -> Anchors:
    """Lay out the anchors: every cell of every level has one, at its centre."""
    centres, stride_of = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        y, x = np.mgrid[0:height, 0:width] + 0.5
        centres.append(np.stack([x.ravel(), y.ravel()], axis=1))
        stride_of.append(np.full(height * width, stride))
    return Anchors(np.concatenate(centres), np.concatenate(stride_of))


def decode_boxes(logits: Array, anchors: Anchors) -> Array:
    """Turn distributions over 0..15 cells into boxes, in cells (n, 4)."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    distance = (shifted / shifted.sum(-1, keepdims=True)) @ np.arange(REG_MAX)
    return np.concatenate([anchors.centres - distance[:, :2], anchors.centres + distance[:, 2:]], axis=1)


def decode_keypoints(raw: Array, anchors: Anchors) -> Array:
    """Turn raw x and y into places, in cells (n, k, 2)."""
    return 2 * raw[..., :2] + anchors.centres[:, None] - 0.5


def complete_iou(first: Array, second: Array, eps: float = 1e-7) -> Array:
    """CIoU of boxes x1 y1 x2 y2, pairwise by row (Zheng et al., arXiv 1911.08287, equation 10 and 11)."""
    w1, h1 = first[:, 2] - first[:, 0], first[:, 3] - first[:, 1] + eps
    w2, h2 = second[:, 2] - second[:, 0], second[:, 3] - second[:, 1] + eps
    low, high = np.maximum(first[:, :2], second[:, :2]), np.minimum(first[:, 2:], second[:, 2:])
    inter = np.clip(high - low, 0, None).prod(1)
    iou = inter / (w1 * h1 + w2 * h2 - inter + eps)
    hull = np.maximum(first[:, 2:], second[:, 2:]) - np.minimum(first[:, :2], second[:, :2])
    between = (first[:, :2] + first[:, 2:] - second[:, :2] - second[:, 2:]) / 2
    aspect = 4 / np.pi**2 * (np.arctan(w2 / h2) - np.arctan(w1 / h1)) ** 2
    return iou - (between**2).sum(1) / ((hull**2).sum(1) + eps) - aspect**2 / (1 - iou + aspect + eps)


def assign(outputs: Outputs, objects: Objects, anchors: Anchors, smallest_px: float) -> Assigned:
    """Choose the positives of one image (task-aligned assigner; Feng et al., "TOOD", ICCV 2021).

    Raises:
        TieError: the choice hangs on a tie.
    """
    n_anchors, n_objects = len(anchors.centres), len(objects.classes)
    places_px = anchors.centres * anchors.strides[:, None]
    predicted_px = decode_boxes(outputs.boxes, anchors) * anchors.strides[:, None]
    probability = 1 / (1 + np.exp(-outputs.scores))
    overlap, alignment = np.zeros((n_objects, n_anchors)), np.zeros((n_objects, n_anchors))
    positive = np.zeros((n_objects, n_anchors), dtype=bool)
    for index, (label, box) in enumerate(zip(objects.classes, objects.boxes, strict=True)):
        middle, size = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], smallest_px)
        inside = (np.abs(places_px - middle) < size / 2 - 1e-9).all(1)
        iou = np.clip(complete_iou(np.broadcast_to(box, predicted_px.shape), predicted_px), 0, None)
        overlap[index] = np.where(inside, iou, 0)
        alignment[index] = np.where(inside, probability[:, label] ** ALPHA * iou**BETA, 0)
        best = np.argsort(-alignment[index], kind="stable")[:TOP_K]
        if (inside & (alignment[index] == 0)).any() and (alignment[index] > 0).sum() < TOP_K:
            raise TieError
        positive[index, best] = True
        positive[index] &= inside
    for anchor in np.flatnonzero(positive.sum(0) > 1):
        positive[:, anchor] = False
        positive[overlap[:, anchor].argmax(), anchor] = True
    objects_of, anchors_of = np.nonzero(positive)
    targets = np.zeros_like(outputs.scores)
    for index in range(n_objects):
        mine = positive[index]
        if mine.any():
            # The best aligned positive is to score what the best overlap is; the others less, by their alignment.
            share = alignment[index, mine] / (alignment[index, mine].max() + 1e-9)
            targets[mine, objects.classes[index]] = share * overlap[index, mine].max()
    return Assigned(anchors_of, objects_of, targets)


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Binary cross entropy of logits, element by element."""
    return np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))


def _focal_distances(logits: Array, distances: Array) -> Array:
    """Distribution focal loss of each side, (p, 4) (Li et al., "Generalized Focal Loss", arXiv 2006.04388)."""
    shifted = logits - logits.max(-1, keepdims=True)
    log_share = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    wanted = np.clip(distances, 0, REG_MAX - 1 - 0.01)
    left = wanted.astype(int)
    at_left, at_right = (np.take_along_axis(log_share, i[..., None], -1)[..., 0] for i in (left, left + 1))
    return -(at_left * (left + 1 - wanted) + at_right * (wanted - left))


def pose_and_kobj(
    apart: Array, logits: Array, true: Array, boxes: Array, sigmas: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Compute the losses of keypoints before their means.

    Args:
        apart: what is between predicted and true places, cells (p, k, 2).
        logits: of the keypoints (p, k).
        true: x, y and visibility (p, k, 3).
        boxes: of the objects, cells (p, 4).
        sigmas: of the loss (k,).

    Returns:
        ``pose`` and ``kobj`` of each keypoint, and whether it is labelled, all (p, k).
    """
    labelled = true[..., 2] != 0
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    exponent = (apart**2).sum(-1) / (2 * area[:, None] * (2 * sigmas) ** 2)
    factor = labelled.shape[1] / (labelled.sum(1, keepdims=True) + 1e-9)
    return (
        factor * np.where(labelled, 1 - np.exp(-exponent), 0),
        cross_entropy(logits, labelled.astype(float)),
        labelled,
    )


def pose_losses(
    outputs: Sequence[Outputs],
    truth: Sequence[Objects],
    anchors: Anchors,
    sigmas: Array,
    gains: Mapping[str, float],
    smallest_px: float = 16.0,
) -> dict[str, Any]:
    """Compute the five losses of a batch, gains included.

    Args:
        outputs: of the head, an entry for each image.
        truth: an entry for each image.
        anchors: common to all images.
        sigmas: float64 (k,), of the loss.
        gains: ``box``, ``pose``, ``kobj``, ``cls`` and ``dfl``.
        smallest_px: sides of boxes count as at least so long when anchors are chosen: the second level's stride.

    Returns:
        The losses by name, and the number of positives.
    """
    assigned = [assign(o, t, anchors, smallest_px) for o, t in zip(outputs, truth, strict=True)]
    total = max(sum(item.targets.sum() for item in assigned), 1.0)
    box = dfl = cls = 0.0
    pose: list[Array] = []
    kobj: list[Array] = []
    for found, objects, chosen in zip(outputs, truth, assigned, strict=True):
        cls += cross_entropy(found.scores, chosen.targets).sum() / total
        at, strides = chosen.anchors, anchors.strides[chosen.anchors]
        weight = chosen.targets[at].sum(1)
        wanted = objects.boxes[chosen.objects] / strides[:, None]
        box += ((1 - complete_iou(decode_boxes(found.boxes, anchors)[at], wanted)) * weight).sum() / total
        centres = anchors.centres[at]
        distances = np.concatenate([centres - wanted[:, :2], wanted[:, 2:] - centres], axis=1)
        dfl += (_focal_distances(found.boxes[at], distances).mean(1) * weight).sum() / total

        true = objects.keypoints[chosen.objects]
        apart = decode_keypoints(found.keypoints, anchors)[at] - true[..., :2] / strides[:, None, None]
        of_pose, of_kobj, _ = pose_and_kobj(apart, found.keypoints[at, :, 2], true, wanted, sigmas)
        pose.append(of_pose)
        kobj.append(of_kobj)
    n_positives = sum(len(item.anchors) for item in assigned)
    losses = {
        "box": box,
        "pose": np.concatenate(pose).mean() if n_positives else 0.0,
        "kobj": np.concatenate(kobj).mean() if n_positives else 0.0,
        "cls": cls,
        "dfl": dfl,
    }
    return {name: float(value * gains[name]) for name, value in losses.items()} | {"positives": n_positives}
