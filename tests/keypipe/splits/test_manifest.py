from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.errors import DatasetError
from keypipe.splits.assignment import Split, assign_splits
from keypipe.splits.contents import Sample
from keypipe.splits.manifest import (
    Manifest,
    ManifestLine,
    format_manifest,
    parse_manifest,
    read_manifest,
    start_over,
)
from tests.imports import ROOT
from tests.keypipe.splits.samples import RATIOS, images, numbered, splits_of

OLDER = """image,md5,side,group,phash,fold,state
raw/000.jpg,md5-000,val,,,,used
raw/001.jpg,md5-001,train,,,,used
raw/002.jpg,md5-002,train,,,,used
raw/003.jpg,md5-003,test,,,,used
raw/004.jpg,md5-004,val,,,,used
raw/005.jpg,md5-005,train,,,,used
"""
"""A manifest that no draw of today's would give: half of the images are held out."""


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("n", [6, 7, 8, 30])
def test_splits_of_a_manifest_that_exists_never_move(n: int, seed: int) -> None:
    known = parse_manifest(OLDER).lines
    after = assign_splits(numbered(n), RATIOS, seed, known)
    assert {line.image: line.split for line in known}.items() <= splits_of(after).items()


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


@pytest.mark.parametrize("phash", ["1.23457E+15", "1,23457E+15", "12345678901234", "odd"])
def test_a_hash_that_a_spreadsheet_took_for_a_number(phash: str) -> None:
    row = f'a.jpg,{"0" * 32},train,,"{phash}",,used'
    with pytest.raises(DatasetError, match=f"line 2: '{re.escape(phash)}' is no hash of a.jpg; a spreadsheet program"):
        parse_manifest(f"{format_manifest(Manifest())}{row}\n")


def test_a_hash_that_looks_like_a_number_is_one() -> None:
    line = ManifestLine("a.jpg", "1" * 28 + "1e15", "train", phash="123456789012e+15".replace("+", "0"))
    assert parse_manifest(format_manifest(Manifest((line,)))).lines == (line,)


def test_a_reset_draws_once_and_is_recorded() -> None:
    first = Manifest(assign_splits(numbered(40), RATIOS, 1).lines)
    assert start_over(first, reset=False) == first
    over = start_over(first, reset=True)
    assert (over.lines, over.draw) == ((), 2)
    second = Manifest(assign_splits(numbered(40), RATIOS, 2, over.lines).lines, over.draw, over.reset)
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
        assigned = assign_splits(some, RATIOS, 42, known.lines)
        self.path.write_text(format_manifest(Manifest(assigned.lines)))
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--allow-empty", "--message", "split")
        return assigned


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
    assert splits_of(merged) == {**splits_of(first), **splits_of(splits["ours"]), **splits_of(splits["theirs"])}
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
                splits_of(repository.split([*numbered(20), *present]))["raw/x.jpg"] if one.path == "raw/x.jpg" else ""
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
    assert splits_of(repository.split(some))["raw/x.jpg"] == placed["theirs"]


@pytest.mark.parametrize(
    "text",
    [
        "image,md5,split,group\n",  # the header of another format
        "a,b\x00,c\n",
        "#draw," + "9" * 5000 + ",kept,,,,absent\n",
        '"' + "x" * 200_000,
        "raw/1.jpg\n",
        "\ud800",
    ],
)
def test_what_is_no_line_of_a_manifest_is_refused(text: str) -> None:
    with pytest.raises(DatasetError, match="manifest line 1: "):
        parse_manifest(text)
