"""Aliases are moved by one at a time, recorded, and watched; on a real server."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from keypipe.errors import ConfigError, PoseError
from tasks.registry.moves import history
from tasks.registry.moves.aliases import challenge, dismiss, holding, promote, read_state, rollback
from tasks.registry.moves.history import OUTSIDE, Move
from tasks.tracking.models.registry import HISTORY_EXPERIMENT, Registry
from tests.imports import ROOT
from tests.patience import PATIENCE
from tests.workspace import environment


def told(root: Path) -> list[str]:
    """Return the history as lines."""
    return [f"{entry.what}: {', '.join(map(str, entry.moves))}" for entry in read_state(root).entries]


def start(registry: Registry, code: str, stdin: int | None = None) -> subprocess.Popen[str]:
    """Start a program that says when it begins, in a process of its own."""
    head = f"import os, sys\nfrom pathlib import Path\nsys.path.insert(0, {str(ROOT)!r})\nroot = Path(sys.argv[1])\n"
    env = environment(MLFLOW_TRACKING_URI=registry.uri)
    command = [sys.executable, "-c", f"{head}{code}", str(registry.root)]
    return subprocess.Popen(command, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


PROMOTE = """
from keypipe.errors import PoseError
from tasks.registry.moves.aliases import promote, read_state
read_state(root)  # all is imported and connected: what follows takes moments
print("begins", flush=True)
try:
    promote(root, "{version}", why="{who} likes it", who="{who}")
except PoseError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
print("moved")
"""

DIES = """
import signal
from tasks.registry.moves import aliases
from tasks.tracking.models.registry import Registry

class Dying(Registry):
    def set_alias(self, alias, number):
        if {before}:
            os.kill(os.getpid(), signal.SIGKILL)
        super().set_alias(alias, number)
        os.kill(os.getpid(), signal.SIGKILL)

aliases.Registry = Dying
aliases.promote(root, "2", why="in a hurry", who="anna")
"""


def test_a_version_is_put_into_use_and_the_one_of_before_comes_back(registry: Registry) -> None:
    root = registry.root
    challenge(root, "1", why="new")
    promote(root, "challenger", why="the first")
    assert registry.aliases() == {"champion": "1"}
    promote(root, "v2", why="better")
    promote(root, "3", why="better still")
    assert registry.aliases() == {"champion": "3", "previous": "2"}
    rollback(root, why="worse")
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    promote(root, "4", why="another try")
    assert registry.aliases() == {"champion": "4", "previous": "2"}  # not 3, which was rolled back from
    rollback(root)
    rollback(root)
    assert registry.aliases() == {"champion": "1"}
    with pytest.raises(ConfigError, match=r"no version of cows-.* was in use before v1"):
        rollback(root)
    assert told(root) == [
        "register: challenger none -> v1",
        "promote: champion none -> v1, challenger v1 -> none",
        "promote: previous none -> v1, champion v1 -> v2",
        "promote: previous v1 -> v2, champion v2 -> v3",
        "rollback: previous v2 -> v1, champion v3 -> v2",
        "promote: previous v1 -> v2, champion v2 -> v4",
        "rollback: previous v2 -> v1, champion v4 -> v2",
        "rollback: previous v1 -> none, champion v2 -> v1",
    ]
    assert read_state(root).entries[4].why == "worse"
    assert read_state(root).entries[4].who == history.me()


def test_what_cannot_be_moved_is_said_and_changes_nothing(registry: Registry) -> None:
    root = registry.root
    promote(root, "1", why="the first")
    for version, message in (("1", "in use already"), ("9", r"no such version \(it has: v4, v3, v2, v1; aliases: ch")):
        with pytest.raises(ConfigError, match=message):
            promote(root, version, why="x")
    with pytest.raises(ConfigError, match="no challenger"):
        dismiss(root, why="x")
    challenge(root, "2", why="new")
    dismiss(root, why="worse")
    assert registry.aliases() == {"champion": "1"}
    assert len(read_state(root).entries) == 3
    registry._client.delete_model_version(registry.name, "4")
    with pytest.raises(ConfigError, match=r"4: cows-.* has no such version"):
        promote(root, "4", why="x")


def test_what_others_move_is_noticed_once_and_told_as_such(registry: Registry) -> None:
    root = registry.root
    promote(root, "1", why="the first")
    registry._client.set_registered_model_alias(registry.name, "champion", "2")
    registry._client.set_registered_model_alias(registry.name, "shadow", "3")
    for _ in range(2):
        state = read_state(root)
        assert [entry.what for entry in state.entries] == ["promote", "found"]
    found = state.entries[-1]
    assert (found.who, found.moves) == (OUTSIDE, (Move("champion", "1", "2"), Move("shadow", None, "3")))
    promote(root, "3", why="better")
    assert registry.aliases()["previous"] == "2"
    registry._client.delete_model_version(registry.name, "2")  # takes the alias along
    assert told(root)[-1] == "found: previous v2 -> none"
    rollback(root)
    assert registry.aliases() == {"champion": "1", "shadow": "3"}


def test_the_history_cannot_be_changed_and_comes_back_when_it_is_deleted(registry: Registry) -> None:
    root = registry.root
    promote(root, "1", why="the first")
    client = registry._client
    (run,) = client.search_runs([client.get_experiment_by_name(HISTORY_EXPERIMENT).experiment_id],
                                f"tags.`keypipe.registry` = '{registry.name}'")  # fmt: skip
    with pytest.raises(Exception, match="already logged"):
        client.log_param(run.info.run_id, "000001", "something else")
    client.delete_run(run.info.run_id)
    promote(root, "2", why="better")
    assert told(root) == ["promote: champion none -> v1", "promote: previous none -> v1, champion v1 -> v2"]
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"


def test_of_two_at_once_one_wins_and_the_other_is_told(registry: Registry) -> None:
    promote(registry.root, "1", why="the first")
    with holding(registry, "the test"):
        both = {who: start(registry, PROMOTE.format(version=version, who=who)) for version, who in
                (("2", "anna"), ("3", "ben"))}  # fmt: skip
        for process in both.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
        time.sleep(4)  # both have seen version 1 in use and wait for their turn
        assert registry.aliases() == {"champion": "1"}
    said = {who: process.communicate(timeout=PATIENCE)[0] for who, process in both.items()}
    (winner,) = [who for who, process in both.items() if process.returncode == 0]
    (loser,) = {*both} - {winner}
    number = {"anna": "2", "ben": "3"}[winner]
    assert said[winner] == "moved\n"
    assert said[loser].startswith(f"MovedError: {winner} moved previous none -> v1, champion v1 -> v{number} at 20")
    assert f"({winner} likes it) in the meantime; nothing was changed by this command" in said[loser]
    assert registry.aliases() == {"champion": number, "previous": "1"}
    assert [entry.who for entry in read_state(registry.root).entries][1:] == [winner]


def test_many_at_once_lose_no_entry(registry: Registry) -> None:
    code = """
