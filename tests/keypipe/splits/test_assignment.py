from __future__ import annotations

import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from keypipe.errors import ConfigError, DatasetError
from keypipe.splits.assignment import Split, assign_sides, check_ratios
from keypipe.splits.balance import count_features, sum_features
from keypipe.splits.contents import Sample
from keypipe.splits.groups import find_group, look_up_groups, parse_groups
from keypipe.splits.manifest import (
    Manifest,
    ManifestLine,
    format_manifest,
    format_phash,
    parse_manifest,
    read_manifest,
    start_over,
)
from tests.imports import ROOT

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def image(name: str, content: str | None = None, objects: Sequence[str] = ()) -> Sample:
    return Sample(f"raw/{name}.jpg", content or f"md5-{name}", count_features(objects))


def images(*names: str) -> list[Sample]:
    return [image(name) for name in names]


def numbered(n: int) -> list[Sample]:
    return images(*(f"{index:03d}" for index in range(n)))


def sides(split: Split) -> dict[str, str]:
    return {line.image: line.side for line in split.lines if line.state == "used"}


def put_groups(some: Sequence[Sample], groups: Mapping[str, str]) -> list[Sample]:
    return [msgspec.structs.replace(sample, group=groups.get(sample.path, "")) for sample in some]


def group_all(some: Sequence[Sample], group_by: str) -> list[Sample]:
    return put_groups(some, {sample.path: find_group(sample.path, group_by) for sample in some})


def looks(hashes: Mapping[str, int | None]) -> dict[str, str]:
    return {f"md5-{name}": format_phash(value) for name, value in hashes.items()}


def test_ratios_are_met() -> None:
    counts = Counter(sides(assign_sides(numbered(100), RATIOS, 42)).values())
    assert counts == {"train": 70, "val": 15, "test": 15}


@pytest.mark.parametrize("objects", [(), ("cow",)])
def test_the_common_90_10_with_seed_42_is_scikit_learns(objects: tuple[str, ...]) -> None:
    some = [image(f"{index:03d}", objects=objects) for index in range(50)]
    split = assign_sides(some, {"train": 0.9, "val": 0.1, "test": 0.0}, 42)
    train, val = train_test_split([image.path for image in some], test_size=5, random_state=42)
    assert {path for path, side in sides(split).items() if side == "val"} == set(val)
    assert {path for path, side in sides(split).items() if side == "train"} == set(train)


def test_another_seed_gives_another_split() -> None:
    assert assign_sides(numbered(50), RATIOS, 1) != assign_sides(numbered(50), RATIOS, 2)
    mixed = [image(str(index), objects=["cow"] * (index % 4)) for index in range(50)]
    assert assign_sides(mixed, RATIOS, 1) != assign_sides(mixed, RATIOS, 2)


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


def imbalance(some: Sequence[Sample], side_of: Mapping[str, str], shares: Mapping[str, float]) -> float:
    """Pearson's chi-square over degrees of freedom of all features over all sides."""
    total = sum_features(sample.features for sample in some)
    cost = 0.0
    for side, share in shares.items():
        have = sum_features(sample.features for sample in some if side_of[sample.path] == side)
        cost += sum((have[name] - share * n) ** 2 / (share * n) for name, n in total.items())
    return cost / (len(total) * (len(shares) - 1))


@pytest.mark.parametrize("seed", range(5))
def test_sides_are_balanced_by_class_and_number_of_objects(seed: int) -> None:
    some = put_groups(mixed_images(400, seed, 1), {})
    split = assign_sides(some, RATIOS, seed)
    assert Counter(sides(split).values()) == {"train": 280, "val": 60, "test": 60}
    drawn = assign_sides([image(one.path[4:-4]) for one in some], RATIOS, seed)  # as if all were alike
    assert imbalance(some, sides(split), RATIOS) < 0.1
    assert imbalance(some, sides(split), RATIOS) < 0.3 * imbalance(some, sides(drawn), RATIOS)


@pytest.mark.parametrize("seed", range(5))
def test_grouped_sides_are_better_balanced_than_stratified_group_k_fold(seed: int) -> None:
    some = mixed_images(400, seed, 40)
    shares = {"train": 0.8, "val": 0.2}
    ours = sides(assign_sides(some, {**shares, "test": 0.0}, seed))
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


