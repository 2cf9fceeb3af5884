from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from keypipe.splits.assignment import assign_splits
from keypipe.splits.balance import sum_features
from keypipe.splits.contents import Sample
from tests.keypipe.splits.samples import RATIOS, image, put_groups, splits_of


@pytest.mark.parametrize("objects", [(), ("cow",)])
@pytest.mark.parametrize("n", [2, 3, 10, 50, 55, 101, 128])
def test_the_common_90_10_with_seed_42_is_scikit_learns(objects: tuple[str, ...], n: int) -> None:
    some = [image(f"{index:03d}", objects=objects) for index in range(n)]
    assigned = assign_splits(some, {"train": 0.9, "val": 0.1, "test": 0.0}, 42)
    train, val = train_test_split([image.path for image in some], test_size=0.1, random_state=42)
    assert {path for path, split in splits_of(assigned).items() if split == "val"} == set(val)
    assert {path for path, split in splits_of(assigned).items() if split == "train"} == set(train)


def mixed_images(n: int, seed: int, n_groups: int) -> list[Sample]:
    """Images with 0 to 9 objects of a frequent, a usual and a rare class, in groups of very different sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(1 / n_groups, n)
    some: list[Sample] = []
    for index in range(n):
        count = int(rng.choice(10, p=[0.1, 0.4, 0.2, 0.1, 0.08, 0.04, 0.03, 0.02, 0.02, 0.01]))
        objects = rng.choice(["cow", "calf", "bull"], count, p=[0.8, 0.16, 0.04]).tolist()
        some.append(msgspec.structs.replace(image(f"{index:04d}", objects=objects), group=f"g{sizes[index]}"))
    return some


def imbalance(some: Sequence[Sample], split_of: Mapping[str, str], shares: Mapping[str, float]) -> float:
    """Pearson's chi-square over degrees of freedom of all features over all splits."""
    total = sum_features(sample.features for sample in some)
    cost = 0.0
    for split, share in shares.items():
        have = sum_features(sample.features for sample in some if split_of[sample.path] == split)
        cost += sum((have[name] - share * n) ** 2 / (share * n) for name, n in total.items())
    return cost / (len(total) * (len(shares) - 1))


@pytest.mark.parametrize("seed", range(5))
def test_splits_are_balanced_by_class_and_number_of_objects(seed: int) -> None:
    some = put_groups(mixed_images(400, seed, 1), {})
    assigned = assign_splits(some, RATIOS, seed)
    assert Counter(splits_of(assigned).values()) == {"train": 280, "val": 60, "test": 60}
    drawn = assign_splits([image(one.path[4:-4]) for one in some], RATIOS, seed)  # as if all were alike
    assert imbalance(some, splits_of(assigned), RATIOS) < 0.1
    assert imbalance(some, splits_of(assigned), RATIOS) < 0.3 * imbalance(some, splits_of(drawn), RATIOS)


@pytest.mark.parametrize("seed", range(5))
def test_grouped_splits_are_better_balanced_than_stratified_group_k_fold(seed: int) -> None:
    some = mixed_images(400, seed, 40)
    shares = {"train": 0.8, "val": 0.2}
    ours = splits_of(assign_splits(some, {**shares, "test": 0.0}, seed))
    labels = [
        (
            ",".join(sorted(name for (kind, name), _ in one.features if kind == "objects")),
            sum(n for (kind, _), n in one.features if kind == "objects"),
        )
        for one in some
    ]
    codes = [sorted(set(labels)).index(label) for label in labels]
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    theirs: list[float] = []
    for _, val in splitter.split(some, codes, [one.group for one in some]):
        chosen = set(val.tolist())
        theirs.append(
            imbalance(some, {one.path: "val" if i in chosen else "train" for i, one in enumerate(some)}, shares)
        )
    assert imbalance(some, ours, shares) < np.median(theirs)
