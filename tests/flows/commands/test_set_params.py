"""``--set``: one value changes, everything else stays byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows.commands.set_params import assign, parse_assignment, set_params
from keypipe.errors import ConfigError
from tests.flows.toy import DVC_YAML, PARAMS, REPOSITORY

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
    for comment in ("# the whole file's comment", "# how to train", "# as many as you have patience for", "# nothing"):
        assert comment in text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("key", "value", "more"),
    [
        ("retrain.gate.margin", 0.02, ["retrain:", "  gate:", "    margin: 0.02"]),
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


def test_line_ends_of_windows_stay(tmp_path: Path) -> None:
    text = (REPOSITORY / "params.yaml").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "params.yaml").write_bytes(text)
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    set_params(tmp_path, ["seed=7"])
    assert (tmp_path / "params.yaml").read_bytes() == text.replace(b"\r\nseed: 42\r\n", b"\r\nseed: 7\r\n")


def test_a_file_of_nothing_gets_its_first_value() -> None:
    assert YAML(typ="safe").load(assign("", ["train", "epochs"], 5)) == {"train": {"epochs": 5}}


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a=5", 5),
        ("a=0.5", 0.5),
        ("a=true", True),
        ("a=null", None),
        ("a=[1, x]", [1, "x"]),
        ("a=x=y", "x=y"),
        ("a=", None),
    ],
)
def test_values_have_the_types_of_yaml(assignment: str, value: object) -> None:
    assert parse_assignment(assignment) == (["a"], value)


@pytest.mark.parametrize("assignment", ["train.epochs", "=5", "train..epochs=5", "a=[1", "a={b: c: d}"])
def test_an_assignment_that_is_none_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match="--set "):
        parse_assignment(assignment)


def test_the_projects_own_parameters_keep_their_comments(tmp_path: Path) -> None:
    before = (REPOSITORY / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(before)
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    lines = set_params(tmp_path, ["seed=7"])
    assert lines[0] == "params.yaml: seed: 42 -> 7"
    assert (tmp_path / "params.yaml").read_text() == before.replace("\nseed: 42\n", "\nseed: 7\n")


@pytest.mark.parametrize(
    "assignment", ["train.epochz=5", "train.epochs=many", "nonsense.key=1", "seed=-1", "split.train=0.9"]
)
def test_nonsense_leaves_the_file_as_it_was(tmp_path: Path, assignment: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    with pytest.raises(ConfigError):
        set_params(tmp_path, ["train.imgsz=192", assignment])
    assert path.read_text() == PARAMS
