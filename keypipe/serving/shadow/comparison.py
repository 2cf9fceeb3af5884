"""How far apart two models are on one image, by what they answer."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec
import numpy as np

from keypipe.inference.parity import count_unmatched, match_detections
from keypipe.inference.postprocess import Detections
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction


class Difference(msgspec.Struct, frozen=True):
    """How far apart two models are on one image; each value is zero, or None, where they say the same.

    Attributes:
        champion_objects: what the model in use found.
        challenger_objects: what the other one found.
        matched: objects that both found: of one class, and the boxes overlap by half at least.
        unmatched: objects that one of them found alone, those at the score threshold not counted.
        score: largest difference of the two scores of a matched object; None without any.
        keypoints: keypoints of matched objects that both are sure of.
        unsure: keypoints of matched objects that one of them alone is sure of.
        median_diagonals: median distance of the two places of a keypoint that both are sure of, in diagonals of the
            champion's box; None without any.
        max_diagonals: the largest one.
        max_px: the largest one in pixels of the image.
        worst: the keypoint that it belongs to, such as ``cow left_ear``; empty without any.
    """

    champion_objects: int
    challenger_objects: int
    matched: int
    unmatched: int
    score: float | None
    keypoints: int
    unsure: int
    median_diagonals: float | None
    max_diagonals: float | None
    max_px: float | None
    worst: str


def compare_predictions(
    champion: Sequence[Prediction], challenger: Sequence[Prediction], thresholds: Thresholds
) -> Difference:
    """Compare what two models found on an image. Keypoints are compared by their names, also across schemas.

    Args:
        champion: what the model in use found, best score first.
        challenger: what the other one found, with the same thresholds.
        thresholds: of both; ``keypoint_conf`` says which keypoints a model is sure of.
    """
    classes = sorted({found.class_name for found in (*champion, *challenger)})
    one, two = (_to_detections(found, classes) for found in (champion, challenger))
    rows, columns = match_detections(one, two)
    pairs = [(champion[row], challenger[column]) for row, column in zip(rows, columns, strict=True)]
    unsure = 0
    distances: list[tuple[float, float, str]] = []
    for first, second in pairs:
        others = {point.name: point for point in second.keypoints}
        for point in first.keypoints:
            other = others.get(point.name)
            sure = [twin is not None and twin.confidence >= thresholds.keypoint_conf for twin in (point, other)]
            unsure += sum(sure) == 1
            if other is not None and all(sure):
                px = _distance_px(point, other)
                distances.append((px / _diagonal_px(first), px, f"{first.class_name} {point.name}"))
    worst = max(distances, default=None)
    return Difference(
        champion_objects=len(champion),
        challenger_objects=len(challenger),
        matched=len(pairs),
        unmatched=count_unmatched(one, two, thresholds.conf),
        score=round(max(abs(a.score - b.score) for a, b in pairs), 4) if pairs else None,
        keypoints=len(distances),
        unsure=unsure,
        median_diagonals=round(statistics.median(item[0] for item in distances), 5) if distances else None,
        max_diagonals=round(worst[0], 5) if worst else None,
        max_px=round(max(item[1] for item in distances), 2) if distances else None,
        worst=worst[2] if worst else "",
    )


def _to_detections(found: Sequence[Prediction], classes: Sequence[str]) -> Detections:
    """Return boxes, scores and classes as arrays, without keypoints."""
    return Detections(
        np.array([item.box_xyxy for item in found], dtype=np.float32).reshape(-1, 4),
        np.array([item.score for item in found], dtype=np.float32),
        np.array([classes.index(item.class_name) for item in found], dtype=np.int64),
        np.empty((len(found), 0, 3), dtype=np.float32),
    )


def _distance_px(one: PredictedKeypoint, two: PredictedKeypoint) -> float:
    return float(np.hypot(one.x - two.x, one.y - two.y))


def _diagonal_px(found: Prediction) -> float:
    left, top, right, bottom = found.box_xyxy
    return max(float(np.hypot(right - left, bottom - top)), 1.0)
