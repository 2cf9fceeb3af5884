"""COCO's average precision by OKS, split in two: the matching, done once, and the curve, drawn for any weights.

A bootstrap asks for the AP of a thousand resamples of the same images. Matching objects with detections happens within
an image and does not depend on the sample, so it is done once; what is left of a resample is one pass over the sorted
scores. The rules are those of pycocotools' ``COCOeval.evaluateImg`` and ``accumulate``; a test holds both to them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile
from keypipe.evaluation.matching import Detection
from keypipe.evaluation.oks import AREA_FACTOR, AreaRule, compute_oks, object_areas
from keypipe.keypoints.boxes import Array

OKS_THRESHOLDS: Array = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS: Array = np.linspace(0.0, 1.0, 101)

COCO_MAX_DETS = 20
"""COCO's limit of detections an image for keypoints."""

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


class MatchedScores(msgspec.Struct, frozen=True):
    """The detections of one class after matching: all that average precision needs to know.

    Attributes:
        image: intp (n_detections,), position of each detection's image among the images; best score first.
        correct: for each of ``OKS_THRESHOLDS`` the positions of the detections that match an object, rising.
        counted: for each threshold bool (n_detections,), False for those that match an object without a labelled
            keypoint, which COCO neither rewards nor punishes; None where all of them count.
        objects: int64 (n_images,), true objects with a labelled keypoint on each image.
    """

    image: Indices
    correct: tuple[Indices, ...]
    counted: tuple[Mask | None, ...]
    objects: NDArray[np.int64]


def count_detections(truth: CocoFile) -> int:
    """Return how many detections an image count: COCO's 20, or the largest number of objects on an image."""
    by_image: dict[int, int] = defaultdict(int)
    for annotation in truth.annotations:
        by_image[annotation.image_id] += 1
    return max(COCO_MAX_DETS, *by_image.values(), 0)


def match_by_oks(
    truth: CocoFile,
    detections: Sequence[Detection],
    sigmas: Mapping[str, Array],
    area_factor: float = AREA_FACTOR,
    *,
    area_rule: AreaRule = "box",
) -> dict[str, MatchedScores]:
    """Match detections with true objects by OKS, for each class and each of ``OKS_THRESHOLDS``.

    Args:
        truth: COCO file.
        detections: all of them, low scores included.
        sigmas: per class name, one value per keypoint.
        area_factor: share of the box's area that stands for the object's.
        area_rule: what the object's area is.

    Returns:
        By class name.
    """
    limit = count_detections(truth)
    position = {image.id: index for index, image in enumerate(truth.images)}
    objects: dict[tuple[int, int], list[CocoAnnotation]] = defaultdict(list)
    found: dict[tuple[int, int], list[Detection]] = defaultdict(list)
    for annotation in truth.annotations:
        objects[annotation.category_id, position[annotation.image_id]].append(annotation)
    for detection in detections:
        found[detection.category_id, position[detection.image_id]].append(detection)
    matched: dict[str, MatchedScores] = {}
    for category in truth.categories:
        parts: list[_ImageMatch] = []
        for index in range(len(truth.images)):
            key = (category.id, index)
            best = sorted(found[key], key=lambda item: -item.score)[:limit]
            areas = object_areas(objects[key], area_rule, area_factor)
            parts.append(_match_image(objects[key], best, areas, sigmas[category.name], category))
        matched[category.name] = _join(parts)
    return matched


class _ImageMatch(msgspec.Struct, frozen=True):
    """One image's detections, best first: scores (n,), and matched and ignored (n_thresholds, n)."""

    scores: Array
    matched: Mask
    ignored: Mask
    n_objects: int


def _match_image(
    objects: Sequence[CocoAnnotation],
    found: Sequence[Detection],
    areas: Array,
    sigmas: Array,
    category: CocoCategory,
) -> _ImageMatch:
    scores = np.array([item.score for item in found], dtype=np.float64)
    shape = (len(OKS_THRESHOLDS), len(found))
    matched, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    empty = np.array([item.num_keypoints == 0 for item in objects], dtype=bool)
    n_objects = int((~empty).sum())
    if not objects or not found:
        return _ImageMatch(scores, matched, ignored, n_objects)
    oks = _oks_matrix(objects, found, areas, sigmas, len(category.keypoints))
    thresholds = np.minimum(OKS_THRESHOLDS, 1 - 1e-10)
    free = np.ones((len(thresholds), len(objects)), dtype=bool)
    rows = np.arange(len(thresholds))
    for index in np.flatnonzero(oks.max(1) >= thresholds[0]):
        near = free & (oks[index] >= thresholds[:, None])
        # An object with keypoints goes first; of equal ones COCO takes the last.
        rank = np.where(near, oks[index] + 2.0 * ~empty, -1.0)
        best = len(objects) - 1 - rank[:, ::-1].argmax(1)
        hit = near[rows, best]
        matched[:, index] = hit
        ignored[:, index] = hit & empty[best]
        free[rows[hit], best[hit]] = False
    return _ImageMatch(scores, matched, ignored, n_objects)


