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

from keypipe.gate.comparison import AP, CLOSE, HEADLINES
from keypipe.gate.noninferiority import LEVEL, POWER
from keypipe.gate.rules import MIN_GROUPS

JOINT_POWER = 1 - (1 - POWER) / len(HEADLINES)
"""Power of each headline figure, so that all of them together have ``POWER``."""

MOST_GROUPS = 10**6
"""More groups than these are no answer."""

TYPICAL_SPREADS: Mapping[str, float] = {AP: 0.21, CLOSE: 0.17}
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


def tell_power(
    n_units: int, unit: str, margins: Mapping[str, float], spreads: Mapping[str, float] = TYPICAL_SPREADS
) -> str:
    """Say what a test split can decide, and what its margins want, before anything was trained.

    Args:
        n_units: groups of the test split, or images where it has none.
        unit: ``image`` or ``group``.
        margins: by headline figure, of the rules.
        spreads: by headline figure, standard deviation of the units' differences; those of the last verdict are better
            than the typical ones.
    """
    if n_units < MIN_GROUPS:
        return f"the test split has {n_units} {unit}s; below {MIN_GROUPS} the gate decides nothing by figures"
    decides = ", ".join(f"{decidable_margin(spreads[name], n_units, JOINT_POWER):.3f} of {name}" for name in margins)
    needed = [groups_needed(spreads[name], margin, JOINT_POWER) for name, margin in margins.items()]
    if all(number is not None and number <= n_units for number in needed):
        return f"the test split's {n_units} {unit}s decide the margins: {decides}"
    known = [number for number in needed if number is not None]
    wanted = f"about {max(known)} {unit}s" if len(known) == len(needed) else "more than any test split has"
    asked = ", ".join(f"{margin:g} of {name}" for name, margin in margins.items())
    return f"the test split's {n_units} {unit}s decide margins of {decides}; {asked} want {wanted}"
