"""Frames with objects, for the tests of identities."""

from __future__ import annotations

import numpy as np

from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import Schema, Skeleton
from keypipe.tracks.similarity import Objects

SCHEMA = Schema({"cow": Skeleton(("nose", "tail"), (("nose", "tail"),)), "dog": Skeleton(("nose",))})
NAMES = {name: skeleton.keypoints for name, skeleton in SCHEMA.classes.items()}


def cow(x: float, y: float = 50.0, score: float = 0.9, facing: int = 1) -> Prediction:
    """Return a cow of 40 x 20 pixels around a place; ``facing`` says on which side its nose is."""
    nose = PredictedKeypoint("nose", x + 18 * facing, y - 5, 0.9)
    tail = PredictedKeypoint("tail", x - 18 * facing, y - 5, 0.8)
    return Prediction("cow", score, (x - 20, y - 10, x + 20, y + 10), [nose, tail])


def dog(x: float, y: float = 50.0, score: float = 0.9) -> Prediction:
    """Return a dog of 20 x 20 pixels around a place."""
    return Prediction("dog", score, (x - 10, y - 10, x + 10, y + 10), [PredictedKeypoint("nose", x, y, 0.9)])


def to_arrays(predictions: list[Prediction]) -> Objects:
    """Return predictions as the tracker takes them."""
    points = np.zeros((len(predictions), 2, 3))
    for row, found in enumerate(predictions):
        points[row, : len(found.keypoints)] = [(point.x, point.y, point.confidence) for point in found.keypoints]
    return Objects(
        np.array([list(NAMES).index(found.class_name) for found in predictions], np.int64),
        np.array([found.score for found in predictions], np.float64),
        np.array([found.box_xyxy for found in predictions], np.float64).reshape(-1, 4),
        points,
    )
