"""The Chinese pages have the commands, links and parts of the English ones, and say where they are behind."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.imports import ROOT
from tools.translations import (
    MARK,
    digest,
    find_behind,
    find_pairs,
    mark,
    name_of,
    read_record,
    split_sections,
)

PAIRS = find_pairs()
BLOCK = re.compile(r"(?:<!-- [^>]+ -->\n)?```(?:sh|yaml|python)\n.*?```", re.DOTALL)
COMMAND = re.compile(r"`((?:keypipe|make|dvc|git|pip|python) [^`]+)`")
each_pair = pytest.mark.parametrize(("english", "chinese"), PAIRS.items(), ids=[name_of(page) for page in PAIRS])


def read(english: Path, chinese: Path) -> tuple[str, str]:
    return english.read_text(encoding="utf-8"), MARK.sub("", chinese.read_text(encoding="utf-8"))


def destinations(page: Path, text: str) -> set[str]:
    """Return where a page's links lead, in the English pages."""
    found = set()
    for target in re.findall(r"\]\(([^)#:\s]+)", text):
        place = os.path.relpath(page.parent / target, ROOT)
        found.add(place.replace("docs/zh-CN/", "docs/").replace("README.zh-CN.md", "README.md"))
    return found - {name_of(page).replace("docs/zh-CN/", "docs/").replace("README.zh-CN.md", "README.md")}


@each_pair
def test_the_commands_are_the_same(english: Path, chinese: Path) -> None:
    ours, theirs = read(english, chinese)
    assert BLOCK.findall(theirs) == BLOCK.findall(ours)
    commands = [{" ".join(command.split()) for command in COMMAND.findall(text)} for text in (ours, theirs)]
    assert commands[0] == commands[1]


@each_pair
def test_the_parts_are_the_same(english: Path, chinese: Path) -> None:
    ours, theirs = read(english, chinese)
    headings = [re.findall(r"^#+ |^\|[-|:]+\|$", BLOCK.sub("", text), flags=re.MULTILINE) for text in (ours, theirs)]
    assert headings[0] == headings[1]
    rows = [len(re.findall(r"^\| ", text, flags=re.MULTILINE)) for text in (ours, theirs)]
    assert rows[0] == rows[1]


@each_pair
def test_the_links_lead_to_the_same_pages(english: Path, chinese: Path) -> None:
    ours, theirs = read(english, chinese)
    assert destinations(chinese, theirs) == destinations(english, ours)


@each_pair
def test_a_link_goes_to_the_chinese_page_where_there_is_one(english: Path, chinese: Path) -> None:
    _, theirs = read(english, chinese)
    linked = {(chinese.parent / target).resolve() for target in re.findall(r"\]\(([^)#:\s]+)", theirs)}
    assert linked & set(PAIRS) <= {english}


@each_pair
def test_what_is_behind_is_marked(english: Path, chinese: Path) -> None:
    ours, theirs = english.read_text(encoding="utf-8"), chinese.read_text(encoding="utf-8")
    behind = find_behind(ours, MARK.sub("", theirs), read_record().get(name_of(english), set()))
    marked = [index for index, section in enumerate(split_sections(theirs)) if MARK.search(section)]
    headings = [section.partition("\n")[0] for section in split_sections(theirs)]
    assert marked == behind, (
        f"{name_of(chinese)} is behind {name_of(english)} in {[headings[index] for index in behind]}: translate what "
        f"changed and run `python tools/translations.py --done {name_of(english)}`, or without --done to mark it"
    )


def test_a_changed_section_is_found_marked_and_unmarked() -> None:
    english, chinese = "# A\n\nfirst\n\n## B\n\nsecond\n", "# 甲\n\n一\n\n## 乙\n\n二\n"
    known = {digest(section) for section in split_sections(english)}
    assert find_behind(english, chinese, known) == []
    assert find_behind(english.replace("\nsecond", "  \n second"), chinese, known) == []
    changed = english.replace("second", "2nd")
    assert find_behind(changed, chinese, known) == [1]
    marked = mark(chinese, [1], "../a.md")
    assert marked.startswith(chinese.partition("## ")[0])
    assert "## 乙\n\n> **本节落后于英文版**" in marked
    assert mark(marked, [1], "../a.md") == marked
    assert mark(marked, [], "../a.md") == chinese
    assert find_behind(english + "\n## C\n", chinese, known) == [0, 1]


def test_a_heading_within_code_begins_no_section() -> None:
    assert len(split_sections("# A\n\n```sh\n## not\n```\n\n## B\n")) == 2