def test_a_renamed_image_keeps_its_side_and_a_removed_one_takes_it_again() -> None:
    before = assign_sides(numbered(20), RATIOS, 42)
    renamed = [*numbered(20)[1:-1], image("new-name", "md5-000")]
    after = assign_sides(renamed, RATIOS, 42, before.lines)
    assert sides(after)["raw/new-name.jpg"] == sides(before)["raw/000.jpg"]
    assert "raw/000.jpg" not in {line.image for line in after.lines}
    assert [line.image for line in after.lines if line.state == "absent"] == ["raw/019.jpg"]
    again = assign_sides(numbered(20), RATIOS, 7, after.lines)
    assert sides(again) == sides(before)


def test_names_that_move_to_other_images_move_no_image() -> None:
    before = assign_sides(numbered(20), RATIOS, 42)
    shifted = [image(f"{index:03d}", f"md5-{index + 1:03d}") for index in range(20)]
    after = assign_sides(shifted, RATIOS, 42, before.lines)
    by_content = {line.md5: line.side for line in before.lines}
    assert all(by_content[line.md5] == line.side for line in after.lines if line.md5 in by_content)
    assert not after.asides


@pytest.mark.parametrize("side", ["train", "val", "test"])
def test_an_edited_image_joins_the_side_of_the_one_that_it_replaces(side: str) -> None:
    before = assign_sides(numbered(40), RATIOS, 42)
    path = next(path for path, at in sides(before).items() if at == side)
    edited = [image(one.path[4:-4], "edited") if one.path == path else one for one in numbered(40)]
    after = assign_sides(edited, RATIOS, 42, before.lines)
    assert sides(after)[path] == side
    assert [line.state for line in after.lines if line.image == path] == ["used", "absent"]


def test_two_copies_of_one_image_share_a_side() -> None:
    before = assign_sides(numbered(20), RATIOS, 42)
    more = assign_sides([*numbered(20), image("copy", "md5-007")], RATIOS, 42, before.lines)
    assert sides(more)["raw/copy.jpg"] == sides(before)["raw/007.jpg"]
    assert ("raw/007.jpg", "raw/copy.jpg") in more.together


def test_a_group_never_straddles_two_sides_and_new_members_join_it() -> None:
    some = images(*(f"s{session}_{index}" for session in range(12) for index in range(session % 4 + 1)))
    split = assign_sides(group_all(some, r"^(s\d+)_"), RATIOS, 42)
    by_group = {line.group: line.side for line in split.lines}
    assert len({(line.group, line.side) for line in split.lines}) == len(by_group) == 12
    some += images("s3_99", "s12_0")
    more = assign_sides(group_all(some, r"^(s\d+)_"), RATIOS, 42, split.lines)
    assert sides(more)["raw/s3_99.jpg"] == by_group["s3"]
    counts = Counter(line.side for line in split.lines)
    assert abs(counts["val"] / len(split.lines) - 0.15) < 0.08


def test_near_duplicates_share_a_side_and_later_ones_join_them() -> None:
    hashes: dict[str, int | None] = {f"{index:03d}": (index + 1) * 0x0101_0101_0101_0101 for index in range(0, 100, 4)}
    hashes["copy"] = (hashes["000"] or 0) ^ 0b101
    hashes["damaged"] = None
    some = images(*hashes)
    first = assign_sides(some, RATIOS, 1, phashes=looks(hashes))
    assert sides(first)["raw/copy.jpg"] == sides(first)["raw/000.jpg"]
    late = images("late")
    second = assign_sides(
        [*some, *late], RATIOS, 1, first.lines, phashes=looks({"late": (hashes["copy"] or 0) ^ 0b11000})
    )
    assert sides(second)["raw/late.jpg"] == sides(first)["raw/000.jpg"]
    assert sides(second).items() >= sides(first).items()
    assert next(line.phash for line in second.lines if line.image == "raw/copy.jpg") == f"{hashes['copy']:016x}"
    gone = assign_sides(some[2:], RATIOS, 1, second.lines)
    back = assign_sides([*some[2:], *images("again")], RATIOS, 1, gone.lines, phashes=looks({"again": hashes["000"]}))
    assert sides(back)["raw/again.jpg"] == sides(first)["raw/000.jpg"]  # also by one that is absent


