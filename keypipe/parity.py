"""Whether two models of the same weights say the same: the exported one against the one it came from."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.evaluation import box_iou
from keypipe.letterbox import Placement, letterbox
from keypipe.postprocess import Detections, decode_output, suppress_overlaps
from keypipe.predictor import ModelInfo, RawModel

SAME_BOX_IOU = 0.9
SCORE_SLACK = 0.01
"""Detections this near the score threshold may be there for one model and not for the other."""

_IOU = 0.7
_MAX_DETECTIONS = 300


class Parity(msgspec.Struct):
    """Differences between a reference and another model over some images.

    Attributes:
        images: number of images.
        anchors: anchors compared: all of them whatever their score, so that a weak model is compared as well.
        objects: objects that the reference found.
        unmatched: objects found by one model only, those at the score threshold not counted.
        max_px: largest distance between the two places of a keypoint, pixels of the image.
        p99_px: 99th percentile of the same.
        max_box_px: largest difference of a box's position or size, pixels of the image.
        max_confidence: largest difference of a class score or of a keypoint's confidence.
    """

    images: int
    anchors: int
    objects: int
    unmatched: int
    max_px: float
    p99_px: float
    max_box_px: float
    max_confidence: float


class _Differences(msgspec.Struct):
    """What one image gave: distances in pixels of the image, and counts."""

    keypoints_px: NDArray[np.float64]
    boxes_px: NDArray[np.float64]
    confidences: NDArray[np.float64]
    objects: int
    unmatched: int


def compare_models(
    reference: RawModel, other: RawModel, info: ModelInfo, images_bgr: Iterable[NDArray[np.uint8]], conf: float
) -> Parity:
    """Run two models on the same images and compare what they say.

    Args:
        reference: the model that is right by definition.
        other: the model to judge.
        info: classes, keypoints and input size of both.
        images_bgr: uint8 (height, width, 3), at least one.
        conf: score from which an object counts as found.

    Returns:
        The differences.
    """
    found: list[_Differences] = []
    for image in images_bgr:
        tensor, placement = letterbox(image, info.imgsz)
        found.append(_compare(reference(tensor)[0], other(tensor)[0], len(info.class_names), placement, conf))
    keypoints = np.concatenate([item.keypoints_px for item in found])
    return Parity(
        images=len(found),
        anchors=sum(len(item.boxes_px) for item in found),
        objects=sum(item.objects for item in found),
        unmatched=sum(item.unmatched for item in found),
        max_px=float(keypoints.max()),
        p99_px=float(np.percentile(keypoints, 99)),
        max_box_px=float(max(item.boxes_px.max() for item in found)),
        max_confidence=float(max(item.confidences.max() for item in found)),
    )


def _compare(
    first: NDArray[np.float32], second: NDArray[np.float32], n_classes: int, placement: Placement, conf: float
) -> _Differences:
    """Compare two raw outputs, float32 (4 + n_classes + 3 * n_slots, n_anchors)."""
    delta = np.abs(first.astype(np.float64) - second.astype(np.float64))
    gain = placement.resized_wh[0] / placement.image_wh[0]
    points = delta[4 + n_classes :].reshape(-1, 3, delta.shape[1])
    pair = [suppress_overlaps(decode_output(raw, n_classes, conf), _IOU, _MAX_DETECTIONS) for raw in (first, second)]
    return _Differences(
        np.hypot(points[:, 0], points[:, 1]).ravel() / gain,
        delta[:4].max(0) / gain,
        np.concatenate([delta[4 : 4 + n_classes].ravel(), points[:, 2].ravel()]),
        len(pair[0]),
        count_unmatched(pair[0], pair[1], conf),
    )


def count_unmatched(first: Detections, second: Detections, conf: float) -> int:
    """Count the objects that only one of two models found.

    Args:
        first: what one model found on an image.
        second: what the other found on it.
        conf: score threshold of both; objects within ``SCORE_SLACK`` of it do not count.
    """
    overlap = box_iou(_to_xywh(first), _to_xywh(second))
    overlap[first.class_ids[:, None] != second.class_ids[None]] = 0
    taken: list[set[int]] = [set(), set()]
    for row in range(len(first)):
        column = int(overlap[row].argmax()) if len(second) else 0
        if len(second) and overlap[row, column] >= SAME_BOX_IOU:
            taken[0].add(row)
            taken[1].add(column)
            overlap[:, column] = 0
    return sum(
        int((np.delete(found.scores, list(rows)) > conf + SCORE_SLACK).sum())
        for found, rows in zip((first, second), taken, strict=True)
    )


def _to_xywh(found: Detections) -> NDArray[np.float64]:
    boxes = found.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
