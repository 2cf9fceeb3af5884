"""A film of coloured spots, and a model that finds them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keypipe.keypoints.skeleton import Schema, Skeleton

SCHEMA = Schema({"spot": Skeleton(("head", "tail"), (("head", "tail"),))})
SIZE_WH = (160, 96)


def draw_spots(number: int) -> NDArray[np.uint8]:
    """Draw frame ``number``: red and green spots that cross, and a blue one that comes and goes twice; BGR."""
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 70, np.uint8)
    for channel, (x, y) in ((2, (15 + number, 30)), (1, (140 - number, 60))):
        _put(image, x, y, channel)
    if number % 30 >= 15:
        _put(image, 20 + number, 80, 0)
    return image


def _put(image: NDArray[np.uint8], x: int, y: int, channel: int) -> None:
    image[max(0, y - 7) : y + 7, max(0, x - 7) : x + 7] = [255 * (channel == index) for index in range(3)]


def write_film(path: Path, n_frames: int = 60, fps: float = 25.0) -> Path:
    """Write the film as Motion JPEG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, SIZE_WH)
    for number in range(n_frames):
        writer.write(draw_spots(number))
    writer.release()
    return path
