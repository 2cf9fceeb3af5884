from __future__ import annotations

from pathlib import Path

import pytest

from tasks.workspace.changes import schema_changes
from tasks.workspace.params import read_params
from tests.workspace import dvc, git, run_stage, set_params


@pytest.fixture
def converted(drawn: Path) -> Path:
    assert dvc(drawn, "repro", "convert").returncode == 0
    return drawn


def test_nothing_before_the_first_run_and_nothing_after_it(drawn: Path) -> None:
    assert schema_changes(drawn) == []
    assert dvc(drawn, "repro", "convert").returncode == 0
    assert schema_changes(drawn) == []


def test_what_changed_is_told_until_convert_has_run_again(converted: Path) -> None:
    names = [str(name) for name in read_params(converted)["schema"]["classes"]["cow"]["keypoints"]]
    set_params(converted, **{"schema.classes.cow.keypoints": [*names, "horn"]})
    changes = schema_changes(converted)
    assert changes[0] == "keypoint horn of cow added: older annotations count as not labelled there"
    assert "kpt_shape changed: [13, 3] -> [14, 3]" in changes[1]
    assert "stale" in changes[-1]
    done = dvc(converted, "repro", "convert")
    assert "since the last run: keypoint horn of cow added" in done.stdout
    assert schema_changes(converted) == []


def test_a_fresh_clone_knows_as_well(converted: Path, tmp_path: Path) -> None:
    git(converted, "add", "--all")
    git(converted, "commit", "--quiet", "--message", "run")
    git(tmp_path, "clone", "--quiet", str(converted), str(tmp_path / "clone"))
    set_params(tmp_path / "clone", **{"schema.aliases": {"snout": "nose"}})
    assert schema_changes(tmp_path / "clone") == [
        "aliases changed: snout",
        "these make what they change stale that was made from the annotations",
    ]


@pytest.mark.parametrize("lock", ["{", "schema: '2.0'\n", "<<<<<<< HEAD\n", "stages:\n  convert: {}\n"])
def test_a_lock_file_that_cannot_be_read_stops_nothing(drawn: Path, lock: str) -> None:
    (drawn / "dvc.lock").write_text(lock)
    assert schema_changes(drawn) == []
    assert run_stage(drawn, "convert").returncode == 0
