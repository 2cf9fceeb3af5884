"""From the raw output of a YOLO pose model to detections, in numpy, as Ultralytics 8.4 does it."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

# ultralytics.utils.nms.non_max_suppression: how many candidates are looked at, and by how many pixels
# the classes are set apart so that boxes of different classes never suppress each other.
_MAX_CANDIDATES = 30_000
_CLASS_OFFSET_PX = 7680.0


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
