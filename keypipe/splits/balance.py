"""What splits are balanced by, and the dealing that balances them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from keypipe.errors import needs_extra

Feature = tuple[str, str]
"""What a split is balanced by: ``("images", "")``, ``("images with", "2-3")`` objects, or ``("objects", class)``."""

Features = tuple[tuple[Feature, int], ...]
"""How often some images have each; a tuple, so that images that are alike can share one."""

IMAGES: Feature = ("images", "")


def count_features(class_names: Sequence[str]) -> Features:
    """Count what one image adds to what splits are balanced by.

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
    """Deal units into splits so that every feature comes as near to the shares as it can.

    Greedy, large units and those rich in something rare first, each to the split where it lowers Pearson's
    chi-square of what is there against what is wanted the most. Units that are single images, all alike, are drawn
    by scikit-learn's ``train_test_split``.

    Args:
        units: features of each.
        have: split -> features of what it has already.
        shares: split -> wanted share.
        seed: of the order among equals.

    Returns:
        A split for each unit.
    """
    splits = [split for split in shares if shares[split] > 0]
    total = sum_features(units)
    for split in splits:
        total.update(have[split])
    goals = _round_goals({split: shares[split] for split in splits}, total[IMAGES])
    kinds = set(units)
    if len({frozenset(kind) for kind in kinds}) < 2 and all((IMAGES, 1) in kind for kind in kinds):
        lacks = {split: max(0, goals[split] - have[split].get(IMAGES, 0)) for split in splits[1:]}
        if len(splits) == 2 and not any(have[split] for split in splits):  # rounded as scikit-learn does, too
            lacks[splits[1]] = math.ceil(shares[splits[1]] * len(units))
        return _draw(len(units), splits[0], lacks, seed)
    order = np.random.RandomState(seed).permutation(len(units))
    dealt = [""] * len(units)
    n_images = {kind: dict(kind)[IMAGES] for kind in kinds}
    scarcity = {kind: max(n / total[name] for name, n in kind) for kind in kinds}
    keys = [np.fromiter((-of[unit] for unit in units), float, len(units)) for of in (scarcity, n_images)]
    order = order[np.lexsort(np.array(keys)[:, order])]
    piles = {split: _Pile(have[split], total, goals[split]) for split in splits}
    for n_dealt, index in enumerate(map(int, order)):
        unit = units[index]
        empty = [split for split in splits if not piles[split].n_images]
        fitting = [split for split in splits if piles[split].n_images + n_images[unit] <= goals[split]]
        choice = empty if len(order) - n_dealt <= len(empty) else fitting or splits
        dealt[index] = min(choice, key=lambda split: piles[split].added_cost(unit))
        piles[dealt[index]].add(unit)
    return dealt


def _draw(n: int, first: str, lacks: Mapping[str, int], seed: int) -> list[str]:
    """Draw single images by lot.

    Args:
        n: how many there are.
        first: the split of all that no other split lacks.
        lacks: how many each of the other splits lacks; the last one is served first.
        seed: of the draw.

    Returns:
        A split for each.
    """
    lacking = [split for split in reversed([*lacks]) for _ in range(lacks[split])]
    if n < 2:  # train_test_split wants to leave one
        return [*lacking, first][:n]
    with needs_extra("scikit-learn", "learn"):
        from sklearn.model_selection import train_test_split
    rest, drawn = train_test_split(range(n), test_size=min(max(len(lacking), 1), n - 1), random_state=seed)
    dealt = [first] * n
    for index, split in zip([*drawn, *rest], lacking, strict=False):
        dealt[index] = split
    return dealt


class _Pile:
    """What a split has while units are dealt."""

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
    """Return whole numbers of images that add up to all; one at least for every split."""
    edges = np.floor(np.cumsum([0.0, *shares.values()]) * n_images + 0.5).astype(int)
    goals = dict(zip(shares, np.maximum(np.diff(edges), 1).tolist(), strict=True))
    largest = max(goals, key=lambda split: goals[split])
    goals[largest] = max(1, goals[largest] + n_images - sum(goals.values()))
    return goals
