"""Whether two models of the same weights say the same: the exported one against the one it came from."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from keypipe.evaluation import box_iou
from keypipe.postprocess import Detections

SAME_BOX_IOU = 0.9
SCORE_SLACK = 0.01
"""Detections this near the score threshold may be there for one model and not for the other."""


class Parity(msgspec.Struct):
    """Differences between a reference and another model over some images.

    Attributes:
        images: number of images.
        objects: objects that the reference found.
        matched: those that the other found as well, same class and box.
        unmatched: objects found by one model only, those at the score threshold not counted.
        max_px: largest distance between the two places of a keypoint, pixels of the image.
        p99_px: 99th percentile of the same.
        max_box_px: largest difference of a box's side.
        max_confidence: largest difference of a score or of a keypoint's confidence.
    """

    images: int
    objects: int
    matched: int
    unmatched: int
    max_px: float
    p99_px: float
    max_box_px: float
    max_confidence: float


def compare_detections(pairs: Iterable[tuple[Detections, Detections]], conf: float) -> Parity:
    """Compare what two models found on the same images.

    Args:
        pairs: reference and other, one pair an image, in pixels of the image.
        conf: score threshold that both were run with.

    Returns:
        The differences; distances are 0 where nothing was matched.
    """
    images = objects = matched = unmatched = 0
    distances: list[np.ndarray] = []
    boxes: list[float] = []
    confidences: list[float] = []
    for reference, other in pairs:
        images += 1
        objects += len(reference)
        rows, columns = _match(reference, other)
        matched += len(rows)
        for found, taken in ((reference, rows), (other, columns)):
            alone = np.setdiff1d(np.arange(len(found)), taken)
            unmatched += int((found.scores[alone] > conf + SCORE_SLACK).sum())
        if not len(rows):
            continue
        first, second = reference.take(rows), other.take(columns)
        delta = (first.keypoints - second.keypoints).astype(np.float64)
        distances.append(np.hypot(delta[..., 0], delta[..., 1]).ravel())
        boxes.append(float(np.abs(first.boxes_xyxy - second.boxes_xyxy).max()))
        confidences += [float(np.abs(delta[..., 2]).max()), float(np.abs(first.scores - second.scores).max())]
    pooled = np.concatenate(distances) if distances else np.zeros(1)
    return Parity(
        images,
        objects,
        matched,
        unmatched,
        float(pooled.max()),
        float(np.percentile(pooled, 99)),
        max(boxes, default=0.0),
        max(confidences, default=0.0),
    )


def _match(reference: Detections, other: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Match objects of the same class by box, best score first."""
    if not len(reference) or not len(other):
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    overlap = box_iou(_to_xywh(reference), _to_xywh(other))
    overlap[reference.class_ids[:, None] != other.class_ids[None]] = 0
    rows: list[int] = []
    columns: list[int] = []
    for row in range(len(reference)):
        column = int(overlap[row].argmax())
        if overlap[row, column] >= SAME_BOX_IOU:
            rows.append(row)
            columns.append(column)
            overlap[:, column] = 0
    return np.array(rows, dtype=np.intp), np.array(columns, dtype=np.intp)


def _to_xywh(found: Detections) -> np.ndarray:
    boxes = found.boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
