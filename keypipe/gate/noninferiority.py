"""Is a figure above a limit, beyond chance: one-sided bounds by a paired bootstrap over groups.

A lower bound is the lower of two:

- the studentised bootstrap (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 12), which
  follows the skewness of rare, large losses. Models are paired: a resample holds both models' groups.
- Student's t with one group more, on which the challenger fails altogether where the reference does not: harm that the
  test split happened not to hold. It is what the "rule of three" says of events that were not seen (J. Hanley and A.
  Lippman-Hand, JAMA 249, 1983), and the bootstrap, which draws what was seen alone, cannot know of it.

docs/retraining.md shows how often both together, at this level, are wrong.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from keypipe.keypoints.boxes import Array
from keypipe.splits.power import LEVEL

RESAMPLES = 2000


class Bounds(msgspec.Struct, frozen=True):
    """A figure and how sure it is.

    Attributes:
        value: what was measured.
        standard_error: of it; None below ``power.MIN_GROUPS``.
        low: the true value is above it; None: there is no such bound.
        high: the true value is below it.
    """

    value: float
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None


def find_bounds(values: Array, pulls: Array, seed: int, level: float = LEVEL) -> list[Bounds]:
    """Bound some figures.

    Args:
        values: float64 (n_figures,), as measured.
        pulls: float64 (n_groups, n_figures), how much each group pulls at them.
        seed: of the resamples.
        level: chance that a bound, low or high, is wrong.

    Returns:
        One for each figure.
    """
    n_groups = len(pulls)
    errors = standard_errors(pulls)
    drawn = studentise(pulls, seed)
    with np.errstate(invalid="ignore"):  # 0 * inf where nothing differs
        upper, lower = (np.quantile(drawn, q, axis=0, method="inverted_cdf") for q in (1 - level, level))
        steps_down = np.nan_to_num(errors * upper, nan=0.0, posinf=np.inf)
        steps_up = np.nan_to_num(errors * lower, nan=0.0, neginf=-np.inf)
    quantile = student.ppf(1 - level, n_groups - 1)
    unseen = 1 / n_groups
    low = values - np.maximum(steps_down, unseen + quantile * np.hypot(errors, unseen))
    high = values + np.maximum(-steps_up, quantile * errors)
    return [
        Bounds(float(value), float(error), _finite(a), _finite(b))
        for value, error, a, b in zip(values, errors, low, high, strict=True)
    ]


class Levels(msgspec.Struct, frozen=True):
    """Two one-sided tests of each figure against a limit.

    Attributes:
        above: float64 (n_figures,), the smallest level at which the lower bound lies above the limit.
        below: the smallest level at which the upper bound lies below it.
    """

    above: Array
    below: Array


def find_levels(limits: Array, values: Array, pulls: Array, seed: int) -> Levels:
    """Test some figures against limits.

    Args:
        limits: float64 (n_figures,).
        values: float64 (n_figures,), as measured.
        pulls: float64 (n_groups, n_figures), how much each group pulls at them.
        seed: of the resamples.
    """
    n_groups = len(pulls)
    errors = standard_errors(pulls)
    drawn = studentise(pulls, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num((values - limits) / errors, nan=0.0, posinf=np.inf, neginf=-np.inf)
    unseen = 1 / n_groups
    with_unseen = student.sf((values - unseen - limits) / np.hypot(errors, unseen), n_groups - 1)
    above = (1 + (drawn >= ratios).sum(0)) / (1 + RESAMPLES)
    below = (1 + (drawn <= ratios).sum(0)) / (1 + RESAMPLES)
    return Levels(np.maximum(above, with_unseen), np.maximum(below, student.cdf(ratios, n_groups - 1)))


def standard_errors(pulls: Array) -> Array:
    """Return the standard error of each figure, float64 (n_figures,)."""
    n_groups = len(pulls)
    return np.asarray(np.sqrt(n_groups / (n_groups - 1) * (pulls**2).sum(0)))


def studentise(pulls: Array, seed: int) -> Array:
    """Draw groups again and again, and measure each figure's change in its own standard errors.

    Args:
        pulls: float64 (n_groups, n_figures), whose columns add up to 0.
        seed: of the resamples.

    Returns:
        float32 (``RESAMPLES``, n_figures); infinite where a resample changes the figure and has no spread.
    """
    n_groups, n_figures = pulls.shape
    scale = np.sqrt((pulls**2).sum(0))
    scaled = pulls / np.where(scale > 0, scale, 1)
    sums = draw_weights(n_groups, seed) @ np.concatenate([scaled, scaled**2], axis=1).astype(np.float32)
    change, squares = sums[:, :n_figures], sums[:, n_figures:]
    spread = np.sqrt(np.maximum(n_groups / (n_groups - 1) * (squares - change**2 / n_groups), 0))
    change[np.abs(change) < _ROUNDING] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = change / np.where(spread < _ROUNDING, 0, spread)
    return np.asarray(np.where(change == 0, 0, ratios))


_ROUNDING = 1e-4
"""What single precision may make of nothing, for values of size 1."""


@lru_cache(maxsize=8)
def draw_weights(n_groups: int, seed: int) -> NDArray[np.float32]:
    """Return how often each group is in each resample, float32 (``RESAMPLES``, n_groups)."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, n_groups, (RESAMPLES, n_groups)) + n_groups * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=drawn.size)
    return counts.reshape(drawn.shape).astype(np.float32)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
