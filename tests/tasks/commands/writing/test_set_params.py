"""``--set``: one value changes, everything else stays byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from keypipe.errors import ConfigError
from tasks.commands.writing.set_params import parse_assignment, set_params
from tests.flows.toy import DVC_YAML, PARAMS, REPOSITORY


def test_line_ends_of_windows_stay(tmp_path: Path) -> None:
    text = (REPOSITORY / "params.yaml").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "params.yaml").write_bytes(text)
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    set_params(tmp_path, ["seed=7"])
    assert (tmp_path / "params.yaml").read_bytes() == text.replace(b"\r\nseed: 42\r\n", b"\r\nseed: 7\r\n")


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
