"""One value of ``params.yaml`` changes, everything else stays byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import Schema, Skeleton
from tasks.commands.writing.params_text import assign, comment
from tasks.commands.writing.schema_text import with_schema
from tasks.workspace.documents import parse_document
from tasks.workspace.params import load_schema

REPOSITORY = Path(__file__).parents[4]
TEXT = """\
# the whole file's comment
seed: 42

train:            # how to train
  epochs: 40      # as many as you have patience for
  names: [a, b]   # flow list
  note: "quoted # no comment"
  sizes:
    - 1
    - 2
  last: null      # nothing

empty:
flow: {a: 1, b: 2}
"""


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("seed", 7, "seed: 42", "seed: 7"),
        ("train.epochs", 5, "epochs: 40      # as", "epochs: 5      # as"),
        ("train.epochs", 0.5, "epochs: 40 ", "epochs: 0.5 "),
        ("train.names", ["c", 1], "[a, b]   # flow list", "[c, 1]   # flow list"),
        ("train.note", "plain", '"quoted # no comment"', "plain"),
        ("train.note", "with: colon # and", '"quoted # no comment"', "'with: colon # and'"),
        ("train.last", True, "last: null      # nothing", "last: true      # nothing"),
        ("train.epochs", None, "epochs: 40 ", "epochs: null "),
        ("train.epochs", {"a": 1}, "epochs: 40 ", "epochs: {a: 1} "),
        ("train.patience", 3, "last: null      # nothing\n", "last: null      # nothing\n  patience: 3\n"),
    ],
)
def test_one_value_changes_and_nothing_else(key: str, value: object, old: str, new: str) -> None:
    assert assign(TEXT, key.split("."), value) == TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("key", "value"),
    [("train.sizes", [3]), ("empty.a", 1), ("flow.a", 2), ("flow.c", 2), ("new.deep.key", "x"), ("empty", 1)],
)
def test_what_cannot_be_edited_in_place_is_written_anew_with_its_comments(key: str, value: object) -> None:
    text = assign(TEXT, key.split("."), value)
    found = YAML(typ="safe").load(text)
    for part in key.split("."):
        found = found[part]
    assert found == value
    for remark in ("# the whole file's comment", "# how to train", "# as many as you have patience for", "# nothing"):
        assert remark in text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("key", "value", "more"),
    [
        ("absent.door.margin", 0.02, ["absent:", "  door:", "    margin: 0.02"]),
        ("train.notes", ["a", "b"], ["  notes: [a, b]"]),
    ],
)
def test_what_is_new_leaves_every_line_of_the_projects_own_file(
    key: str, value: object, more: list[str], line_end: str
) -> None:
    before = (REPOSITORY / "params.yaml").read_text().replace("\n", line_end)
    after = assign(before, key.split("."), value)
    assert [line for line in after.split(line_end) if line not in more] == before.split(line_end)
    assert [line for line in after.split(line_end) if line in more] == more
    assert line_end != "\r\n" or after.count("\n") == after.count("\r\n")


@pytest.mark.parametrize("text", ["a: 1", "a: 1\n", "a:\n    b: 1\n    c:\n      - 1\n"])
def test_another_indentation_and_a_missing_last_line_end(text: str) -> None:
    after = assign(text, ["new", "deep", "key"], 2)
    assert after.startswith(text)
    assert YAML(typ="safe").load(after) == YAML(typ="safe").load(text) | {"new": {"deep": {"key": 2}}}


def test_a_file_of_nothing_gets_its_first_value() -> None:
    assert YAML(typ="safe").load(assign("", ["train", "epochs"], 5)) == {"train": {"epochs": 5}}


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("aliases", [{}, {"snout": "nose"}])
def test_another_schema_leaves_every_line_outside_of_it(aliases: dict[str, str], line_end: str) -> None:
    before = (REPOSITORY / "params.yaml").read_text().replace("\n", line_end)
    head, tail = before.partition("  classes:")[0], before[before.index("# What the diagnosis") :]
    schema = Schema({"horse": Skeleton(("nose", "yes"), (("nose", "yes"),), ())}, aliases)
    after = with_schema(before.encode(), schema)
    assert after.startswith(head)
    assert after.endswith(line_end * 2 + tail)
    assert after.count("\n") == after.count(line_end)
    assert load_schema(parse_document(after.encode(), "params.yaml")) == schema
    assert with_schema(after.encode(), schema) == after


def test_comments_between_the_keys_of_a_section_stay() -> None:
    text = "a:\n    # of b\n    b:\n        x: 1 # gone\n    # of c\n    c: {y: 2}\n    # after c\n\n# of d\nd: 1\n"
    after = assign(text, ["a", "b"], CommentedMap(z=[1]))
    assert after == text.replace("        x: 1 # gone\n", "      z:\n      - 1\n")
    assert assign(after, ["a", "c"], CommentedMap()) == after.replace("{y: 2}", "{}")


SECTIONS = """\
# of everything
seed: 42

