"""Which detection stands for which true object: by box, for everything that is no average precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset.coco import CocoAnnotation, CocoFile
from keypipe.keypoints.boxes import Array, Box, box_iou

MATCH_IOU = 0.5

_Key = Callable[["CocoAnnotation | Detection"], object]


class Detection(msgspec.Struct, frozen=True):
    """A predicted object in original pixels.

    Attributes:
        image_id: COCO image id.
        category_id: COCO category id.
        score: confidence in [0, 1].
        bbox: left, top, width, height.
        keypoints: x, y, confidence for each of the category's keypoints.
    """

    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float]
    keypoints: list[float]


def match_instances(truth: CocoFile, detections: Iterable[Detection]) -> list[tuple[CocoAnnotation, Detection]]:
    """Match true objects with detections of their class by box.

    Detections choose in order of their score, each the free object that it covers best with IoU >= ``MATCH_IOU``.

    Args:
        truth: COCO file.
        detections: those that count.

    Returns:
        Pairs; an object or a detection is in one at most.
    """
    return _match(truth, detections, lambda item: (item.image_id, item.category_id))


def confuse_classes(truth: CocoFile, detections: Sequence[Detection]) -> NDArray[np.int64]:
    """Count which class the true objects were taken for.

    Detections choose as in ``match_instances``, whatever their class.

    Args:
        truth: COCO file.
        detections: those that count.

    Returns:
        int64 (n_classes + 1, n_classes + 1): a row for each true class in the file's order and a last one for what
        is no object; a column for each predicted class and a last one for what was not found.
    """
    position = {category.id: index for index, category in enumerate(truth.categories)}
    none = len(position)
    counts = np.zeros((none + 1, none + 1), dtype=np.int64)
    pairs = _match(truth, detections, lambda item: item.image_id)
    for annotation, detection in pairs:
        counts[position[annotation.category_id], position[detection.category_id]] += 1
    for annotation in truth.annotations:
        counts[position[annotation.category_id], none] += 1
    counts[:none, none] -= counts[:none, :none].sum(1)
    for detection in detections:
        counts[none, position[detection.category_id]] += 1
    counts[none, :none] -= counts[:none, :none].sum(0)
    return counts


def _match(truth: CocoFile, detections: Iterable[Detection], key: _Key) -> list[tuple[CocoAnnotation, Detection]]:
    objects: dict[object, list[CocoAnnotation]] = defaultdict(list)
    for annotation in truth.annotations:
        objects[key(annotation)].append(annotation)
    pairs: list[tuple[CocoAnnotation, Detection]] = []
    for detection in sorted(detections, key=lambda item: -item.score):
        free = objects[key(detection)]
        if not free:
            continue
        overlap = box_iou(_corners([detection.bbox]), _corners([item.bbox for item in free]))
        best = int(overlap.argmax())
        if overlap[best] >= MATCH_IOU:
            pairs.append((free.pop(best), detection))
    return pairs


def _corners(boxes_xywh: Sequence[Box]) -> Array:
    """Turn left, top, width, height into left, top, right, bottom."""
    boxes = np.array(boxes_xywh, dtype=np.float64)
    boxes[..., 2:] += boxes[..., :2]
    return boxes
