"""How images look, as numbers, and choosing among them such that what is chosen looks different."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keypipe.images.media import BgrImage
from keypipe.images.opencv import import_cv2

SIDE_PX = 12
"""Of the thumbnail that stands for an image: light, colours and where they are; no detail."""

_SAMPLE = 400  # of which distances are measured to know what is usual


def describe_appearance(image_bgr: BgrImage) -> NDArray[np.uint8]:
    """Return what an image looks like from afar.

    Args:
        image_bgr: uint8 (height, width, 3).

    Returns:
        uint8 (432,), a thumbnail's values; images that look alike have a small Euclidean distance.
    """
    cv2 = import_cv2()
    small: NDArray[np.uint8] = cv2.resize(image_bgr, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    return small.reshape(-1)


def pick_spread(
    scores: NDArray[np.float64],
    looks: NDArray[np.uint8],
    count: int,
    known: NDArray[np.uint8] | None = None,
) -> list[int]:
    """Choose images of a high score that look unlike each other.

    One after the other is chosen, each time the one of the largest score times how far it looks from all that are
    chosen or known, at most as far as two images usually look from each other. So a neighbour of a chosen frame counts
    next to nothing, and what looks different enough is chosen for its score alone.

    Args:
        scores: float (n,), 0 or more; the more, the sooner.
        looks: uint8 (n, m), see ``describe_appearance``.
        count: how many.
        known: uint8 (k, m), of images that need not be shown again, such as those annotated already.

    Returns:
        At most ``count`` indices, in the order in which they were chosen.
    """
    values = looks.astype(np.float32)
    usual = _usual_distance(values)
    nearest = np.full(len(values), np.inf)
    for row in [] if known is None else known.astype(np.float32):
        nearest = np.minimum(nearest, np.linalg.norm(values - row, axis=1))
    left = np.ones(len(values), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(count, len(values))):
        worth = (np.maximum(scores, 0) + 1e-9) * np.minimum(1.0, nearest / usual)
        best = int(np.argmax(np.where(left, worth, -1.0)))
        left[best] = False
        chosen.append(best)
        nearest = np.minimum(nearest, np.linalg.norm(values - values[best], axis=1))
    return chosen


def _usual_distance(values: NDArray[np.float32]) -> float:
    """Return the median distance of two images; 1 where all look the same."""
    step = max(1, len(values) // _SAMPLE)
    sample = values[::step][:_SAMPLE]
    pairs = np.triu_indices(len(sample), 1)
    if not len(pairs[0]):
        return 1.0
    squares = (sample**2).sum(axis=1)
    squared = np.maximum(squares[:, None] + squares[None] - 2 * sample @ sample.T, 0)[pairs]
    return float(np.sqrt(np.median(squared))) or 1.0