from tasks.registry.moves.aliases import challenge
for version in "1234":
    challenge(root, version, why=version, who=sys.argv[1])
"""
    everyone = [start(registry, code) for _ in range(3)]
    assert [process.communicate(timeout=PATIENCE)[0] for process in everyone] == [""] * 3
    entries = read_state(registry.root).entries
    assert [entry.what for entry in entries] == ["register"] * 12
    assert history.fold(entries) == registry.aliases()
    for number, entry in enumerate(entries):
        for move in entry.moves:
            assert move.before == history.fold(entries[:number]).get("challenger")


@pytest.mark.parametrize(("before", "champion"), [(True, "1"), (False, "2")])
def test_a_move_whose_process_was_killed_is_finished_or_dropped(
    registry: Registry, before: bool, champion: str
) -> None:
    promote(registry.root, "1", why="the first")
    killed = start(registry, DIES.format(before=before))
    assert killed.wait(PATIENCE) == -9
    assert registry.aliases() == ({"champion": "1"} if before else {"champion": "1", "previous": "1"})
    challenge(registry.root, "3", why="new", who="ben")
    assert registry.aliases()["champion"] == champion
    entries = read_state(registry.root).entries
    assert [entry.what for entry in entries] == ["promote"] * (1 if before else 2) + ["register"]
    if not before:
        assert (entries[1].who, entries[1].why) == ("anna", "in a hurry")
        assert "its process ended in the middle of it; recorded by ben" in entries[1].note
    assert registry.read_named(f"{registry.name}.lease.moves") is None


def test_a_server_that_is_gone_is_one_line(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for act in (lambda: read_state(registry.root), lambda: promote(registry.root, "1", why="x")):
        with pytest.raises(PoseError, match=r"^the MLflow server http://127.0.0.1:9 does not answer \(.*$"):
            act()


def test_nothing_registered_makes_no_database(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("{}\n")
    assert read_state(tmp_path).versions == []
    with pytest.raises(ConfigError, match="has no version yet; `keypipe register`"):
        promote(tmp_path, "1", why="x")
    assert not (tmp_path / "mlflow.db").exists()
