"""Two-sample tests of a window against a reference, of whole units, and how large the differences are.

Values of a video are no independent witnesses, so units are exchanged between the two sides and never single values:
a permutation test of the difference between the units' mean ranks, each divided by its standard error, which holds its
level also where units of the two sides vary unlike (E. Chung and J. Romano, "Exact and asymptotically robust
permutation tests", Annals of Statistics 41, 2013). Two questions are asked of each feature: are its values larger or
smaller (mean rank), and are they more or less spread (mean distance of the rank from the middle)? All questions
together are corrected by Holm's method. Significance alone is no alarm: with enough units everything is significant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from keypipe.drift.features import Array, Family, Feature

ALARMING: tuple[Family, ...] = ("outputs", "geometry")
"""Families whose drift is an alarm. Other pixels that the model answers as ever are told, and are none."""

MIN_UNITS = 5
"""Fewer units on a side show nothing."""

PERMUTATIONS = 19_999
_FEW_PERMUTATIONS = 1999
_MOST_PERMUTATIONS = 200_000
_MARGIN = 2
_BLOCK = 2000

Question = Literal["level", "spread"]


class Difference(msgspec.Struct, frozen=True):
    """What one question to one feature gave.

    Attributes:
        name: of the feature.
        title: of the feature.
        family: of the feature.
        question: ``level``: larger or smaller; ``spread``: more or less spread.
        reference: median of the reference's values, each unit counting alike.
        window: the same of the window's.
        effect: -1 to 1: how much more often a value of the window is larger (or farther from the middle) than one of
            the reference, than it is smaller (Cliff's delta); each unit counts alike.
        p: of the test.
        adjusted: after Holm's correction.
        units: of the window that have values.
    """

    name: str
    title: str
    family: Family
    question: Question
    reference: float
    window: float
    effect: float
    p: float
    adjusted: float
    units: int

    def is_clear(self, alpha: float, effect: float) -> bool:
        """Tell whether it is significant and large enough."""
        return self.adjusted < alpha and abs(self.effect) >= effect


class Comparison(msgspec.Struct, frozen=True):
    """How a window differs from a reference.

    Attributes:
        differences: of every question, clearest first.
        reference_units: how many the reference has.
        window_units: how many the window has.
        alpha: adjusted p below which a difference counts.
        effect: size from which it counts.
    """

    differences: list[Difference]
    reference_units: int
    window_units: int
    alpha: float
    effect: float

    @property
    def enough(self) -> bool:
        """Whether there are units enough to tell anything."""
        return min(self.reference_units, self.window_units) >= MIN_UNITS

    def clear(self, *families: Family) -> list[Difference]:
        """Return the differences that count, of some families."""
        return [
            found
            for found in self.differences
            if found.is_clear(self.alpha, self.effect) and (not families or found.family in families)
        ]

    @property
    def alarm(self) -> bool:
        """Whether what the model says, or where it says it, has drifted."""
        return bool(self.clear(*ALARMING))


def compare(
    reference: Mapping[str, Feature],
    window: Mapping[str, Feature],
    reference_units: int,
    window_units: int,
    *,
    alpha: float,
    effect: float,
    seed: int,
    permutations: int | None = None,
) -> Comparison:
    """Compare two sets of features.

    Args:
        reference: by name.
        window: by name; features that one side lacks are left out.
        reference_units: number of units of the reference; its features name them 0, 1, ….
        window_units: the same of the window.
        alpha: adjusted p below which a difference counts.
        effect: size from which it counts.
        seed: of the permutations.
        permutations: how many; None: as many as the number of questions asks for.
    """
    asked: list[tuple[Feature, Feature, Question, float, int]] = []
    means: list[Array] = []
    for name in window:
        if name not in reference:
            continue
        before, now = reference[name], window[name]
        if min(len(np.unique(before.units)), len(np.unique(now.units))) < MIN_UNITS:
            continue
        pooled = np.concatenate([before.values, now.values])
        if np.ptp(pooled) == 0:
            continue
        ranks = (rankdata(pooled) - 0.5) / len(pooled)
        units = np.concatenate([before.units, now.units + reference_units])
        level, spread = _effects(before, now)
        for question, values, size in (("level", ranks, level), ("spread", np.abs(ranks - 0.5), spread)):
            asked.append((before, now, question, size, len(np.unique(now.units))))  # type: ignore[arg-type]
            means.append(_unit_means(values, units, reference_units + window_units))
    if not asked:
        return Comparison([], reference_units, window_units, alpha, effect)
    if permutations is None:
        # The smallest p that there is has to pass the correction; where nothing is large enough, p is for reading.
        enough = min(max(PERMUTATIONS, math.ceil(_MARGIN * len(asked) / alpha)), _MOST_PERMUTATIONS)
        permutations = enough if any(abs(size) >= effect for _, _, _, size, _ in asked) else _FEW_PERMUTATIONS
    p = permute(np.stack(means, axis=1), reference_units, permutations, seed)
    adjusted = holm(p)
    found = [
        Difference(
            before.name,
            before.title,
            before.family,
            question,
            _median(before),
            _median(now),
            round(size, 4),
            float(p[index]),
            float(adjusted[index]),
            n_units,
        )
        for index, (before, now, question, size, n_units) in enumerate(asked)
    ]
    found.sort(key=lambda item: (not item.is_clear(alpha, effect), item.adjusted, -abs(item.effect)))
    return Comparison(found, reference_units, window_units, alpha, effect)


def permute(means: Array, n_first: int, permutations: int, seed: int) -> Array:
    """Test the difference of two groups of units, by exchanging whole units.

    Args:
        means: float64 (n_units, n_questions), the mean of each unit; NaN where it has none.
        n_first: units of the first group, which come first.
        permutations: how many are drawn.
        seed: of the draws.

    Returns:
        float64 (n_questions,): two-sided p, at least ``1 / (permutations + 1)``.
    """
    n_units = len(means)
    known = np.isfinite(means)
    centred = np.where(known, means - np.nanmean(means, axis=0), 0.0)
    moments = np.concatenate([known.astype(np.float64), centred, centred**2], axis=1)
    total = moments.sum(axis=0)

    def statistic(first: Array) -> Array:
        """Compute Welch's t, (n_draws, n_questions), from which units are in the first group, (n_draws, n_units)."""
        sums = first @ moments
        parts = [np.split(side, 3, axis=1) for side in (sums, total - sums)]
        (n1, s1, q1), (n2, s2, q2) = parts
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = (q1 / n1 - (s1 / n1) ** 2) / np.maximum(n1 - 1, 0) + (q2 / n2 - (s2 / n2) ** 2) / np.maximum(
                n2 - 1, 0
            )
            t = np.abs(s1 / n1 - s2 / n2) / np.sqrt(np.maximum(spread, 1e-18))
        usable = np.minimum(n1, n2) >= 2
        return np.where(usable, t, np.inf)  # a draw that says nothing counts against the difference

    actual = np.zeros((1, n_units))
    actual[0, :n_first] = 1
    observed = statistic(actual)[0]
    rng = np.random.default_rng(seed)
    as_large = np.zeros(means.shape[1], dtype=np.int64)
    for start in range(0, permutations, _BLOCK):
        n = min(_BLOCK, permutations - start)
        order = rng.random((n, n_units)).argpartition(max(n_first - 1, 0), axis=1)[:, :n_first]
        first = np.zeros((n, n_units))
        np.put_along_axis(first, order, 1, axis=1)
        as_large += (statistic(first) >= observed * (1 - 1e-9)).sum(axis=0)
    p: Array = (1 + as_large) / (1 + permutations)
    return p


def holm(p: Array) -> Array:
    """Adjust p-values of several questions so that the chance of any false answer is kept (S. Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(steps)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _unit_means(values: Array, units: NDArray[np.intp], n_units: int) -> Array:
    count = np.bincount(units, minlength=n_units)
    sums = np.bincount(units, weights=values, minlength=n_units)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def unit_weights(units: NDArray[np.intp]) -> Array:
    """Return the weight of each value, so that each unit counts alike and all together 1."""
    count = np.bincount(units)
    present = max(int((count > 0).sum()), 1)
    return np.asarray(1.0 / (count[units] * present), dtype=np.float64)


def places_among(reference: Feature, values: Array) -> Array:
    """Return where values lie among those of the reference: the share of it that is smaller, half of what is equal."""
    order = np.argsort(reference.values, kind="stable")
    ordered = reference.values[order]
    heights = np.concatenate([[0.0], np.cumsum(unit_weights(reference.units)[order])])
    low = np.searchsorted(ordered, values, side="left")
    high = np.searchsorted(ordered, values, side="right")
    places: Array = np.clip((heights[low] + heights[high]) / 2, 0.0, 1.0)
    return places


def _effects(reference: Feature, window: Feature) -> tuple[float, float]:
    """Return Cliff's delta of the values, and of their distances from the reference's middle."""
    places = places_among(reference, window.values)
    weights = unit_weights(window.units)
    own = np.abs(2 * places_among(reference, reference.values) - 1)
    far = Feature("", "", reference.family, own, reference.units)
    level = 2 * float(places @ weights) - 1
    spread = 2 * float(places_among(far, np.abs(2 * places - 1)) @ weights) - 1
    return level, spread


def _median(feature: Feature) -> float:
    order = np.argsort(feature.values, kind="stable")
    heights = np.cumsum(unit_weights(feature.units)[order])
    index = min(int(np.searchsorted(heights, 0.5)), len(order) - 1)
    return round(float(feature.values[order[index]]), 4)
