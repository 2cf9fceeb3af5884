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
from keypipe.keypoints.boxes import box_iou
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema

LOOK_PX = 320
"""Longest side at which pixels are looked at."""

SMALLER = 0.75
"""Size of the smaller view."""

_GREY = 114  # as the letterbox pads
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
    height, width = image_bgr.shape[:2]
    lenient = Thresholds(thresholds.conf / 2, thresholds.iou, thresholds.max_det, thresholds.keypoint_conf)
    schema = predictor.info.schema
    mirrored = predictor.predict_image(np.ascontiguousarray(image_bgr[:, ::-1]), lenient)
    canvas = np.full((round(height / SMALLER), round(width / SMALLER), 3), _GREY, dtype=np.uint8)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    canvas[top : top + height, left : left + width] = image_bgr
    smaller = predictor.predict_image(canvas, lenient)
    return [
        _distances(predictions, [_mirror_back(found, width, schema) for found in mirrored]),
        _distances(predictions, [_moved(found, -left, -top) for found in smaller]),
    ]


_Placed = tuple[str, NDArray[np.float64], NDArray[np.float64]]
"""Class, box (4,), keypoints (n_keypoints, 2), pixels of the image."""


def _place(found: Prediction) -> _Placed:
    points = np.array([(point.x, point.y) for point in found.keypoints], dtype=np.float64).reshape(-1, 2)
    return found.class_name, np.array(found.box_xyxy, dtype=np.float64), points


def _moved(found: Prediction, x: float, y: float) -> _Placed:
    name, box, points = _place(found)
    return name, box + np.array([x, y, x, y]), points + np.array([x, y])


def _mirror_back(found: Prediction, width: int, schema: Schema) -> _Placed:
    """Turn an object of the mirrored image into one of the image: what is left there is right here."""
    name, box, points = _place(found)
    skeleton = schema.classes[name]
    partners = skeleton.partners()
    order = [skeleton.keypoints.index(partners.get(keypoint, keypoint)) for keypoint in skeleton.keypoints]
    points = points[order] * np.array([-1, 1]) + np.array([width, 0])
    return name, np.array([width - box[2], box[1], width - box[0], box[3]]), points


def _distances(predictions: Sequence[Prediction], view: Sequence[_Placed]) -> list[list[float]]:
    rows: list[list[float]] = []
    for found in predictions:
        name, box, points = _place(found)
        others = [other for other in view if other[0] == name]
        overlap = box_iou(box, np.array([other[1] for other in others])) if others else np.zeros(1)
        best = int(overlap.argmax())
        if overlap[best] < _SAME_IOU:
            rows.append([math.inf] * len(points))
            continue
        diagonal = max(float(np.hypot(box[2] - box[0], box[3] - box[1])), 1e-6)
        rows.append((np.hypot(*(points - others[best][2]).T) / diagonal).tolist())
    return rows
