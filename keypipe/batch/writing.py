"""What is written of an image: pictures by choice, files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from keypipe.drawing.pictures import draw_predictions
from keypipe.images.opencv import import_cv2
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema

LEGIBLE_PX = 640
"""Smaller pictures are drawn enlarged to this, so that tags and dots do not bury the objects."""

_QUALITY = 92


class Pictures(msgspec.Struct, frozen=True):
    """Which pictures and videos are drawn.

    Attributes:
        wanted: whether there are any.
        enlarged: whether small ones are drawn enlarged, so that they are legible.
    """

    wanted: bool = True
    enlarged: bool = True


USUAL_PICTURES = Pictures()


def draw(
    image_bgr: NDArray[np.uint8],
    predictions: Sequence[Prediction],
    schema: Schema,
    keypoint_conf: float,
    longest_side_px: int | None = None,
) -> NDArray[np.uint8]:
    """Draw objects into a copy of an image, uint8 (height, width, 3), RGB; see ``draw_predictions``.

    Args:
        image_bgr: uint8 (height, width, 3), BGR.
        predictions: in pixels of the image.
        schema: the model's classes and skeletons.
        keypoint_conf: keypoints with less confidence are not drawn.
        longest_side_px: scale the picture to this first; None leaves its size.
    """
    cv2 = import_cv2()
    image_rgb = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB)
    return draw_predictions(
        image_rgb, predictions, schema, keypoint_conf=keypoint_conf, longest_side_px=longest_side_px
    )


def enlarged_side(image: NDArray[np.uint8], pictures: Pictures) -> int | None:
    """Return the longest side at which an image is drawn, pixels; None: at its own."""
    return LEGIBLE_PX if pictures.enlarged and max(image.shape[:2]) < LEGIBLE_PX else None


def encode_picture(picture_rgb: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a JPEG file.

    Colours have half the resolution, as in a camera's pictures, which takes a third of the time away: what is drawn has
    bright and dark rims and stays as sharp.
    """
    content: bytes = simplejpeg.encode_jpeg(picture_rgb, quality=_QUALITY, colorspace="RGB", colorsubsampling="420")
    return content


def put_file(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all, with few calls of the system: there are thousands.

    Args:
        path: the file; its folder is made when it is missing.
        content: all of it.
    """
    target = os.fspath(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")  # noqa: PTH118 - paths as texts, for their speed
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
        finally:
            os.close(file)
        os.replace(temporary, target)  # noqa: PTH105
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108
        raise
