from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypipe.errors import ConfigError, DatasetError
from keypipe.splits.assignment import assign_splits, check_ratios
from keypipe.splits.manifest import (
    Manifest,
    ManifestLine,
    format_manifest,
    format_phash,
    parse_manifest,
)
from tests.keypipe.splits.samples import RATIOS, group_all, image, images, looks, numbered, put_groups, splits_of
from tests.keypipe.splits.test_balance import mixed_images


def test_ratios_are_met() -> None:
    counts = Counter(splits_of(assign_splits(numbered(100), RATIOS, 42)).values())
    assert counts == {"train": 70, "val": 15, "test": 15}


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_images_that_are_added_fill_what_lacks_the_last_split_first(n: int) -> None:
    known = assign_splits(numbered(40), RATIOS, 1).lines
    added = images(*(f"new{index}" for index in range(n)))
    counts = Counter(splits_of(assign_splits([*numbered(40), *added], RATIOS, 1, known)).values())
    wanted = assign_splits(numbered(40 + n), RATIOS, 1)
    assert counts == Counter(splits_of(wanted).values())


def test_another_seed_gives_another_split() -> None:
    assert assign_splits(numbered(50), RATIOS, 1) != assign_splits(numbered(50), RATIOS, 2)
    mixed = [image(str(index), objects=["cow"] * (index % 4)) for index in range(50)]
    assert assign_splits(mixed, RATIOS, 1) != assign_splits(mixed, RATIOS, 2)


def test_a_renamed_image_keeps_its_split_and_a_removed_one_takes_it_again() -> None:
    before = assign_splits(numbered(20), RATIOS, 42)
    renamed = [*numbered(20)[1:-1], image("new-name", "md5-000")]
    after = assign_splits(renamed, RATIOS, 42, before.lines)
    assert splits_of(after)["raw/new-name.jpg"] == splits_of(before)["raw/000.jpg"]
    assert "raw/000.jpg" not in {line.image for line in after.lines}
    assert [line.image for line in after.lines if line.state == "absent"] == ["raw/019.jpg"]
    again = assign_splits(numbered(20), RATIOS, 7, after.lines)
    assert splits_of(again) == splits_of(before)


def test_names_that_move_to_other_images_move_no_image() -> None:
    before = assign_splits(numbered(20), RATIOS, 42)
    shifted = [image(f"{index:03d}", f"md5-{index + 1:03d}") for index in range(20)]
    after = assign_splits(shifted, RATIOS, 42, before.lines)
    by_content = {line.md5: line.split for line in before.lines}
    assert all(by_content[line.md5] == line.split for line in after.lines if line.md5 in by_content)
    assert not after.asides


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_edited_image_joins_the_split_of_the_one_that_it_replaces(split: str) -> None:
    before = assign_splits(numbered(40), RATIOS, 42)
    path = next(path for path, at in splits_of(before).items() if at == split)
    edited = [image(one.path[4:-4], "edited") if one.path == path else one for one in numbered(40)]
    after = assign_splits(edited, RATIOS, 42, before.lines)
    assert splits_of(after)[path] == split
    assert [line.state for line in after.lines if line.image == path] == ["used", "absent"]


def test_two_copies_of_one_image_share_a_split() -> None:
    before = assign_splits(numbered(20), RATIOS, 42)
    more = assign_splits([*numbered(20), image("copy", "md5-007")], RATIOS, 42, before.lines)
    assert splits_of(more)["raw/copy.jpg"] == splits_of(before)["raw/007.jpg"]
    assert ("raw/007.jpg", "raw/copy.jpg") in more.together


def test_a_group_never_straddles_two_splits_and_new_members_join_it() -> None:
    some = images(*(f"s{session}_{index}" for session in range(12) for index in range(session % 4 + 1)))
    assigned = assign_splits(group_all(some, r"^(s\d+)_"), RATIOS, 42)
    by_group = {line.group: line.split for line in assigned.lines}
    assert len({(line.group, line.split) for line in assigned.lines}) == len(by_group) == 12
    some += images("s3_99", "s12_0")
    more = assign_splits(group_all(some, r"^(s\d+)_"), RATIOS, 42, assigned.lines)
    assert splits_of(more)["raw/s3_99.jpg"] == by_group["s3"]
    counts = Counter(line.split for line in assigned.lines)
    assert abs(counts["val"] / len(assigned.lines) - 0.15) < 0.08


