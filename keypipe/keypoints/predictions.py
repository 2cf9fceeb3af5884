"""What a model found on an image, by name."""

from __future__ import annotations

import msgspec

DEFAULT_CONF = 0.25
"""Smallest score of an object that is predicted, unless told otherwise."""

DEFAULT_MAX_DET = 300
"""Objects that are predicted on an image at most, unless told otherwise."""

DEFAULT_KEYPOINT_CONF = 0.5
"""Confidence from which a predicted keypoint counts as visible and is shown, unless told otherwise."""


class PredictedKeypoint(msgspec.Struct, frozen=True):
    """A predicted keypoint: x and y in pixels of the upright image, and the confidence, 0 to 1."""

    name: str
    x: float
    y: float
    confidence: float


class Prediction(msgspec.Struct, frozen=True):
    """One predicted object.

    Attributes:
        class_name: a class of the schema.
        score: confidence in the object, 0 to 1.
        box_xyxy: left, top, right, bottom in pixels, inside the image.
        keypoints: every keypoint of the class in schema order, however low its confidence.
    """

    class_name: str
    score: float
    box_xyxy: tuple[float, float, float, float]
    keypoints: list[PredictedKeypoint]