def test_a_new_image_that_touches_two_sides_is_set_aside_with_both_named() -> None:
    base = [ManifestLine(f"raw/{n}.jpg", f"md5-{n}", side) for n, side in enumerate(("train", "val", "test"))]
    known = [
        *base,
        ManifestLine("raw/s1_1.jpg", "md5-s1_1", "train", "s1"),
        ManifestLine("raw/x.jpg", "md5-x", "test", "", f"{255:016x}"),
    ]
    some = images("0", "1", "2", "s1_1", "x", "s1_2", "y")
    some = put_groups(some, {"raw/s1_1.jpg": "s1", "raw/s1_2.jpg": "s1"})
    split = assign_sides(some, RATIOS, 1, known, looks({"s1_2": 254}))
    (aside,) = split.asides
    assert (aside.image, aside.touches) == ("raw/s1_2.jpg", {"train": "raw/s1_1.jpg", "test": "raw/x.jpg"})
    assert [(line.side, line.state) for line in split.lines if line.image == "raw/s1_2.jpg"] == [("", "aside")]
    assert len(sides(split)) == 6
    again = assign_sides(some, RATIOS, 1, split.lines)
    assert again == split


def test_members_of_a_group_that_a_merge_left_on_two_sides_leave_the_weaker_one() -> None:
    known = [
        *(ManifestLine(f"raw/{n}.jpg", f"md5-{n}", side) for n, side in enumerate(("train", "val", "test"))),
        ManifestLine("raw/s1_1.jpg", "md5-s1_1", "train", "s1"),
        ManifestLine("raw/s1_2.jpg", "md5-s1_2", "test", "s1"),
    ]
    some = put_groups(images("0", "1", "2", "s1_1", "s1_2"), {"raw/s1_1.jpg": "s1", "raw/s1_2.jpg": "s1"})
    split = assign_sides(some, RATIOS, 1, known)
    (aside,) = split.asides
    assert (aside.image, aside.touches) == ("raw/s1_1.jpg", {"train": "raw/s1_1.jpg", "test": "raw/s1_2.jpg"})
    assert next(line for line in split.lines if line.image == "raw/s1_1.jpg").side == "train"
    assert assign_sides(some, RATIOS, 1, split.lines) == split
    without = assign_sides(some[:-1], RATIOS, 1, split.lines)
    assert sides(without)["raw/s1_1.jpg"] == "train"
    assert assign_sides(some, RATIOS, 1, without.lines) == split


def test_if_nothing_is_left_the_message_says_why() -> None:
    before = assign_sides(numbered(20), RATIOS, 1)
    with pytest.raises(DatasetError, match=r"20 images, 17 of them set aside .*split.reset: true"):
        assign_sides(group_all(numbered(20), r"\.jpg"), RATIOS, 1, before.lines)


def test_find_group() -> None:
    assert find_group("raw/cam1/a.jpg", r"^([^/]+)/") == "cam1"
    assert find_group("raw/cam1/a.jpg", r"cam\d") == "cam1"
    assert find_group("derived/cam1/a.jpg", None) == ""
    assert find_group("raw/herd/cam1/a.jpg", "folder") == "herd/cam1"
    assert find_group("raw/a.jpg", "folder") == ""
    with pytest.raises(DatasetError, match="does not match other"):
        find_group("raw/other/a.jpg", r"cam\d")


