"""What a test split can decide: the smallest margin, and how many groups a margin wants.

By Student's and the normal distribution, for a challenger that is as good as the champion, with the group that was not
seen (``noninferiority``) counted in.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from keypipe.gate.comparison import AP, CLOSE
from keypipe.gate.noninferiority import LEVEL, POWER
from keypipe.gate.rules import MIN_GROUPS

MOST_GROUPS = 10**6
"""More groups than these are no answer."""

TYPICAL_SPREADS: Mapping[str, float] = {AP: 0.2, CLOSE: 0.15}
"""Spreads of the differences of single images between two trainings of the demo, for a project that has compared no
models yet; ``benchmarks.gate`` measures them."""


def decidable_margin(spread: float, n_groups: float, power: float = POWER) -> float:
    """Return the smallest margin that an equal challenger keeps beyond doubt.

    Args:
        spread: standard deviation of the groups' differences: the standard error times the root of their number.
        n_groups: of the test split, 2 or more.
        power: share of test splits in which it shall pass.
    """
    unseen, error = 1 / n_groups, spread / np.sqrt(n_groups)
    quantile = student.ppf(1 - LEVEL, n_groups - 1)
    return float(unseen + quantile * np.hypot(error, unseen) + norm.ppf(power) * error)


def groups_needed(spread: float, margin: float, power: float = POWER) -> int | None:
    """Return how many groups decide a margin for an equal challenger; None: more than ``MOST_GROUPS``.

    Args:
        spread: standard deviation of the groups' differences.
        margin: how far the truth is from what is to be excluded, above 0.
        power: share of test splits in which it shall pass.
    """

    def excess(n_groups: float) -> float:
        return decidable_margin(spread, n_groups, power) - margin

    if excess(MIN_GROUPS) <= 0:
        return MIN_GROUPS
    if excess(MOST_GROUPS) > 0:
        return None
    return int(np.ceil(brentq(excess, MIN_GROUPS, MOST_GROUPS)))
