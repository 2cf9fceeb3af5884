"""Single keypoints and classes that are shown worse by more than counts, with Holm's correction over all of them.

Two tests must agree. Were the two models equally good, chance would say which of them a group favours; so the sum of
the groups' differences is compared with what it becomes when their signs are flipped at random (R. A. Fisher, "The
Design of Experiments", 1935, section 21). And the loss itself must lie beyond what counts, by the bounds of
``noninferiority``. S. Holm, "A simple sequentially rejective multiple test procedure", 1979, keeps the chance of any
false veto below the level, however many keypoints there are and however they depend on each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from keypipe.gate.comparison import Comparison
from keypipe.gate.noninferiority import find_levels, standard_errors
from keypipe.keypoints.boxes import Array
from keypipe.splits.power import POWER

LEVEL = 0.05
"""Chance of any false veto, all keypoints and classes together."""
FLIPS = 4000


class Veto(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one keypoint or class.

    Attributes:
        name: ``CLASS`` (its OKS AP) or ``CLASS KEYPOINT`` (its close share).
        champion: the champion's figure.
        challenger: the challenger's.
        p: the larger p-value of the two tests; not corrected.
        vetoed: whether Holm's procedure takes the loss for larger than what counts.
        detectable: loss that would be seen in ``POWER`` of all test splits like this one.
    """

    name: str
    champion: float
    challenger: float
    p: float
    vetoed: bool
    detectable: float


def find_vetoes(comparison: Comparison, names: Sequence[str], veto_drop: float, seed: int) -> list[Veto]:
    """Test each keypoint and class.

    Args:
        comparison: challenger and champion on the same images.
        names: figures to test.
        veto_drop: a loss up to this does not count.
        seed: of the flips and resamples.

    Returns:
        One for each name.
    """
    if not names:
        return []
    columns = [comparison.names.index(name) for name in names]
    pulls, differences = comparison.pulls[:, columns], comparison.differences[columns]
    beyond = find_levels(np.full(len(columns), -veto_drop), differences, pulls, seed).below
    ps = np.maximum(flip_signs(comparison.shares()[:, columns], seed), beyond)
    vetoed = correct_by_holm(ps, LEVEL)
    threshold = norm.ppf(1 - LEVEL / len(names)) + norm.ppf(POWER)
    detectable = veto_drop + threshold * standard_errors(pulls)
    return [
        Veto(
            name=name,
            champion=float(comparison.reference[column]),
            challenger=float(comparison.challenger[column]),
            p=float(ps[index]),
            vetoed=bool(vetoed[index]),
            detectable=float(detectable[index]),
        )
        for index, (name, column) in enumerate(zip(names, columns, strict=True))
    ]


def flip_signs(shares: Array, seed: int) -> Array:
    """Test whether sums are below 0.

    Args:
        shares: float64 (n_groups, n_figures), what each group has to do with each difference.
        seed: of the flips.

    Returns:
        float64 (n_figures,): the share of flips, and of what was seen, whose sum is as small.
    """
    sums = _draw_signs(len(shares), seed) @ shares
    # What only rounding tells apart counts as equal.
    slack = 1e-9 * np.abs(shares).sum(0)
    return np.asarray((1 + (sums <= shares.sum(0) + slack).sum(0)) / (1 + FLIPS))


@lru_cache(maxsize=4)
def _draw_signs(n_groups: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (2 * rng.integers(0, 2, (FLIPS, n_groups)) - 1).astype(np.float32)


def correct_by_holm(ps: Array, level: float) -> NDArray[np.bool_]:
    """Return which hypotheses are rejected, with a chance of ``level`` at most that any of them is true.

    Args:
        ps: float64 (n,), the p-value of each.
        level: chance of any false rejection.
    """
    order = np.argsort(ps, kind="stable")
    small = ps[order] <= level / np.arange(len(ps), 0, -1)
    rejected = np.zeros(len(ps), dtype=bool)
    rejected[order[: len(ps) if small.all() else int(np.argmin(small))]] = True
    return rejected