def test_groups_from_a_table() -> None:
    table = parse_groups("\ufeffimage,animal,day\na.jpg,17,mon\nsub\\b.json,17,tue\nc.jpg,,tue\n", "animal")
    files = [(f"raw/{name}.jpg", f"{name}.json") for name in ("a", "sub/b", "c", "d")]
    assert look_up_groups(files[:3], table) == ["17", "17", ""]
    with pytest.raises(DatasetError, match=r"1 images have no line, such as d.jpg"):
        look_up_groups(files, table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,day\na,1\n", "no column animal; there are image, day"),
        ("", "no column image and animal"),
        ("image,animal\na,1\na,2\n", "line 3: a is in '2', and in '1' above"),
    ],
)
def test_a_table_that_says_nothing(text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_groups(text, "animal")


def test_folds_cover_train_and_val_and_stay() -> None:
    some = mixed_images(200, 3, 30)
    split = assign_sides(some, RATIOS, 1, n_folds=5)
    folds = {line.image: line.fold for line in split.lines}
    assert {line.side for line in split.lines if not line.fold} == {"test"}
    assert {line.side for line in split.lines if line.fold} == {"train", "val"}
    counts = Counter(fold for fold in folds.values() if fold)
    assert set(counts) == {"1", "2", "3", "4", "5"}
    assert max(counts.values()) - min(counts.values()) <= 6
    assert all(len({folds[path] for path in together}) == 1 for together in split.together)
    more = assign_sides([*some, *images("x", "y", "z")], RATIOS, 1, split.lines, n_folds=5)
    assert {line.image: line.fold for line in more.lines if line.image in folds} == folds
    other = assign_sides(some, RATIOS, 1, split.lines, n_folds=3)
    assert {line.fold for line in other.lines} == {"", "1", "2", "3"}
    assert sides(other) == sides(split)
    with pytest.raises(DatasetError, match="9 folds need as many groups"):
        assign_sides(numbered(8), RATIOS, 1, n_folds=9)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_images(n: int) -> None:
    with pytest.raises(DatasetError, match="too few images to split"):
        assign_sides(numbered(n), RATIOS, 42)


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


# ------------------------------------------------------------------------------------------ properties

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


@settings(max_examples=150, deadline=None)
@given(universes(), steps, st.integers(0, 3), st.randoms(use_true_random=False), st.booleans())
def test_nothing_moves_and_nothing_straddles_in_any_order_of_insertions_and_deletions(
    universe: Universe, steps: list[set[int]], seed: int, random: Any, renamed: bool
) -> None:
    universe = Universe({f"md5-{name}": value for name, value in universe.items()})
    first_side: dict[str, str] = {}
    manifest = Manifest()
    for number, step in enumerate([set[int](), *steps]):  # the anchors keep every side from being empty
        present = [*(f"anchor{index}" for index in range(N_ANCHORS)), *(f"m{index}" for index in sorted(step))]
        prefix = f"{number}-" if renamed else ""
        some = [image(prefix + name, f"md5-{name}") for name in present]
        some = put_groups(some, {one.path: universe[one.md5][0] for one in some})
        hashed = {line.md5 for line in manifest.lines if line.phash}
        phashes = {one.md5: format_phash(universe[one.md5][1]) for one in some if one.md5 not in hashed}
        split = assign_sides(some, RATIOS, seed, manifest.lines, phashes)
        shuffled, lines = list(some), list(manifest.lines)
        random.shuffle(shuffled)
        random.shuffle(lines)
        assert assign_sides(shuffled, RATIOS, seed, lines, phashes) == split
        manifest = parse_manifest(format_manifest(Manifest(split.lines)))
        assert manifest.lines == split.lines

        placed = [line.image for line in split.lines if line.state == "used"]
        assert sorted([*placed, *(aside.image for aside in split.asides)]) == sorted(one.path for one in some)
        used = {line.md5: line.side for line in split.lines if line.state == "used"}
        for md5, side in used.items():
            assert first_side.setdefault(md5, side) == side
        assert not any(belong(universe, one, other) and used[one] != used[other] for one in used for other in used)
        assert first_side.items() <= {line.md5: line.side for line in split.lines}.items()
        assert set(used.values()) == {"train", "val", "test"}


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(30)), st.integers(10, 25))
def test_new_images_fill_the_ratios(order: list[int], n_first: int) -> None:
    everything = [image(f"{index:03d}", objects=["cow"] * (index % 3)) for index in range(30)]
    first = assign_sides([everything[index] for index in order[:n_first]], RATIOS, 42)
    second = sides(assign_sides([everything[index] for index in order], RATIOS, 42, first.lines))
    assert second.items() >= sides(first).items()
    assert Counter(second.values())["val"] >= 4


# ------------------------------------------------------------------------------------------ manifest

names = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1).filter(lambda s: s[0] != "#")
lines = st.lists(
    st.builds(
        ManifestLine,
        names,
        st.just("0" * 32),
        st.sampled_from(["train", "val", "test", ""]),
        names,
        st.sampled_from(["", "0123456789abcdef"]),
        st.sampled_from(["", "1"]),
        st.sampled_from(["used", "absent", "aside"]),
    ),
    unique_by=lambda line: line.image,
)


@given(lines, st.integers(1, 3), st.booleans())
def test_the_manifest_is_read_back(lines: list[ManifestLine], draw: int, reset: bool) -> None:
    manifest = Manifest(tuple(sorted(lines)), draw, reset)
    assert parse_manifest(format_manifest(manifest)) == manifest