def test_near_duplicates_share_a_split_and_later_ones_join_them() -> None:
    hashes: dict[str, int | None] = {f"{index:03d}": (index + 1) * 0x0101_0101_0101_0101 for index in range(0, 100, 4)}
    hashes["copy"] = (hashes["000"] or 0) ^ 0b101
    hashes["damaged"] = None
    some = images(*hashes)
    first = assign_splits(some, RATIOS, 1, phashes=looks(hashes))
    assert splits_of(first)["raw/copy.jpg"] == splits_of(first)["raw/000.jpg"]
    late = images("late")
    second = assign_splits(
        [*some, *late], RATIOS, 1, first.lines, phashes=looks({"late": (hashes["copy"] or 0) ^ 0b11000})
    )
    assert splits_of(second)["raw/late.jpg"] == splits_of(first)["raw/000.jpg"]
    assert splits_of(second).items() >= splits_of(first).items()
    assert next(line.phash for line in second.lines if line.image == "raw/copy.jpg") == f"{hashes['copy']:016x}"
    gone = assign_splits(some[2:], RATIOS, 1, second.lines)
    back = assign_splits([*some[2:], *images("again")], RATIOS, 1, gone.lines, phashes=looks({"again": hashes["000"]}))
    assert splits_of(back)["raw/again.jpg"] == splits_of(first)["raw/000.jpg"]  # also by one that is absent


def test_a_new_image_that_touches_two_splits_is_set_aside_with_both_named() -> None:
    base = [ManifestLine(f"raw/{n}.jpg", f"md5-{n}", split) for n, split in enumerate(("train", "val", "test"))]
    known = [
        *base,
        ManifestLine("raw/s1_1.jpg", "md5-s1_1", "train", "s1"),
        ManifestLine("raw/x.jpg", "md5-x", "test", "", f"{255:016x}"),
    ]
    some = images("0", "1", "2", "s1_1", "x", "s1_2", "y")
    some = put_groups(some, {"raw/s1_1.jpg": "s1", "raw/s1_2.jpg": "s1"})
    assigned = assign_splits(some, RATIOS, 1, known, looks({"s1_2": 254}))
    (aside,) = assigned.asides
    assert (aside.image, aside.touches) == ("raw/s1_2.jpg", {"train": "raw/s1_1.jpg", "test": "raw/x.jpg"})
    assert [(line.split, line.state) for line in assigned.lines if line.image == "raw/s1_2.jpg"] == [("", "aside")]
    assert len(splits_of(assigned)) == 6
    again = assign_splits(some, RATIOS, 1, assigned.lines)
    assert again == assigned


def test_members_of_a_group_that_a_merge_left_in_two_splits_leave_the_weaker_one() -> None:
    known = [
        *(ManifestLine(f"raw/{n}.jpg", f"md5-{n}", split) for n, split in enumerate(("train", "val", "test"))),
        ManifestLine("raw/s1_1.jpg", "md5-s1_1", "train", "s1"),
        ManifestLine("raw/s1_2.jpg", "md5-s1_2", "test", "s1"),
    ]
    some = put_groups(images("0", "1", "2", "s1_1", "s1_2"), {"raw/s1_1.jpg": "s1", "raw/s1_2.jpg": "s1"})
    assigned = assign_splits(some, RATIOS, 1, known)
    (aside,) = assigned.asides
    assert (aside.image, aside.touches) == ("raw/s1_1.jpg", {"train": "raw/s1_1.jpg", "test": "raw/s1_2.jpg"})
    assert next(line for line in assigned.lines if line.image == "raw/s1_1.jpg").split == "train"
    assert assign_splits(some, RATIOS, 1, assigned.lines) == assigned
    without = assign_splits(some[:-1], RATIOS, 1, assigned.lines)
    assert splits_of(without)["raw/s1_1.jpg"] == "train"
    assert assign_splits(some, RATIOS, 1, without.lines) == assigned


def test_if_nothing_is_left_the_message_says_why() -> None:
    before = assign_splits(numbered(20), RATIOS, 1)
    with pytest.raises(DatasetError, match=r"20 images, 17 of them set aside .*split.reset: true"):
        assign_splits(group_all(numbered(20), r"\.jpg"), RATIOS, 1, before.lines)


def test_folds_cover_train_and_val_and_stay() -> None:
    some = mixed_images(200, 3, 30)
    assigned = assign_splits(some, RATIOS, 1, n_folds=5)
    folds = {line.image: line.fold for line in assigned.lines}
    assert {line.split for line in assigned.lines if not line.fold} == {"test"}
    assert {line.split for line in assigned.lines if line.fold} == {"train", "val"}
    counts = Counter(fold for fold in folds.values() if fold)
    assert set(counts) == {"1", "2", "3", "4", "5"}
    assert max(counts.values()) - min(counts.values()) <= 6
    assert all(len({folds[path] for path in together}) == 1 for together in assigned.together)
    more = assign_splits([*some, *images("x", "y", "z")], RATIOS, 1, assigned.lines, n_folds=5)
    assert {line.image: line.fold for line in more.lines if line.image in folds} == folds
    other = assign_splits(some, RATIOS, 1, assigned.lines, n_folds=3)
    assert {line.fold for line in other.lines} == {"", "1", "2", "3"}
    assert splits_of(other) == splits_of(assigned)
    with pytest.raises(DatasetError, match="9 folds need as many groups"):
        assign_splits(numbered(8), RATIOS, 1, n_folds=9)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_images(n: int) -> None:
    with pytest.raises(DatasetError, match="too few images to split"):
        assign_splits(numbered(n), RATIOS, 42)


