"""Parameters that mean the same, lines for new ones, refusals; the command itself: flows/pipeline/test_upgrade.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from keypipe.errors import ConfigError, PoseError
from tasks.commands.accept import add_missing_params, params_stay_where_refused, refuse, same_param
from tasks.versions.stages.acceptance import Differences
from tests.imports import ROOT


@pytest.mark.parametrize(
    ("name", "before", "now", "same"),
    [
        ("seed", 42, 42, True),
        ("seed", 42, 43, False),
        ("validate", {"conf": 0.25}, {"conf": 0.25}, True),
        ("validate", {"conf": 0.25}, {"conf": 0.3}, False),
        ("validate", {}, {"resamples": 1000}, True),  # absent, and now its default
        ("validate", {"resamples": 1000}, {}, True),
        ("validate", {}, {"resamples": 500}, False),
        ("validate", None, {"resamples": 1000}, True),
        ("validate.area_rule", None, "box", True),
        ("validate.area_rule", None, "coco", False),
        ("validate.area_rule", "coco", "coco", True),
        ("schema", {"classes": {}}, {"classes": {"cow": {}}}, False),
        ("train", {"epochs": 5, "mosaic": 0.0}, {"epochs": 5}, False),  # an argument of Ultralytics: 1.0 by default
        ("train", {"epochs": 5, "mosaic": 1.0}, {"epochs": 5}, True),
        ("train", {"epochs": 5}, {"epochs": 5, "seed": 0}, False),  # ours to set, and refused there
    ],
)
def test_a_parameter_that_holds_its_default_is_as_one_that_is_absent(
    name: str, before: Any, now: Any, same: bool
) -> None:
    assert same_param(name, before, now) is same


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def test_what_dvc_yaml_names_and_params_yaml_lacks_is_written(workspace: Path) -> None:
    path = workspace / "params.yaml"
    whole = path.read_text()
    assert add_missing_params(workspace) == []
    assert path.read_text() == whole
    lines = whole.splitlines(keepends=True)
    (line,) = [line for line in lines if line.startswith("  area_rule:")]
    path.write_text(whole.replace(line, ""))
    assert add_missing_params(workspace) == ["params.yaml: validate.area_rule: box (default)"]
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(whole)
    assert path.read_text().replace("  area_rule: box\n", "").strip() == whole.replace(line, "").strip()


def test_a_refusal_takes_back_what_was_written(workspace: Path) -> None:
    path = workspace / "params.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lacking := "".join(line for line in lines if not line.startswith("  area_rule:")))

    def refuse_after_writing() -> None:
        with params_stay_where_refused(workspace):
            assert add_missing_params(workspace)
            assert path.read_text() != lacking
            raise PoseError("not that")

    with pytest.raises(PoseError, match="not that"):
        refuse_after_writing()
    assert path.read_text() == lacking


def test_line_ends_of_windows_stay(workspace: Path) -> None:
    path = workspace / "params.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("  area_rule:")]
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    assert add_missing_params(workspace) == ["params.yaml: validate.area_rule: box (default)"]
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n") == len(lines) + 1


def test_what_has_no_default_is_asked_for(workspace: Path) -> None:
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("seed: 42", ""))
    with pytest.raises(ConfigError, match="seed: missing, and it has no default"):
        add_missing_params(workspace)


def test_all_that_stands_in_the_way_is_said_at_once() -> None:
    found = {
        "convert": Differences("convert", code=("keypipe/annotations",), data=("data/raw",)),
        "train": Differences("train", code=("tasks/train.py",), params=("train",), outputs=("models",)),
        "export": Differences("export", known=False),
    }
    with pytest.raises(PoseError) as caught:
        refuse(found, list(found))
    assert str(caught.value).splitlines() == [
        "convert: not only keypipe's own code changed, but data/raw",
        "train: not only keypipe's own code changed, but params.yaml train",
        "train: its outputs are not those of its last run: models",
        "export: has not run yet, so there is nothing to accept",
        "nothing was taken; `keypipe run` makes it anew",
    ]
    refuse({"train": Differences("train", code=("tasks/train.py",))}, ["train"])
