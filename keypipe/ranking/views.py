"""The same image seen in three ways, and how far what is found there differs.

A model that knows an image says the same of it as it is, mirrored and smaller. Where it does not, an annotation would
teach it something (disagreement between transformed copies: M. Gao et al., Consistency-based semi-supervised active
learning, ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from keypipe.images.media import BgrImage
from keypipe.inference.predictor import DEFAULT_THRESHOLDS, Predictor, Thresholds
from keypipe.inference.views import predict_mirrored, predict_smaller
from keypipe.keypoints.boxes import box_iou
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema

MATCH_IOU = 0.5
FAR = 0.2
"""Box diagonals; a keypoint that two views put so far apart could not be less agreed upon."""


class Views(msgspec.Struct, frozen=True):
    """What was found in the views of an image, in pixels of the image itself.

    Attributes:
        plain: as it is.
        mirrored: mirrored, with the partners of pairs exchanged; objects of classes without pairs are left out, since a
            mirrored one may be something that the model was never meant to know.
        smaller: with a border, so that everything is smaller.
    """

    plain: list[Prediction]
    mirrored: list[Prediction]
    smaller: list[Prediction]


def predict_views(predictor: Predictor, image_bgr: BgrImage, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Views:
    """Predict on an image as it is, mirrored and smaller.

    Args:
        predictor: the model.
        image_bgr: uint8 (height, width, 3).
        thresholds: which objects count.
    """
    schema = predictor.info.schema
    mirrored = predict_mirrored(predictor, image_bgr, thresholds) if schema.has_pairs else []
    return Views(
        predictor.predict_image(image_bgr, thresholds),
        [found for found in mirrored if schema.classes[found.class_name].pairs],
        predict_smaller(predictor, image_bgr, thresholds),
    )


def disagreement(views: Views, schema: Schema, keypoint_conf: float) -> float:
    """Say how far the views of an image differ, from 0 for all the same to 1.

    Args:
        views: of the image.
        schema: of the model.
        keypoint_conf: confidence from which a keypoint counts; below it its place means little.

    Returns:
        The mean over all objects and both other views; an object that only one of two views has counts 1.
    """
    with_pairs = [found for found in views.plain if schema.classes[found.class_name].pairs]
    parts = [
        *_differences(with_pairs, views.mirrored, keypoint_conf),
        *_differences(views.plain, views.smaller, keypoint_conf),
    ]
    return float(np.mean(parts)) if parts else 0.0


def _differences(first: Sequence[Prediction], second: Sequence[Prediction], keypoint_conf: float) -> list[float]:
    free = list(second)
    parts: list[float] = []
    for found in first:
        same = [other for other in free if other.class_name == found.class_name]
        boxes = np.array([other.box_xyxy for other in same], dtype=np.float64).reshape(-1, 4)
        overlap = box_iou(np.array(found.box_xyxy, dtype=np.float64), boxes)
        if not same or overlap.max() < MATCH_IOU:
            parts.append(1.0)
            continue
        other = same[int(overlap.argmax())]
        free = [item for item in free if item is not other]
        parts.append(_distance(found, other, keypoint_conf))
    return parts + [1.0] * len(free)


def _distance(one: Prediction, other: Prediction, keypoint_conf: float) -> float:
    """Return the mean distance of keypoints, ``FAR`` being 1; one that only one of the two shows counts 1 as well."""
    left, top, right, bottom = one.box_xyxy
    diagonal = max(float(np.hypot(right - left, bottom - top)), 1.0)
    parts: list[float] = []
    for a, b in zip(one.keypoints, other.keypoints, strict=True):
        shown = (a.confidence >= keypoint_conf) + (b.confidence >= keypoint_conf)
        if shown == 2:
            parts.append(min(1.0, float(np.hypot(a.x - b.x, a.y - b.y)) / diagonal / FAR))
        elif shown == 1:
            parts.append(1.0)
    return float(np.mean(parts)) if parts else 0.0
