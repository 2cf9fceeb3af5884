"""Fitting an image into a model's input and bringing points back, as Ultralytics 8.4 does it."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.images.opencv import import_cv2

_PAD_VALUE = 114  # ultralytics.data.augment.LetterBox


class Placement(msgspec.Struct, frozen=True):
    """Where an image lies in the model's input.

    Attributes:
        image_wh: width and height of the image, pixels.
        resized_wh: its width and height inside the input, pixels.
        pad_xy: left and top margin in the input, pixels.
        input_wh: width and height of the input, pixels.
    """

    image_wh: tuple[int, int]
    resized_wh: tuple[int, int]
    pad_xy: tuple[int, int]
    input_wh: tuple[int, int]

    def to_image(self, points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring points from input pixels to image pixels and clip them to the image.

        Args:
            points_xy: float32 (..., 2), x then y, pixels of the input.

        Returns:
            float32 (..., 2), pixels of the image, 0 to its width or height.
        """
        pad = np.array(self.pad_xy, dtype=np.float32)
        gain = np.array([new / old for new, old in zip(self.resized_wh, self.image_wh, strict=True)], dtype=np.float32)
        size = np.array(self.image_wh, dtype=np.float32)
        in_image: NDArray[np.float32] = np.clip((points_xy - pad) / gain, np.float32(0), size)
        return in_image


def place_image(image_wh: tuple[int, int], input_wh: tuple[int, int]) -> Placement:
    """Compute where an image comes to lie in an input of a given size: scaled up or down, centred.

    Args:
        image_wh: width and height of the image, pixels.
        input_wh: width and height of the input, pixels.

    Returns:
        The placement.
    """
    gain = min(input_wh[1] / image_wh[1], input_wh[0] / image_wh[0])
    resized_w, resized_h = (max(round(side * gain), 1) for side in image_wh)
    # The 0.1 puts the odd pixel right and below.
    left, top = round((input_wh[0] - resized_w) / 2 - 0.1), round((input_wh[1] - resized_h) / 2 - 0.1)
    return Placement(image_wh, (resized_w, resized_h), (left, top), input_wh)


def letterbox(image_bgr: NDArray[np.uint8], imgsz: int | tuple[int, int]) -> tuple[NDArray[np.float32], Placement]:
    """Scale an image into a model's input, with grey margins.

    Args:
        image_bgr: uint8 (height, width, 3), BGR.
        imgsz: side of the square input, or its (height, width), pixels.

    Returns:
        The input as float32 (1, 3, height, width), RGB, 0 to 1; and where the image lies in it.
    """
    cv2 = import_cv2()
    input_h, input_w = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    height, width = image_bgr.shape[:2]
    placement = place_image((width, height), (input_w, input_h))
    resized = image_bgr
    if placement.resized_wh != placement.image_wh:
        resized = cv2.resize(image_bgr, placement.resized_wh, interpolation=cv2.INTER_LINEAR)
    tensor = np.full((1, 3, input_h, input_w), _PAD_VALUE / np.float32(255), dtype=np.float32)
    left, top = placement.pad_xy
    height, width = resized.shape[:2]
    # Plane by plane, since OpenCV parts channels much faster than numpy transposes.
    for channel, plane in zip((2, 1, 0), cv2.split(resized), strict=True):
        np.divide(plane, np.float32(255), out=tensor[0, channel, top : top + height, left : left + width])
    return tensor, placement
