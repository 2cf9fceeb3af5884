"""An image and what was found on it as a row: statistics of its pixels, geometry, and how far two other views disagree.

A keypoint that moves when the image is mirrored or made smaller is a keypoint that the model is not sure of; its
confidence says little of that, since it is trained on whether a keypoint is labelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keypipe.drift.rows import LoggedKeypoint, LoggedObject, PixelStatistics
from keypipe.images.opencv import import_cv2
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.views import predict_mirrored, predict_smaller
from keypipe.keypoints.boxes import box_iou
from keypipe.keypoints.predictions import Prediction

LOOK_PX = 320
"""Longest side at which pixels are looked at."""

_SAME_IOU = 0.5

BgrImage = NDArray[np.uint8]


def look_at_pixels(image_bgr: BgrImage) -> PixelStatistics:
    """Compute the statistics of an image, uint8 (height, width, 3), BGR."""
    cv2 = import_cv2()
    scale = LOOK_PX / max(image_bgr.shape[:2])
    size_wh = max(1, round(image_bgr.shape[1] * scale)), max(1, round(image_bgr.shape[0] * scale))
    resampling = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image_bgr, size_wh, interpolation=resampling) if scale != 1 else image_bgr
    luma = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255
    high, low = small.max(axis=2).astype(np.float32), small.min(axis=2).astype(np.float32)
    variance = float(luma.var())
    edges = float(cv2.Laplacian(luma, cv2.CV_32F).var())
    return PixelStatistics(
        brightness=round(float(luma.mean()), 4),
        contrast=round(math.sqrt(variance), 4),
        saturation=round(float(((high - low) / np.maximum(high, 1)).mean()), 4),
        sharpness=round(math.log10((edges + 1e-6) / (variance + 1e-4)), 4),
    )


def to_objects(
    predictions: Sequence[Prediction], size_wh: tuple[int, int], views: Sequence[Sequence[Sequence[float]]] = ()
) -> list[LoggedObject]:
    """Turn predictions into what is logged of them.

    Args:
        predictions: in pixels of the upright image.
        size_wh: of it.
        views: as ``compare_views`` gives them; empty: not looked at.
    """
    objects: list[LoggedObject] = []
    for index, found in enumerate(predictions):
        left, top, right, bottom = found.box_xyxy
        width, height = max(right - left, 1e-6), max(bottom - top, 1e-6)
        mirrored, smaller = (view[index] for view in views) if views else (None, None)
        points = [
            LoggedKeypoint(
                point.name,
                round((point.x - left) / width, 4),
                round((point.y - top) / height, 4),
                point.confidence,
                round(mirrored[k], 4) if mirrored else None,
                round(smaller[k], 4) if smaller else None,
            )
            for k, point in enumerate(found.keypoints)
        ]
        size = math.sqrt(width * height / max(size_wh[0] * size_wh[1], 1))
        objects.append(
            LoggedObject(
                found.class_name, found.score, found.box_xyxy, round(size, 4), round(width / height, 4), points
            )
        )
    return objects


def compare_views(
    predictor: Predictor, image_bgr: BgrImage, predictions: Sequence[Prediction], thresholds: Thresholds
) -> list[list[list[float]]]:
    """Look for the objects on the mirrored and on the smaller image; the model runs twice.

    Args:
        predictor: the model.
        image_bgr: uint8 (height, width, 3), BGR, upright.
        predictions: what was found on it.
        thresholds: which objects are kept; of the views those of half the score as well.

    Returns:
        For the mirrored and for the smaller view: for each object, for each keypoint, the distance of the view's
        from the image's, in box diagonals; infinite where the view has no such object.
    """
    lenient = Thresholds(thresholds.conf / 2, thresholds.iou, thresholds.max_det, thresholds.keypoint_conf)
    return [
        _distances(predictions, predict_mirrored(predictor, image_bgr, lenient)),
        _distances(predictions, predict_smaller(predictor, image_bgr, lenient)),
    ]


def _place(found: Prediction) -> NDArray[np.float64]:
    return np.array([(point.x, point.y) for point in found.keypoints], dtype=np.float64).reshape(-1, 2)


def _distances(predictions: Sequence[Prediction], view: Sequence[Prediction]) -> list[list[float]]:
    rows: list[list[float]] = []
    for found in predictions:
        points, box = _place(found), np.array(found.box_xyxy, dtype=np.float64)
        others = [other for other in view if other.class_name == found.class_name]
        overlap = box_iou(box, np.array([other.box_xyxy for other in others])) if others else np.zeros(1)
        best = int(overlap.argmax())
        if overlap[best] < _SAME_IOU:
            rows.append([math.inf] * len(points))
            continue
        diagonal = max(float(np.hypot(box[2] - box[0], box[3] - box[1])), 1e-6)
        rows.append((np.hypot(*(points - _place(others[best])).T) / diagonal).tolist())
    return rows
