"""How much every image pulls at AP: its derivative by the image's weight, in one pass and without a resample.

For a figure T of weighted images, ``T(w) ~ T + sum((w_i - 1) * d_i)`` near equal weights (the infinitesimal jackknife:
L. Jaeckel, "The infinitesimal jackknife", 1972; B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 21). The values sum to 0, and resampling them costs one product of matrices where AP itself wants a pass over
all detections for every resample.
"""

from __future__ import annotations

import numpy as np

from keypipe.evaluation.average_precision import OKS_THRESHOLDS, Indices, Mask, MatchedScores
from keypipe.keypoints.boxes import Array


def ap_influence(matched: MatchedScores) -> Array | None:
    """Differentiate a class's AP by the weight of every image.

    AP is taken as the area under the interpolated precision, which COCO's 101 recall values sample.

    Args:
        matched: one class.

    Returns:
        float64 (n_images,), whose sum is 0; None without a true object.
    """
    n_objects = int(matched.objects.sum())
    if n_objects == 0:
        return None
    total = np.zeros(len(matched.objects))
    for correct, counted in zip(matched.correct, matched.counted, strict=True):
        if len(correct):
            total += _influence_at(matched, correct, counted, n_objects)
    return total / len(OKS_THRESHOLDS)


def _influence_at(matched: MatchedScores, correct: Indices, counted: Mask | None, n_objects: int) -> Array:
    """Differentiate the area at one threshold.

    With ``C`` correct ones among the ``S`` first detections, precision at the k-th correct one is ``C / S`` at the best
    place ``m`` from k on, and the area is the mean of these over the true objects.
    """
    n_images, n_detections = len(matched.objects), len(matched.image)
    so_far = np.arange(1, n_detections + 1) if counted is None else np.cumsum(counted)
    right = np.arange(1, len(correct) + 1)
    precision = right / so_far[correct]
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # The place of the best from here on: the next one whose own precision is the best.
    place = np.flatnonzero(precision == best)
    place = place[np.searchsorted(place, np.arange(len(correct)))]
    among = so_far[correct[place]]
    lift, drag = np.zeros(n_detections + 1), np.zeros(n_detections + 1)
    np.add.at(lift, correct[place], 1 / among)
    np.add.at(drag, correct[place], best / among)
    lift, drag = lift[::-1].cumsum()[::-1], drag[::-1].cumsum()[::-1]
    per_detection = -drag[:n_detections]
    if counted is not None:
        per_detection = per_detection * counted
    per_detection[correct] += lift[correct] + best
    pull = np.bincount(matched.image, weights=per_detection, minlength=n_images)
    return np.asarray((pull - matched.objects * best.sum() / n_objects) / n_objects)
