from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from keypipe.annotation import AnnotatedImage
from keypipe.errors import ConfigError, DatasetError
from keypipe.split import ManifestLine, assign_sides, check_ratios, find_group, format_manifest, parse_manifest

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def images(*names: str) -> list[AnnotatedImage]:
    return [AnnotatedImage(f"raw/{name}.jpg", (10, 10), f"md5-{name}", (), "") for name in names]


def numbered(n: int) -> list[AnnotatedImage]:
    return images(*(f"{index:03d}" for index in range(n)))


def sides(lines: list[ManifestLine]) -> dict[str, str]:
    return {line.image: line.side for line in lines}


def test_ratios_are_met() -> None:
    counts = Counter(sides(assign_sides(numbered(100), RATIOS, 42)).values())
    assert counts == {"train": 70, "val": 15, "test": 15}


def test_the_common_90_10_with_seed_42_is_scikit_learns() -> None:
    lines = assign_sides(numbered(50), {"train": 0.9, "val": 0.1, "test": 0.0}, 42)
    _, val = train_test_split([line.image.removeprefix("raw/") for line in lines], test_size=5, random_state=42)
    assert {line.group for line in lines if line.side == "val"} == set(val)
    assert Counter(line.side for line in lines) == {"train": 45, "val": 5}


def test_another_seed_gives_another_split() -> None:
    assert assign_sides(numbered(50), RATIOS, 1) != assign_sides(numbered(50), RATIOS, 2)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(30)), st.integers(10, 25))
def test_nothing_moves_when_images_are_added_and_file_order_does_not_matter(order: list[int], n_first: int) -> None:
    everything = numbered(30)
    shuffled = [everything[index] for index in order]
    first = assign_sides(shuffled[:n_first], RATIOS, 42)
    assert first == assign_sides(sorted(shuffled[:n_first], key=lambda image: image.path), RATIOS, 42)
    second = sides(assign_sides(shuffled, RATIOS, 42, first))
    assert {image: second[image] for image in sides(first)} == sides(first)
    assert Counter(second.values())["val"] >= 4


def test_a_renamed_image_keeps_its_side_and_a_removed_one_takes_it_again() -> None:
    before = assign_sides(numbered(20), RATIOS, 42)
    renamed = [*numbered(20)[1:-1], AnnotatedImage("raw/new-name.jpg", (10, 10), "md5-000", (), "")]
    after = assign_sides(renamed, RATIOS, 42, before)
    assert sides(after)["raw/new-name.jpg"] == sides(before)["raw/000.jpg"]
    assert "raw/000.jpg" not in sides(after)
    assert [line.image for line in after if line.present == "no"] == ["raw/019.jpg"]
    again = assign_sides(numbered(20), RATIOS, 7, after)
    assert sides(again) == sides(before)


def test_a_group_never_straddles_two_sides_and_new_members_join_it() -> None:
    names = [f"s{session}_{index}" for session in range(12) for index in range(session % 4 + 1)]
    pattern = re.compile(r"^(s\d+)_")
    lines = assign_sides(images(*names), RATIOS, 42, pattern=pattern)
    by_group = {line.group: line.side for line in lines}
    assert len({(line.group, line.side) for line in lines}) == len(by_group) == 12
    more = assign_sides(images(*names, "s3_99", "s12_0"), RATIOS, 42, lines, pattern)
    assert sides(more)["raw/s3_99.jpg"] == by_group["s3"]
    counts = Counter(line.side for line in lines)
    assert abs(counts["val"] / len(names) - 0.15) < 0.08


def test_a_group_on_two_sides_names_both() -> None:
    known = [ManifestLine("raw/s1_1.jpg", "x", "train", "s1"), ManifestLine("raw/s1_2.jpg", "y", "test", "s1")]
    with pytest.raises(DatasetError, match="group 's1' stands on the sides test, train"):
        assign_sides(images("s1_3"), RATIOS, 42, known, re.compile(r"s\d"))


def test_find_group() -> None:
    assert find_group("raw/cam1/a.jpg", re.compile(r"^([^/]+)/")) == "cam1"
    assert find_group("raw/cam1/a.jpg", re.compile(r"cam\d")) == "cam1"
    assert find_group("derived/cam1/a.jpg", None) == "cam1/a.jpg"
    with pytest.raises(DatasetError, match="does not match other"):
        find_group("raw/other/a.jpg", re.compile(r"cam\d"))


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


lines = st.lists(
    st.builds(
        ManifestLine,
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1),
        st.just("0" * 32),
        st.sampled_from(["train", "val", "test"]),
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1),
        st.sampled_from(["yes", "no"]),
    ),
    unique_by=lambda line: line.image,
)


@given(lines)
def test_the_manifest_is_read_back(lines: list[ManifestLine]) -> None:
    assert parse_manifest(format_manifest(lines)) == sorted(lines)


def test_two_branches_merge_line_by_line() -> None:
    first = assign_sides(numbered(20), RATIOS, 42)
    ours = assign_sides([*numbered(20), *images("ours")], RATIOS, 42, first)
    theirs = assign_sides([*numbered(20), *images("theirs")], RATIOS, 42, first)
    merged = format_manifest(ours) + format_manifest(theirs)  # as git's union merge may leave it
    assert len(parse_manifest(merged)) == 22


def test_a_contradiction_between_two_branches_is_told() -> None:
    text = format_manifest([ManifestLine("raw/a.jpg", "x", "train", "a")]) + "raw/a.jpg,x,test,a,yes\n"
    with pytest.raises(DatasetError, match=r"line 3: raw/a.jpg is on side test, and on train"):
        parse_manifest(text)


def test_a_line_that_is_none() -> None:
    with pytest.raises(DatasetError, match="line 1: expected image,md5,side,group,present"):
        parse_manifest("a,b\n")
