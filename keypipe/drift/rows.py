"""What is written down of a prediction: a row for each image or frame, and nothing that says who sent it."""

from __future__ import annotations

import msgspec
import numpy as np

from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.boxes import Array, Box


class LoggedKeypoint(msgspec.Struct, frozen=True):
    """A predicted keypoint.

    Attributes:
        name: of the class's skeleton.
        x: place in the object's box, 0 at its left and 1 at its right edge; outside of it below 0 or above 1.
        y: the same from its upper to its lower edge.
        confidence: 0 to 1.
        mirrored: how far away the model puts it on the mirrored image, box diagonals; None: not looked at, infinite:
            the object is not found there.
        smaller: the same on a smaller copy of the image.
    """

    name: str
    x: float
    y: float
    confidence: float
    mirrored: float | None = None
    smaller: float | None = None


class LoggedObject(msgspec.Struct, frozen=True):
    """A predicted object.

    Attributes:
        class_name: a class of the model.
        score: 0 to 1.
        box_xyxy: left, top, right, bottom, pixels of the upright image.
        size: square root of the box's share of the image's area.
        aspect: width through height.
        keypoints: in the order of the skeleton.
    """

    class_name: str
    score: float
    box_xyxy: Box
    size: float
    aspect: float
    keypoints: list[LoggedKeypoint]


class PixelStatistics(msgspec.Struct, frozen=True):
    """What an image looks like, whatever is on it.

    Attributes:
        brightness: mean luma, 0 to 1.
        contrast: standard deviation of it.
        saturation: mean of it, 0 to 1.
        sharpness: decimal logarithm of the luma's second derivative's variance, as a share of the luma's own, at a
            longest side of ``observation.LOOK_PX``.
    """

    brightness: float
    contrast: float
    saturation: float
    sharpness: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image or frame that a model predicted on.

    Attributes:
        at: when, seconds since the epoch.
        source: ``serve`` or ``predict``; ``validation`` for what it is compared with.
        model: as results name it, such as ``models:/cows/3``.
        sha256: hash of the model's file.
        group: what belongs together, such as a video or a camera's day; "" where nobody said.
        image: path, or ``sha256:…`` of what a client sent; of a frame with its number.
        size_wh: of the upright image, pixels.
        thresholds: which objects were kept.
        pixels: what it looks like.
        views: whether the keypoints were looked for on the mirrored and on the smaller image as well.
        objects: best score first.
        picture: name of its small picture; "" without one.
    """

    at: float
    source: str
    model: str
    sha256: str
    group: str
    image: str
    size_wh: tuple[int, int]
    thresholds: Thresholds
    pixels: PixelStatistics
    views: bool
    objects: list[LoggedObject]
    picture: str = ""


def keypoints_px(found: LoggedObject) -> Array:
    """Return an object's keypoints in pixels of the image, float64 (n_keypoints, 2)."""
    left, top, right, bottom = found.box_xyxy
    places = np.array([(point.x, point.y) for point in found.keypoints], dtype=np.float64).reshape(-1, 2)
    pixels: Array = places * np.array([right - left, bottom - top]) + np.array([left, top])
    return pixels