def _oks_matrix(
    objects: Sequence[CocoAnnotation], found: Sequence[Detection], areas: Array, sigmas: Array, n_keypoints: int
) -> Array:
    """OKS of every detection with every object, float64 (n_detections, n_objects)."""
    truth = np.array([item.keypoints for item in objects], dtype=np.float64).reshape(-1, n_keypoints, 3)
    predicted = np.array([item.keypoints for item in found], dtype=np.float64).reshape(-1, n_keypoints, 3)
    oks = compute_oks(truth[None], predicted[:, None], np.broadcast_to(areas, (len(found), len(objects))), sigmas)
    for column in np.flatnonzero(~(truth[..., 2] > 0).any(1)).tolist():
        # An object without keypoints takes up detections whose points lie in its box, doubled on every side.
        left, top, width, height = objects[column].bbox
        beyond = [
            np.maximum(0.0, low - values) + np.maximum(0.0, values - high)
            for values, low, high in (
                (predicted[..., 0], left - width, left + 2 * width),
                (predicted[..., 1], top - height, top + 2 * height),
            )
        ]
        guarded = areas[column] + np.spacing(1)
        exponent = (beyond[0] ** 2 + beyond[1] ** 2) / (2 * guarded * (2 * sigmas) ** 2)
        oks[:, column] = np.exp(-exponent).mean(1)
    return oks


def _join(parts: Sequence[_ImageMatch]) -> MatchedScores:
    """Sort the detections of all images by score; equal scores stay in the order of their images, as in COCO."""
    objects = np.array([part.n_objects for part in parts], dtype=np.int64)
    empty = np.zeros((len(OKS_THRESHOLDS), 0), dtype=bool)
    scores = np.concatenate([np.empty(0), *(part.scores for part in parts)])
    image = np.repeat(np.arange(len(parts)), [len(part.scores) for part in parts])
    matched = np.concatenate([empty, *(part.matched for part in parts)], axis=1)
    ignored = np.concatenate([empty, *(part.ignored for part in parts)], axis=1)
    order = np.argsort(-scores, kind="stable")
    matched, ignored = matched[:, order], ignored[:, order]
    # What comes after the last match of all lowers no point of the curve.
    end = 1 + max(np.flatnonzero(matched.any(0)), default=-1)
    return MatchedScores(
        image[order][:end],
        tuple(np.flatnonzero(row) for row in matched & ~ignored),
        tuple(~row[:end] if row.any() else None for row in ignored),
        objects,
    )


def precision_curves(matched: MatchedScores, weights: NDArray[np.int64] | None = None) -> Array | None:
    """Precision at each of ``RECALL_THRESHOLDS``, interpolated as COCO does.

    Args:
        matched: one class.
        weights: int64 (n_images,), how often each image is in the sample; None: once.

    Returns:
        float64 (n_thresholds, 101); None where the sample holds no object.
    """
    weights = np.ones(len(matched.objects), dtype=np.int64) if weights is None else weights
    n_objects = int(weights @ matched.objects)
    if n_objects == 0:
        return None
    times = weights[matched.image]
    all_so_far = np.cumsum(times)
    curves = np.zeros((len(OKS_THRESHOLDS), len(RECALL_THRESHOLDS)))
    for curve, correct, counted in zip(curves, matched.correct, matched.counted, strict=True):
        if not len(correct):
            continue
        # A detection in the sample w times is w equal detections in a row. Precision rises within such a row of correct
        # ones and recall stands still within one of wrong ones, so the row's end says all that the curve needs.
        right = np.cumsum(times[correct])
        so_far = all_so_far if counted is None else np.cumsum(np.where(counted, times, 0))
        precision = right / (so_far[correct] + np.spacing(1))
        best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(right / n_objects, RECALL_THRESHOLDS, side="left")
        inside = reached < len(correct)
        curve[inside] = best_from_here[reached[inside]]
    return curves


def average_precision(matched: MatchedScores, weights: NDArray[np.int64] | None = None) -> Array:
    """AP at each of ``OKS_THRESHOLDS``; its mean is COCO's AP, its first value AP50.

    Args:
        matched: one class.
        weights: int64 (n_images,), how often each image is in the sample; None: once.

    Returns:
        float64 (n_thresholds,); NaN where the sample holds no object.
    """
    curves = precision_curves(matched, weights)
    return np.full(len(OKS_THRESHOLDS), np.nan) if curves is None else np.asarray(curves.mean(1))
