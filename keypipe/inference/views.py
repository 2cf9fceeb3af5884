"""The same image seen in another way, and what is found there in pixels of the image itself."""

from __future__ import annotations

import msgspec
import numpy as np

from keypipe.images.media import BgrImage
from keypipe.inference.predictor import DEFAULT_THRESHOLDS, Predictor, Thresholds
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import Schema

SMALLER = 0.75
"""Share of its size that everything has in the view from farther away."""

_GREY = 114  # of the border, as around every image that is shown to a model


def predict_mirrored(
    predictor: Predictor, image_bgr: BgrImage, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> list[Prediction]:
    """Predict on the mirrored image, and mirror back what was found, with the partners of pairs exchanged.

    Args:
        predictor: the model.
        image_bgr: uint8 (height, width, 3).
        thresholds: which objects count.
    """
    alone = msgspec.structs.replace(thresholds, mirror=msgspec.UNSET)
    found = predictor.predict_image(np.ascontiguousarray(image_bgr[:, ::-1]), alone)
    return [_mirror(item, image_bgr.shape[1], predictor.info.schema) for item in found]


def predict_smaller(
    predictor: Predictor, image_bgr: BgrImage, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> list[Prediction]:
    """Predict on the image with a border around it, so that everything is smaller.

    Args:
        predictor: the model.
        image_bgr: uint8 (height, width, 3).
        thresholds: which objects count.
    """
    height, width = image_bgr.shape[:2]
    dx, dy = (round(side * (1 / SMALLER - 1) / 2) for side in (width, height))
    framed = np.full((height + 2 * dy, width + 2 * dx, 3), _GREY, dtype=np.uint8)
    framed[dy : dy + height, dx : dx + width] = image_bgr
    return [_shift(found, -dx, -dy) for found in predictor.predict_image(framed, thresholds)]


def _mirror(found: Prediction, width: int, schema: Schema) -> Prediction:
    skeleton = schema.classes[found.class_name]
    partners = skeleton.partners()
    left, top, right, bottom = found.box_xyxy
    by_name = {
        partners.get(point.name, point.name): PredictedKeypoint(
            partners.get(point.name, point.name), width - point.x, point.y, point.confidence
        )
        for point in found.keypoints
    }
    points = [by_name[name] for name in skeleton.keypoints]
    return Prediction(found.class_name, found.score, (width - right, top, width - left, bottom), points)


def _shift(found: Prediction, dx: float, dy: float) -> Prediction:
    left, top, right, bottom = found.box_xyxy
    points = [PredictedKeypoint(point.name, point.x + dx, point.y + dy, point.confidence) for point in found.keypoints]
    return Prediction(found.class_name, found.score, (left + dx, top + dy, right + dx, bottom + dy), points)
