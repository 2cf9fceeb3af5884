"""What a test split can decide: the smallest margin, and how many groups a margin wants.

By Student's and the normal distribution, for a challenger that is as good as the champion, with the group that was not
seen (``keypipe.gate.noninferiority``) counted in. The stage split tells it, so the gate imports from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from keypipe.errors import format_count

AP = "oks_AP"
CLOSE = "within_0.1_diagonals"
HEADLINES = (AP, CLOSE)
LEVEL = 0.03
"""Chance that a bound is taken to have, before it is measured; ``benchmarks.gate`` fixed it on draws of its own."""
POWER = 0.8
"""Share of test splits in which something should be seen that is there."""
MIN_GROUPS = 20
"""With fewer groups than these nothing is decided: a bootstrap over them has too few different draws."""
MARGIN = 0.02
"""Largest loss of a headline figure that is accepted where nobody says otherwise; docs/retraining.md gives a reason."""

JOINT_POWER = 1 - (1 - POWER) / len(HEADLINES)
"""Power of each headline figure, so that all of them together have ``POWER``."""

MOST_GROUPS = 10**6
"""More groups than these are no answer."""

TYPICAL_SPREADS: Mapping[str, float] = {AP: 0.21, CLOSE: 0.17}
"""Spreads of the differences of single images between two trainings of the demo, for a project that has compared no
models yet; ``benchmarks.gate`` measures them."""

SHIPPED_MARGINS: Mapping[str, float] = dict.fromkeys(HEADLINES, MARGIN)


def decidable_margin(spread: float, n_groups: float, power: float = POWER) -> float:
    """Return the smallest margin that an equal challenger keeps beyond doubt.

    Args:
        spread: standard deviation of the groups' differences: the standard error times the root of their number.
        n_groups: of the test split, 2 or more.
        power: share of test splits in which it shall pass.
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    unseen, error = 1 / n_groups, spread / math.sqrt(n_groups)
    quantile = student.ppf(1 - LEVEL, n_groups - 1)
    return float(unseen + quantile * math.hypot(error, unseen) + norm.ppf(power) * error)


def groups_needed(spread: float, margin: float, power: float = POWER) -> int | None:
    """Return how many groups decide a margin for an equal challenger; None: more than ``MOST_GROUPS``.

    Args:
        spread: standard deviation of the groups' differences.
        margin: how far the truth is from what is to be excluded, above 0.
        power: share of test splits in which it shall pass.
    """
    from scipy.optimize import brentq

    def excess(n_groups: float) -> float:
        return decidable_margin(spread, n_groups, power) - margin

    if excess(MIN_GROUPS) <= 0:
        return MIN_GROUPS
    if excess(MOST_GROUPS) > 0:
        return None
    return math.ceil(float(brentq(excess, MIN_GROUPS, MOST_GROUPS)))


class Power(msgspec.Struct, frozen=True):
    """What a test split can decide.

    Attributes:
        unit: ``image``, or ``group`` where images are in groups.
        units: how many of them the test split has.
        decides: by headline figure, the smallest margin that an equal challenger keeps in 80 % of such test splits;
            empty below ``MIN_GROUPS``.
        text: the same as a sentence, with what the margins want.
    """

    unit: str
    units: int
    decides: dict[str, float]
    text: str


def find_power(
    n_units: int,
    unit: str,
    margins: Mapping[str, float] = SHIPPED_MARGINS,
    spreads: Mapping[str, float] = TYPICAL_SPREADS,
) -> Power:
    """Say what a test split can decide, and what its margins want, before anything was trained.

    Args:
        n_units: groups of the test split, or images where it has none.
        unit: ``image`` or ``group``.
        margins: by headline figure, of the rules.
        spreads: by headline figure, standard deviation of the units' differences; those of the last verdict are better
            than the typical ones.
    """
    if n_units < MIN_GROUPS:
        text = (
            f"the test split has {format_count(n_units, unit)}; below {MIN_GROUPS} the gate decides nothing by figures"
        )
        return Power(unit, n_units, {}, text)
    decides = {name: decidable_margin(spreads[name], n_units, JOINT_POWER) for name in margins}
    told = ", ".join(f"{margin:.3f} of {name}" for name, margin in decides.items())
    needed = [groups_needed(spreads[name], margin, JOINT_POWER) for name, margin in margins.items()]
    if all(number is not None and number <= n_units for number in needed):
        return Power(unit, n_units, decides, f"the test split's {n_units} {unit}s decide the margins: {told}")
    known = [number for number in needed if number is not None]
    wanted = f"about {max(known)} {unit}s" if len(known) == len(needed) else "more than any test split has"
    asked = " and ".join(f"{margin:g}" for margin in dict.fromkeys(margins.values()))
    text = f"the test split's {n_units} {unit}s decide margins of {told}; {asked} would want {wanted}"
    return Power(unit, n_units, decides, text)
