"""What splits are balanced by, and the dealing that balances them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from keypipe.errors import needs_extra

Feature = tuple[str, str]
"""What a side is balanced by: ``("images", "")``, ``("images with", "2-3")`` objects, or ``("objects", class)``."""

Features = tuple[tuple[Feature, int], ...]
"""How often some images have each; a tuple, so that images that are alike can share one."""

IMAGES: Feature = ("images", "")


def count_features(class_names: Sequence[str]) -> Features:
    """Count what one image adds to what sides are balanced by.

    Args:
        class_names: class of each of its objects.
    """
    objects = Counter(("objects", name) for name in class_names)
    return ((IMAGES, 1), (("images with", _objects_range(len(class_names))), 1), *objects.items())


def _objects_range(n_objects: int) -> str:
    """Name a range of object numbers: 0, 1, 2-3, 4-7, 8-15, …; each twice as wide as the one before."""
    low = 1 << n_objects.bit_length() >> 1
    return str(n_objects) if n_objects < 2 else f"{low}-{2 * low - 1}"


def sum_features(some: Iterable[Features]) -> Counter[Feature]:
    """Add up the features of images."""
    total: Counter[Feature] = Counter()
    for features, times in Counter(some).items():
        for name, n in features:
            total[name] += n * times
    return total


def deal(
    units: Sequence[Features], have: Mapping[str, Mapping[Feature, int]], shares: Mapping[str, float], seed: int
) -> list[str]:
    """Deal units onto sides so that every feature comes as near to the shares as it can.

    Greedy, large units and those rich in something rare first, each to the side where it lowers Pearson's
    chi-square of what is there against what is wanted the most. Units that are single images, all alike, are drawn
    by scikit-learn's ``train_test_split``.

    Args:
        units: features of each.
        have: side -> features of what it has already.
        shares: side -> wanted share.
        seed: of the order among equals.

    Returns:
        A side for each unit.
    """
    sides = [side for side in shares if shares[side] > 0]
    total = sum_features(units)
    for side in sides:
        total.update(have[side])
    goals = _round_goals({side: shares[side] for side in sides}, total[IMAGES])
    kinds = set(units)
    if len({frozenset(kind) for kind in kinds}) < 2 and all((IMAGES, 1) in kind for kind in kinds):
        lacks = {side: max(0, goals[side] - have[side].get(IMAGES, 0)) for side in sides[1:]}
        if len(sides) == 2 and not any(have[side] for side in sides):  # rounded as scikit-learn does, too
            lacks[sides[1]] = math.ceil(shares[sides[1]] * len(units))
        return _draw(len(units), sides[0], lacks, seed)
    order = np.random.RandomState(seed).permutation(len(units))
    dealt = [""] * len(units)
    n_images = {kind: dict(kind)[IMAGES] for kind in kinds}
    scarcity = {kind: max(n / total[name] for name, n in kind) for kind in kinds}
    keys = [np.fromiter((-of[unit] for unit in units), float, len(units)) for of in (scarcity, n_images)]
    order = order[np.lexsort(np.array(keys)[:, order])]
    piles = {side: _Pile(have[side], total, goals[side]) for side in sides}
    for n_dealt, index in enumerate(map(int, order)):
        unit = units[index]
        empty = [side for side in sides if not piles[side].n_images]
        fitting = [side for side in sides if piles[side].n_images + n_images[unit] <= goals[side]]
        choice = empty if len(order) - n_dealt <= len(empty) else fitting or sides
        dealt[index] = min(choice, key=lambda side: piles[side].added_cost(unit))
        piles[dealt[index]].add(unit)
    return dealt


def _draw(n: int, first: str, lacks: Mapping[str, int], seed: int) -> list[str]:
    """Draw single images by lot.

    Args:
        n: how many there are.
        first: the side of all that no other side lacks.
        lacks: how many each of the other sides lacks; the last one is served first.
        seed: of the draw.

    Returns:
        A side for each.
    """
    lacking = [side for side in reversed([*lacks]) for _ in range(lacks[side])]
    if n < 2:  # train_test_split wants to leave one
        return [*lacking, first][:n]
    with needs_extra("scikit-learn", "learn"):
        from sklearn.model_selection import train_test_split
    rest, drawn = train_test_split(range(n), test_size=min(max(len(lacking), 1), n - 1), random_state=seed)
    dealt = [first] * n
    for index, side in zip([*drawn, *rest], lacking, strict=False):
        dealt[index] = side
    return dealt


class _Pile:
    """What a side has while units are dealt."""

    def __init__(self, have: Mapping[Feature, int], total: Mapping[Feature, int], goal: int) -> None:
        share = goal / total[IMAGES]
        self._columns = {name: number for number, name in enumerate(total)}
        self._counts = [have.get(name, 0) for name in total]
        self._wanted = [share * n for n in total.values()]
        self._coded: dict[Features, list[tuple[int, int]]] = {}
        self._costs: dict[Features, float] = {}

    @property
    def n_images(self) -> int:
        return self._counts[self._columns[IMAGES]]

    def _code(self, unit: Features) -> list[tuple[int, int]]:
        """Return columns and numbers of a unit's features; units are alike, and names take long to look up."""
        if unit not in self._coded:
            self._coded[unit] = [(self._columns[name], n) for name, n in unit]
        return self._coded[unit]

    def added_cost(self, unit: Features) -> float:
        """Return by how much a unit would raise the chi-square."""
        if unit not in self._costs:
            counts, wanted = self._counts, self._wanted
            terms = [n * (n + 2 * (counts[at] - wanted[at])) / wanted[at] for at, n in self._code(unit)]
            self._costs[unit] = sum(terms)
        return self._costs[unit]

    def add(self, unit: Features) -> None:
        for at, n in self._code(unit):
            self._counts[at] += n
        self._costs.clear()


def _round_goals(shares: Mapping[str, float], n_images: int) -> dict[str, int]:
    """Return whole numbers of images that add up to all; one at least for every side."""
    edges = np.floor(np.cumsum([0.0, *shares.values()]) * n_images + 0.5).astype(int)
    goals = dict(zip(shares, np.maximum(np.diff(edges), 1).tolist(), strict=True))
    largest = max(goals, key=lambda side: goals[side])
    goals[largest] = max(1, goals[largest] + n_images - sum(goals.values()))
    return goals