@pytest.mark.parametrize(
    "ratios",
    [
        {"train": 0.7, "val": 0.2, "test": 0.2},
        {"train": 1.0, "val": 0.0, "test": 0.0},
        {"train": 1.2, "val": -0.1, "test": -0.1},
    ],
)
def test_bad_ratios(ratios: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="split: "):
        check_ratios(ratios)


N_ANCHORS, N_OTHERS = 4, 14


class Universe(dict[str, tuple[str, int | None]]):
    """Content -> its group and hash; the first few are alone and always there."""


@st.composite
def universes(draw: st.DrawFn) -> Universe:
    universe = Universe((f"anchor{index}", ("", 0xFF << (32 + 8 * index))) for index in range(N_ANCHORS))
    hashes = [0b1 << 8, 0b11 << 8, 0b1111_1111 << 8, 0b1111_1111_1111 << 8, 0xFF_FFFF << 8, 0, None]
    for index in range(N_OTHERS):
        universe[f"m{index}"] = (draw(st.sampled_from(["", "", "", "a", "b", "c"])), draw(st.sampled_from(hashes)))
    return universe


steps = st.lists(st.sets(st.integers(0, N_OTHERS - 1)), min_size=1, max_size=6)


def belong(universe: Universe, one: str, other: str) -> bool:
    (group, first), (other_group, second) = universe[one], universe[other]
    alike = bool(first and second) and ((first or 0) ^ (second or 0)).bit_count() <= 6
    return one != other and (alike or (group != "" and group == other_group))


@settings(max_examples=150)
@given(universes(), steps, st.integers(0, 3), st.randoms(use_true_random=False), st.booleans())
def test_nothing_moves_and_nothing_straddles_in_any_order_of_insertions_and_deletions(
    universe: Universe, steps: list[set[int]], seed: int, random: Any, renamed: bool
) -> None:
    universe = Universe({f"md5-{name}": value for name, value in universe.items()})
    first_split: dict[str, str] = {}
    manifest = Manifest()
    for number, step in enumerate([set[int](), *steps]):  # the anchors keep every split from being empty
        present = [*(f"anchor{index}" for index in range(N_ANCHORS)), *(f"m{index}" for index in sorted(step))]
        prefix = f"{number}-" if renamed else ""
        some = [image(prefix + name, f"md5-{name}") for name in present]
        some = put_groups(some, {one.path: universe[one.md5][0] for one in some})
        hashed = {line.md5 for line in manifest.lines if line.phash}
        phashes = {one.md5: format_phash(universe[one.md5][1]) for one in some if one.md5 not in hashed}
        assigned = assign_splits(some, RATIOS, seed, manifest.lines, phashes)
        shuffled, lines = list(some), list(manifest.lines)
        random.shuffle(shuffled)
        random.shuffle(lines)
        assert assign_splits(shuffled, RATIOS, seed, lines, phashes) == assigned
        manifest = parse_manifest(format_manifest(Manifest(assigned.lines)))
        assert manifest.lines == assigned.lines

        placed = [line.image for line in assigned.lines if line.state == "used"]
        assert sorted([*placed, *(aside.image for aside in assigned.asides)]) == sorted(one.path for one in some)
        used = {line.md5: line.split for line in assigned.lines if line.state == "used"}
        for md5, split in used.items():
            assert first_split.setdefault(md5, split) == split
        assert not any(belong(universe, one, other) and used[one] != used[other] for one in used for other in used)
        assert first_split.items() <= {line.md5: line.split for line in assigned.lines}.items()
        assert set(used.values()) == {"train", "val", "test"}


@settings(max_examples=40)
@given(st.permutations(range(30)), st.integers(10, 25))
def test_new_images_fill_the_ratios(order: list[int], n_first: int) -> None:
    everything = [image(f"{index:03d}", objects=["cow"] * (index % 3)) for index in range(30)]
    first = assign_splits([everything[index] for index in order[:n_first]], RATIOS, 42)
    second = splits_of(assign_splits([everything[index] for index in order], RATIOS, 42, first.lines))
    assert second.items() >= splits_of(first).items()
    assert Counter(second.values())["val"] >= 4
