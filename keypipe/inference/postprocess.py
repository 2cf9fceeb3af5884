"""From the raw output of a YOLO pose model to detections, in numpy, as Ultralytics 8.4 does it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.keypoints.boxes import box_iou

F32 = NDArray[np.float32]

# ultralytics.utils.nms.non_max_suppression: how many candidates are looked at, and by how many pixels
# the classes are set apart so that boxes of different classes never suppress each other.
_MAX_CANDIDATES = 30_000
_CLASS_OFFSET_PX = 7680.0

_SAME_OBJECT_IOU = 0.5
"""Overlap from which boxes of a class in two views are the same object's."""


class Detections(msgspec.Struct, frozen=True):
    """What was found on one image, best score first.

    Attributes:
        boxes_xyxy: float32 (n, 4), left, top, right, bottom, pixels.
        scores: float32 (n,), 0 to 1.
        class_ids: int64 (n,).
        keypoints: float32 (n, n_slots, 3): x, y in pixels and the confidence, 0 to 1.
    """

    boxes_xyxy: F32
    scores: F32
    class_ids: NDArray[np.int64]
    keypoints: F32

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray[np.integer]) -> Detections:
        """Return the detections at these positions, in this order."""
        return Detections(self.boxes_xyxy[index], self.scores[index], self.class_ids[index], self.keypoints[index])


def decode_output(output: F32, n_classes: int, conf: float) -> Detections:
    """Split one image's raw output into boxes, scores and keypoints above a confidence.

    Args:
        output: float32 (4 + n_classes + 3 * n_slots, n_anchors): boxes as centre x, centre y, width, height in
            input pixels, class scores after the sigmoid, keypoints as x, y in input pixels and confidence.
        n_classes: number of classes.
        conf: smallest score of interest; the score is that of the best class.

    Returns:
        The candidates in anchor order, in input pixels.
    """
    class_scores = output[4 : 4 + n_classes]
    anchors = np.flatnonzero(class_scores.max(axis=0) > conf)
    rows = output[:, anchors].T
    centre, half_size = rows[:, :2], rows[:, 2:4] / 2
    class_ids = rows[:, 4 : 4 + n_classes].argmax(axis=1)
    return Detections(
        boxes_xyxy=np.concatenate([centre - half_size, centre + half_size], axis=1),
        scores=rows[np.arange(len(rows)), 4 + class_ids],
        class_ids=class_ids,
        keypoints=_to_points(rows[:, 4 + n_classes :]),
    )


def decode_end2end_output(output: F32, conf: float, max_det: int) -> Detections:
    """Split the raw output of a model that needs no suppression (YOLO26).

    Args:
        output: float32 (n_found, 6 + 3 * n_slots): left, top, right, bottom in input pixels, score, class id,
            then the keypoints as x, y in input pixels and confidence; best score first.
        conf: smallest score of interest.
        max_det: how many detections are kept at most.

    Returns:
        The detections, in input pixels.
    """
    rows = output[output[:, 4] > conf][:max_det]
    return Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), _to_points(rows[:, 6:]))


def _to_points(rows: F32) -> F32:
    """Reshape (n, 3 * n_slots) to (n, n_slots, 3), for n = 0 as well."""
    return rows.reshape(len(rows), rows.shape[1] // 3, 3)


def suppress_overlaps(candidates: Detections, iou: float, max_det: int) -> Detections:
    """Keep of every heap of overlapping boxes of a class the best one (greedy non-maximum suppression).

    Args:
        candidates: boxes in input pixels.
        iou: boxes that overlap a better one of their class by more than this are dropped.
        max_det: how many detections are kept at most.

    Returns:
        The kept detections, best score first.
    """
    order = np.argsort(-candidates.scores, kind="stable")[:_MAX_CANDIDATES]
    offsets = candidates.class_ids[order, None].astype(np.float32) * np.float32(_CLASS_OFFSET_PX)
    boxes = candidates.boxes_xyxy[order] + offsets
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    remaining = np.arange(len(boxes))
    kept: list[int] = []
    while len(remaining) and len(kept) < max_det:
        best, remaining = int(remaining[0]), remaining[1:]
        kept.append(best)
        overlap = _intersections(boxes[best], boxes[remaining])
        # Two empty boxes give 0 / 0; like torchvision, a NaN suppresses nothing.
        with np.errstate(divide="ignore", invalid="ignore"):
            ious = overlap / (areas[best] + areas[remaining] - overlap)
        remaining = remaining[~(ious > iou)]
    return candidates.take(order[np.array(kept, dtype=np.intp)])


def _intersections(box: F32, others: F32) -> F32:
    """Area that one box (4,) shares with each of the others (n, 4), both as corners."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    clipped: F32 = np.maximum(size, np.float32(0))
    return clipped[:, 0] * clipped[:, 1]


def mirror_back(found: Detections, width_px: float, flip_idx: Sequence[int]) -> Detections:
    """Bring what was found on a mirrored image into the image itself.

    Args:
        found: in pixels of the mirrored image.
        width_px: of the image.
        flip_idx: for every slot the slot that it becomes in a mirror; see ``Schema.flip_idx``.
    """
    boxes, keypoints = found.boxes_xyxy.copy(), found.keypoints[:, list(flip_idx)]
    boxes[:, [0, 2]] = np.float32(width_px) - boxes[:, [2, 0]]
    keypoints[..., 0] = np.float32(width_px) - keypoints[..., 0]
    return Detections(boxes, found.scores, found.class_ids, keypoints)


def merge_views(first: Detections, second: Detections) -> Detections:
    """Merge what a model found on an image in two views of it.

    Objects of a class whose boxes overlap by half are the same one, those that overlap most first: it gets the mean of
    both boxes, scores and keypoints with their confidences. An object of one view alone keeps half its score, since the
    other view gives it none.

    Args:
        first: what was found in one view, in pixels of the image, best score first.
        second: in the other.

    Returns:
        The objects, best score first.
    """
    rows, columns = _pair_views(first, second)
    one, two = first.take(rows), second.take(columns)
    alone = [found.take(np.delete(np.arange(len(found)), taken)) for found, taken in ((first, rows), (second, columns))]
    merged = Detections(
        np.concatenate([(one.boxes_xyxy + two.boxes_xyxy) / 2, *(item.boxes_xyxy for item in alone)]),
        np.concatenate([(one.scores + two.scores) / 2, *(item.scores / 2 for item in alone)]),
        np.concatenate([one.class_ids, *(item.class_ids for item in alone)]),
        np.concatenate([(one.keypoints + two.keypoints) / 2, *(item.keypoints for item in alone)]),
    )
    return merged.take(np.argsort(-merged.scores, kind="stable"))


def _pair_views(first: Detections, second: Detections) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the same objects in both views, intp (n_pairs,) twice."""
    overlap = box_iou(first.boxes_xyxy.astype(np.float64)[:, None], second.boxes_xyxy.astype(np.float64))
    overlap[first.class_ids[:, None] != second.class_ids[None]] = 0
    rows, columns = np.nonzero(overlap >= _SAME_OBJECT_IOU)
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for index in np.argsort(-overlap[rows, columns], kind="stable").tolist():
        row, column = int(rows[index]), int(columns[index])
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return np.array([*pairs], dtype=np.intp), np.array([*pairs.values()], dtype=np.intp)