validate:
  conf: 0.25   # smallest confidence

  # how many
  resamples: 1000

# the last one
export: {}   # defaults
"""


def test_a_new_parameter_gets_a_line_with_a_comment_and_nothing_else_changes() -> None:
    text = assign(SECTIONS, ["validate", "imgsz"], None, "pixels")
    assert text == SECTIONS.replace("  resamples: 1000\n", "  resamples: 1000\n  imgsz: null  # pixels\n")
    assert assign(text, ["validate", "conf"], 0.5, "of no use") == text.replace("0.25", "0.5")


def test_a_section_that_is_absent_gets_its_first_line() -> None:
    assert assign(SECTIONS, ["doctor"], {}) == SECTIONS + "doctor: {}\n"
    assert assign("seed: 1", ["split", "train"], 0.7, "share") == "seed: 1\nsplit:\n  train: 0.7  # share\n"
    assert assign(SECTIONS, ["a", "b", "c"], [1]) == SECTIONS + "a:\n  b:\n    c: [1]\n"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: {}   # all\nb: 1\n", "a:   # all\n  x: [1]  # new\nb: 1\n"),
        ("a:\nb: 1\n", "a:\n  x: [1]  # new\nb: 1\n"),
        ("a: null  # all\n# of b\nb: 1\n", "a:  # all\n  x: [1]  # new\n# of b\nb: 1\n"),
        ("b: 1\na: ~\n", "b: 1\na:\n  x: [1]  # new\n"),
    ],
)
def test_a_section_that_is_empty_gets_its_first_line(before: str, after: str, line_end: str) -> None:
    assert assign(before.replace("\n", line_end), ["a", "x"], [1], "new") == after.replace("\n", line_end)


def test_a_value_on_the_way_is_no_section() -> None:
    with pytest.raises(ConfigError, match="a is a value"):
        assign("a: 1\n", ["a", "b"], 2)


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("a:\n  b: 1\n  c: 2\n", "a.b", "a:\n  b: 1  # why\n  c: 2\n"),
        ("a:\n  b: 1    # what it was\n  c: 2\n", "a.b", "a:\n  b: 1  # why\n  c: 2\n"),
        ("a:\n  b: null  # what\n", "a.b", "a:\n  b: null  # why\n"),
        ("a:\n  b: [1, {c: 2}]\n", "a.b", "a:\n  b: [1, {c: 2}]  # why\n"),
        ("a:\n  b: '# no comment'\n", "a.b", "a:\n  b: '# no comment'  # why\n"),
        ("a:\r\n  b: 1 # x\r\n", "a.b", "a:\r\n  b: 1  # why\r\n"),
        ("a:\n  b: 1", "a.b", "a:\n  b: 1  # why"),
        ("a: {b: 1, c: 2}\n", "a.b", "a: {b: 1, c: 2}\n"),  # no place beside it
        ("a:\n  b:\n    - 1\n", "a.b", "a:\n  b:\n    - 1\n"),
        ("a:\n  b: 1\n", "a.c", "a:\n  b: 1\n"),
    ],
)
def test_a_comment_stands_beside_one_value(text: str, key: str, wanted: str) -> None:
    changed = comment(text, key.split("."), "why")
    assert changed == wanted
    assert YAML(typ="safe").load(changed) == YAML(typ="safe").load(text)


@pytest.mark.parametrize("sign", ["\x07", "\x1b", "\x85", "\u2028", "\n", "\r", "\ufeff", "\uffff", "\ud800", "\u202e"])
def test_comments_hold_any_text(sign: str) -> None:
    text = comment(assign("a: 1\n", ["b"], 2, f"new{sign}one"), ["a"], f"why{sign}not")
    assert yaml.safe_load(text) == {"a": 1, "b": 2} == dict(YAML().load(text))
    assert text.count("\n") == 2
