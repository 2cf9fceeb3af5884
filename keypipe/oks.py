"""Object keypoint similarity and keypoint errors.

OKS of one instance is the mean over labelled keypoints of ``exp(-d**2 / (2 * area * (2 * sigma)**2))``
(https://cocodataset.org/#keypoints-eval; pycocotools ``COCOeval.computeOks`` and Ultralytics' ``kpt_iou``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

AREA_FACTOR = 0.53
"""Share of the box's area taken as the object's, where there is no mask: from xtcocotools, as Ultralytics does."""


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


def compute_oks(truth: Array, predicted: Array, area: Array, sigmas: Array) -> Array:
    """Object keypoint similarity.

    Args:
        truth: float64 (..., n_keypoints, 3), x, y in pixels and visibility.
        predicted: float64 (..., n_keypoints, 2 or more), x, y in pixels.
        area: float64 (...), the object's area in square pixels, > 0 (``AREA_FACTOR`` times the box's).
        sigmas: float64 (n_keypoints,).

    Returns:
        float64 (...) in [0, 1]; NaN where no keypoint is labelled.
    """
    squared = keypoint_distances(truth, predicted) ** 2
    exponent = squared / (2 * area[..., None] * (2 * sigmas) ** 2)
    labelled = truth[..., 2] > 0
    similarity = np.where(labelled, np.exp(-np.where(labelled, exponent, 0.0)), 0.0)
    count = labelled.sum(-1)
    return np.where(count > 0, similarity.sum(-1) / np.maximum(count, 1), np.nan)
