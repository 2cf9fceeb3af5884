"""Object keypoint similarity and keypoint errors.

OKS of one instance is the mean over labelled keypoints of ``exp(-d**2 / (2 * area * (2 * sigma)**2))``
(https://cocodataset.org/#keypoints-eval; pycocotools ``COCOeval.computeOks`` and Ultralytics' ``kpt_iou``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from keypipe.dataset.coco import CocoAnnotation
from keypipe.keypoints.boxes import Array

AreaRule = Literal["box", "coco"]

AREA_FACTOR = 0.53
"""Share of the box's area taken as the object's, where there is no mask: from xtcocotools, as Ultralytics does."""


def object_areas(annotations: Sequence[CocoAnnotation], rule: AreaRule = "box", factor: float = AREA_FACTOR) -> Array:
    """Area of each object as OKS takes it.

    Args:
        annotations: the objects.
        rule: ``box``: ``factor`` times the box's area. ``coco``: the annotation's own ``area``, as COCO's evaluation
            takes it; for a file without masks that is the whole box.
        factor: share of the box, used by ``box`` alone.

    Returns:
        float64 (n,), square pixels.
    """
    if rule == "coco":
        return np.array([item.area for item in annotations], dtype=np.float64)
    return np.array([factor * item.bbox[2] * item.bbox[3] for item in annotations], dtype=np.float64)


def keypoint_distances(truth: Array, predicted: Array) -> Array:
    """Distance of each predicted keypoint from the truth.

    Args:
        truth: float64 (..., n_keypoints, 3), x, y in pixels and visibility; 0 = not labelled.
        predicted: float64 (..., n_keypoints, 2 or more), x, y in pixels.

    Returns:
        float64 (..., n_keypoints), pixels; NaN where not labelled.
    """
    distance = np.hypot(predicted[..., 0] - truth[..., 0], predicted[..., 1] - truth[..., 1])
    return np.where(truth[..., 2] > 0, distance, np.nan)


def keypoint_similarities(truth: Array, predicted: Array, area: Array, sigmas: Array) -> Array:
    """Similarity of each keypoint, whose mean over the labelled ones is OKS.

    Args:
        truth: float64 (..., n_keypoints, 3), x, y in pixels and visibility.
        predicted: float64 (..., n_keypoints, 2 or more), x, y in pixels; NaN where nothing was predicted.
        area: float64 (...), the object's area in square pixels, > 0.
        sigmas: float64 (n_keypoints,).

    Returns:
        float64 (..., n_keypoints) in [0, 1]; NaN where not labelled or not predicted.
    """
    squared = keypoint_distances(truth, predicted) ** 2
    guarded = area[..., None] + np.spacing(1)  # as COCO has it, against an area of zero
    return np.asarray(np.exp(-squared / (2 * guarded * (2 * sigmas) ** 2)))


def compute_oks(truth: Array, predicted: Array, area: Array, sigmas: Array) -> Array:
    """Object keypoint similarity.

    Args:
        truth: float64 (..., n_keypoints, 3), x, y in pixels and visibility.
        predicted: float64 (..., n_keypoints, 2 or more), x, y in pixels.
        area: float64 (...), the object's area in square pixels, > 0 (``object_areas``).
        sigmas: float64 (n_keypoints,).

    Returns:
        float64 (...) in [0, 1]; NaN where no keypoint is labelled.
    """
    labelled = truth[..., 2] > 0
    similarity = np.where(labelled, keypoint_similarities(truth, predicted, area, sigmas), 0.0)
    count = labelled.sum(-1)
    return np.where(count > 0, similarity.sum(-1) / np.maximum(count, 1), np.nan)
