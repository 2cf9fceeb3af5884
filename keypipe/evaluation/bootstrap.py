"""How sure a figure is: bootstrap intervals over images, or over groups of images that belong together.

B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993: draw as many units as there are, with replacement,
measure again, and take percentiles over the draws. Images of one camera or animal say less than as many independent
ones; where the split has groups, groups are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.evaluation.average_precision import MatchedScores, average_precision
from keypipe.evaluation.keypoint_errors import PCK_SHARES, KeypointTable, pck_name
from keypipe.keypoints.boxes import Array

LEVEL = 0.95
FEW_UNITS = 20
"""With fewer units than these, percentiles over the draws are too narrow to be relied on."""

Weights = NDArray[np.int64]


class Interval(msgspec.Struct, frozen=True):
    """A figure with the bounds that hold it in ``LEVEL`` of the resamples."""

    value: float
    low: float
    high: float


class Intervals(msgspec.Struct, frozen=True):
    """The intervals of one split.

    Attributes:
        unit: what was drawn, ``image`` or ``group``.
        units: how many there are.
        resamples: how often they were drawn.
        figures: by name as in ``evaluation.flatten_figures``; figures that cannot be measured are left out.
    """

    unit: str
    units: int
    resamples: int
    figures: dict[str, Interval]


def draw_weights(units: Sequence[str], resamples: int, seed: int) -> Iterator[Weights]:
    """Draw resamples.

    Args:
        units: for each image the unit that it belongs to.
        resamples: how many to draw.
        seed: of the draws.

    Yields:
        int64 (n_images,), how often each image is in the sample.
    """
    names, unit_of = np.unique(np.asarray(units, dtype=object).astype(str), return_inverse=True)
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        yield drawn[unit_of].astype(np.int64)


def measure_intervals(
    matched: Mapping[str, MatchedScores],
    tables: Sequence[KeypointTable],
    units: Sequence[str],
    *,
    unit: str,
    resamples: int,
    seed: int,
) -> Intervals | None:
    """Measure the intervals of AP, AP50, AP75 and PCK.

    Args:
        matched: each class after matching by OKS.
        tables: the keypoints of all classes.
        units: for each image the unit that it belongs to.
        unit: what the units are called.
        resamples: how often to draw.
        seed: of the draws.

    Returns:
        The intervals; None without images or without resamples.
    """
    if not units or not resamples:
        return None
    names, measure = _statistic(matched, tables, len(units))
    value = measure(np.ones(len(units), dtype=np.int64))
    drawn = np.array([measure(weights) for weights in draw_weights(units, resamples, seed)])
    tail = 100 * (1 - LEVEL) / 2
    figures: dict[str, Interval] = {}
    for index, name in enumerate(names):
        known = drawn[np.isfinite(drawn[:, index]), index]  # a sample may miss all the objects
        if np.isfinite(value[index]) and len(known):
            low, high = np.percentile(known, [tail, 100 - tail])
            figures[name] = Interval(float(value[index]), float(low), float(high))
    return Intervals(unit, len(set(units)), resamples, figures)


def _statistic(
    matched: Mapping[str, MatchedScores], tables: Sequence[KeypointTable], n_images: int
) -> tuple[list[str], Callable[[Weights], Array]]:
    """Return the figures' names, and what measures them all for given weights of the images."""
    labelled = np.zeros(n_images)
    close = np.zeros((len(PCK_SHARES), n_images))
    for table in tables:
        np.add.at(labelled, table.image, (table.visibility > 0).sum(1))
        for row, share in zip(close, PCK_SHARES, strict=True):
            np.add.at(row, table.image, (table.distance_diagonals <= share).sum(1))

    def measure(weights: Weights) -> Array:
        by_class = np.array([average_precision(scores, weights) for scores in matched.values()])
        present = by_class[np.isfinite(by_class).all(1)]
        ap = present.mean(0) if len(present) else np.full(by_class.shape[1], np.nan)
        total = weights @ labelled
        pck = close @ weights / total if total else np.full(len(PCK_SHARES), np.nan)
        return np.array([ap.mean(), ap[0], ap[5], *pck])

    return ["oks_AP", "oks_AP50", "oks_AP75", *(pck_name(share) for share in PCK_SHARES)], measure
