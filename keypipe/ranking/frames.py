"""Frames of a video that look different from each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keypipe.images.media import BgrImage, open_video
from keypipe.ranking.appearance import describe_appearance, pick_spread

FRAMES_A_SECOND = 5.0
"""As many are looked at; between two of them little changes."""
_EVEN = 4.0  # grey levels that a frame varies by at least; less is black, or a fade


def describe_frames(
    path: Path, progress: Callable[[int, int], None] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Look at the frames of a video, some a second, in constant memory but for a few hundred bytes each.

    Args:
        path: the video.
        progress: is told how many frames are read, and how many there are; 0 for an unknown number.

    Returns:
        Their numbers from 0, int (n,), and what they look like, uint8 (n, m); those that show nothing are left out.

    Raises:
        AnnotationError: there is no such file, or it holds no frame that can be read.
    """
    numbers: list[int] = []
    looks: list[NDArray[np.uint8]] = []
    with open_video(path) as (video, frames):
        step = max(1, round(video.fps / FRAMES_A_SECOND))
        for number, frame in enumerate(frames):
            if number % step == 0:
                look = describe_appearance(frame)
                if look.std() >= _EVEN:
                    numbers.append(number)
                    looks.append(look)
            if progress:
                progress(number + 1, video.n_frames)
    width = len(looks[0]) if looks else 0
    return np.array(numbers, dtype=np.intp), np.array(looks, dtype=np.uint8).reshape(len(looks), width)


def choose_frames(
    numbers: NDArray[np.intp], looks: NDArray[np.uint8], count: int, taken: Collection[int] = ()
) -> list[int]:
    """Choose frames that look unlike each other, and unlike those that were taken before.

    Args:
        numbers: int (n,), of the frames.
        looks: uint8 (n, m), what they look like.
        count: how many.
        taken: numbers of frames that are not chosen again.

    Returns:
        At most ``count`` numbers, ascending.
    """
    before = np.isin(numbers, list(taken))
    rest = np.flatnonzero(~before)
    known = looks[before] if before.any() else None
    chosen = pick_spread(np.ones(len(rest)), looks[rest], count, known)
    return sorted(int(numbers[rest[index]]) for index in chosen)


def read_frames(path: Path, numbers: Collection[int]) -> Iterator[tuple[int, BgrImage]]:
    """Yield some frames of a video with their numbers, in its order."""
    wanted, last = set(numbers), max(numbers, default=-1)
    with open_video(path) as (_, frames):
        for number, frame in enumerate(frames):
            if number in wanted:
                yield number, frame
            if number >= last:
                return
