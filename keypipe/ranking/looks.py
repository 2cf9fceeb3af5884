"""What an image without labels would teach: what a model makes of it, as numbers that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.diagnosis.outliers import Examiner
from keypipe.images.media import BgrImage
from keypipe.inference.predictor import DEFAULT_THRESHOLDS, Predictor, Thresholds
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema
from keypipe.ranking.views import disagreement, predict_views

FAINT = 0.05
"""Smallest score of an object that is not taken for one, and still says that something may be there."""

SIGNALS = ("disagreement", "uncertainty", "unusual")


class Look(msgspec.Struct, frozen=True):
    """What a model makes of an image.

    Attributes:
        predictions: what it found, pixels.
        disagreement: how far the image, its mirror image and a smaller one differ, 0 to 1.
        uncertainty: how undecided the scores of objects and the confidences of keypoints are, 0 to 1; 1 is even.
        unusual: how far the most unusual object's shape is from what is annotated, in usual deviations; NaN where no
            object has enough keypoints, or too few are annotated to know.
    """

    predictions: list[Prediction]
    disagreement: float
    uncertainty: float
    unusual: float


def look_at(
    predictor: Predictor,
    image_bgr: BgrImage,
    examiners: Mapping[str, Examiner],
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> Look:
    """Look at an image with a model.

    Args:
        predictor: the model.
        image_bgr: uint8 (height, width, 3).
        examiners: for each class that enough is annotated of, what shapes are usual.
        thresholds: which objects count, and from when on a keypoint does.
    """
    schema = predictor.info.schema
    views = predict_views(predictor, image_bgr, thresholds)
    return Look(
        views.plain,
        disagreement(views, schema, thresholds.keypoint_conf),
        _uncertainty(predictor, image_bgr, views.plain, thresholds),
        _unusual(views.plain, schema, examiners, thresholds.keypoint_conf),
    )


def _uncertainty(
    predictor: Predictor, image_bgr: BgrImage, found: Sequence[Prediction], thresholds: Thresholds
) -> float:
    if not found:
        if thresholds.conf <= FAINT:
            return 0.0
        lower = Thresholds(FAINT, thresholds.iou, 1, thresholds.keypoint_conf)
        return max((_undecided(faint.score) for faint in predictor.predict_image(image_bgr, lower)), default=0.0)
    parts = [
        np.mean([_undecided(value) for value in (item.score, *(point.confidence for point in item.keypoints))])
        for item in found
    ]
    return float(np.mean(parts))


def _undecided(probability: float) -> float:
    return 1.0 - abs(2.0 * probability - 1.0)


def _unusual(
    found: Sequence[Prediction], schema: Schema, examiners: Mapping[str, Examiner], keypoint_conf: float
) -> float:
    distances: list[float] = []
    for name, examiner in examiners.items():
        if name not in schema.classes:
            continue
        shapes = [
            [complex(p.x, p.y) if p.confidence >= keypoint_conf else complex(np.nan, np.nan) for p in item.keypoints]
            for item in found
            if item.class_name == name
        ]
        if shapes:
            distances += [value for value in examiner.distances(np.array(shapes)).tolist() if np.isfinite(value)]
    return max(distances, default=float("nan"))


def score_looks(looks: Sequence[Look], signals: Sequence[str] = SIGNALS) -> NDArray[np.float64]:
    """Score images among each other: the mean of their ranks, since the signals have no scale in common.

    Args:
        looks: of all images that are compared.
        signals: which count; attributes of ``Look``.

    Returns:
        float (n,), 0 to 1; the more, the more an image would teach. What a signal does not know counts as its middle.
    """
    columns = [np.array([getattr(look, name) for look in looks], dtype=np.float64) for name in signals]
    return np.mean([_rank(column) for column in columns], axis=0) if looks else np.zeros(0)


def _rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks from 0 to 1, equal ones for equal values; 0.5 for NaN."""
    known = np.isfinite(values)
    ranks = np.full(len(values), 0.5)
    ordered, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(ordered) > 1:
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        middle = first + (counts - 1) / 2
        ranks[known] = (middle / (known.sum() - 1))[place]
    return ranks
