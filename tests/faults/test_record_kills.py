"""SIGKILL in what changes records: `accept`, at every change of a file, and moves of aliases, at every commit."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.pipeline.acceptance import accept
from tasks.registry.moves import history
from tasks.registry.moves.aliases import challenge, promote, read_state, rollback
from tasks.versions.stages.acceptance import earlier_fingerprints
from tasks.versions.stages.lockfile import locked_fingerprint
from tests.faults.kills import SAMPLE, Work, killed_at_steps, run_whole
from tests.faults.test_kills import hash_folder
from tests.flows.recorded import make_recorded
from tests.tasks.registry.conftest import make_versions
from tests.workspace import dvc

EDITED = ("train", "validate")
"""Stages whose code an upgrade has changed."""
OUTPUTS = ("models", "data/dataset", "data/coco", "metrics")


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that has run, whose code is another since, and whose parameters lack one that the new code has."""
    root = make_recorded(tmp_path_factory.mktemp("upgraded") / "workspace", n_images=12)
    done = dvc(root, "repro", "--quiet")
    assert done.returncode == 0, done.stderr
    upgrade(root, *EDITED)
    params = root / "params.yaml"
    lines = params.read_text().splitlines(keepends=True)
    params.write_text("".join(line for line in lines if not line.startswith("  area_rule:")))
    return root


def upgrade(root: Path, *stages: str) -> None:
    for stage in stages:
        with (root / f"tasks/{stage}.py").open("a") as file:
            file.write("# a comment more\n")


def turn_records(original: Path, root: Path) -> None:
    """Let MLflow's database, which names absolute paths, speak of the copy of a workspace that it lies in."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(original), str(root)))


def taken(root: Path) -> dict[str, Any]:
    """Return what `accept` decides, without times."""
    entries = yaml.safe_load((root / "accepted.yaml").read_text()) if (root / "accepted.yaml").exists() else []
    return {
        "lock": yaml.safe_load((root / "dvc.lock").read_text()),
        "params": yaml.safe_load((root / "params.yaml").read_text()),
        "accepted": [{key: entry[key] for key in ("stage", "before", "after", "code")} for entry in entries],
    }


def told_to_mlflow(root: Path) -> dict[str, str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return dict(database.execute("SELECT key, value FROM tags WHERE key LIKE 'keypipe.accepted.%'"))


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("others", "sample"), [((), None), (("convert",), SAMPLE)], ids=["", "convert is run anew"])
def test_an_accept_that_is_killed_at_any_step_is_finished_by_the_next(
    upgraded: Path, tmp_path: Path, others: tuple[str, ...], sample: int | None
) -> None:
    template, undisturbed = tmp_path / "template", tmp_path / "undisturbed"
    shutil.copytree(upgraded, template, symlinks=True)
    upgrade(template, *others)
    shutil.copytree(template, undisturbed, symlinks=True)

    def take(root: Path) -> None:
        turn_records(upgraded, root)
        accept(root, [], lambda _: None)

    before, outputs = taken(template), [hash_folder(template / name) for name in OUTPUTS]
    run_whole(partial(take, undisturbed))
    after = taken(undisturbed)
    assert [entry["stage"] for entry in after["accepted"]] == list(EDITED)
    assert sorted(told_to_mlflow(undisturbed)) == [f"keypipe.accepted.{stage}" for stage in EDITED]
    for step, steps, root in killed_at_steps(template, tmp_path / "killed", take, sample=sample):
        about = f"step {step} of {steps}"
        assert taken(root)["params"] in (before["params"], after["params"]), about
        fingerprint = locked_fingerprint((root / "dvc.lock").read_text(), "train") or ""
        if fingerprint == after["accepted"][0]["after"]:
            assert earlier_fingerprints(root, fingerprint), f"{about}: taken, and no record of it"
        run_whole(partial(take, root))
        assert taken(root) == after, about
        assert told_to_mlflow(root) == told_to_mlflow(undisturbed), about
        assert [hash_folder(root / name) for name in OUTPUTS] == outputs, about


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with three versions, of which the second is in use, and the first was before."""
    root = tmp_path_factory.mktemp("registered") / "workspace"

    def make() -> None:
        make_versions(root, 3)
        promote(root, "1", why="the first")
        promote(root, "2", why="better")

    root.mkdir()
    run_whole(make)  # in a process of its own: this one is going to fork
    return root


MOVES: dict[str, Work] = {
    "promote": lambda root: promote(root, "3", why="in a hurry", who="anna"),
    "rollback": lambda root: rollback(root, why="in a hurry", who="anna"),
}
IN_USE = {"promote": "3", "rollback": "1"}
"""The version in use afterwards; before, it is 2."""


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", MOVES)
def test_a_move_that_is_killed_at_any_commit_is_done_or_not(registered: Path, tmp_path: Path, what: str) -> None:
    def move(root: Path) -> None:
        turn_records(registered, root)
        MOVES[what](root)

    def look(root: Path) -> None:
        challenge(root, "2", why="whoever comes next", who="ben")  # settles what the dead process has left
        state = read_state(root)
        assert state.aliases["champion"] in ("2", IN_USE[what])
        if state.aliases["champion"] == "2":
            assert [entry.what for entry in state.entries] == ["promote", "promote", "register"]
            MOVES[what](root)
            state = read_state(root)
        assert state.aliases["champion"] == IN_USE[what]
        assert history.fold(state.entries) == state.aliases
        assert sorted(entry.what for entry in state.entries) == sorted(["promote", "promote", "register", what])

    for _step, _steps, root in killed_at_steps(registered, tmp_path / "killed", move, commits=True):
        run_whole(partial(look, root))