@pytest.mark.parametrize("line", ["a,b", "a,b,nowhere,,,,used", "a,b,train,,,,yes", "image,md5,side,group,present"])
def test_a_line_that_is_none(line: str) -> None:
    with pytest.raises(DatasetError, match="line 2: expected image,md5,side,group,phash,fold,state"):
        parse_manifest(f"{format_manifest(Manifest())}{line}\n")


def test_a_reset_draws_once_and_is_recorded() -> None:
    first = Manifest(assign_sides(numbered(40), RATIOS, 1).lines)
    assert start_over(first, reset=False) == first
    over = start_over(first, reset=True)
    assert (over.lines, over.draw) == ((), 2)
    second = Manifest(assign_sides(numbered(40), RATIOS, 2, over.lines).lines, over.draw, over.reset)
    assert format_manifest(second).splitlines()[1] == "#draw,2,reset,,,,absent"
    read = parse_manifest(format_manifest(second))
    assert start_over(read, reset=True) == second  # still on: does nothing more
    kept = start_over(read, reset=False)
    assert (kept.lines, kept.draw) == (second.lines, 2)
    assert start_over(parse_manifest(format_manifest(kept)), reset=True).draw == 3


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


class Repository:
    """A git repository with a manifest, in which branches split and merge."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "data/dataset/manifest.csv"
        self.path.parent.mkdir(parents=True)
        git(root, "init", "--quiet", "--initial-branch=main")
        shutil.copy(ROOT / ".gitattributes", root)

    def split(self, some: Sequence[Sample]) -> Split:
        known = read_manifest(self.path)
        split = assign_sides(some, RATIOS, 42, known.lines)
        self.path.write_text(format_manifest(Manifest(split.lines)))
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", "--message", "split")
        return split


def test_two_branches_merge_line_by_line_with_git(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    first = repository.split(numbered(20))
    added: dict[str, list[Sample]] = defaultdict(list)
    splits: dict[str, Split] = {}
    for branch in ("ours", "theirs"):
        git(tmp_path, "checkout", "--quiet", "-b", branch, "main")
        # both put images between, before and behind the same ones, and remove different ones
        added[branch] = images(*(f"{place}{branch}{index}" for place in ("", "005", "zz") for index in range(5)))
        gone = {"ours": "raw/004.jpg", "theirs": "raw/006.jpg"}[branch]
        kept = [one for one in numbered(20) if one.path != gone]
        splits[branch] = repository.split([*kept, *added[branch]])
    git(tmp_path, "merge", "--quiet", "--no-edit", "ours")
    some = [*numbered(20), *added["ours"], *added["theirs"]]
    merged = repository.split(some)
    assert not merged.asides
    assert sides(merged) == {**sides(first), **sides(splits["ours"]), **sides(splits["theirs"])}
    assert repository.split(some) == merged


def test_an_image_that_two_branches_placed_differently_is_set_aside(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.split(numbered(20))
    added = {"ours": images("x"), "theirs": images(*(f"y{index}" for index in range(12)), "x")}
    placed: dict[str, str] = {}
    for branch in ("ours", "theirs"):
        git(tmp_path, "checkout", "--quiet", "-b", branch, "main")
        for one in added[branch]:  # one after the other, so that each fills what is lacking then
            present = added[branch][: added[branch].index(one) + 1]
            placed[branch] = (
                sides(repository.split([*numbered(20), *present]))["raw/x.jpg"] if one.path == "raw/x.jpg" else ""
            )
    assert placed["ours"] != placed["theirs"], "choose other numbers, so that the branches disagree"
    git(tmp_path, "merge", "--quiet", "--no-edit", "ours")
    some = [*numbered(20), *added["theirs"]]
    merged = repository.split(some)
    (aside,) = merged.asides
    assert aside.image == "raw/x.jpg"
    assert set(aside.touches) == set(placed.values())
    assert repository.split(some) == merged
    text = repository.path.read_text()
    unwanted = next(line for line in text.splitlines() if line.startswith(f"raw/x.jpg,md5-x,{placed['ours']},"))
    repository.path.write_text(text.replace(unwanted + "\n", ""))  # a person decides
    assert sides(repository.split(some))["raw/x.jpg"] == placed["theirs"]
