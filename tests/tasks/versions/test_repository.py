"""What DVC itself refuses, and its locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from keypipe.errors import PoseError
from tasks.versions.repository import _is_command_of, clear_stale_locks
from tasks.versions.stages.state import stage_names, stage_version
from tests.flows.toy import Toy, dvc, run


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["rm", "dvc.yaml"], "no dvc.yaml here"),
        (["rm", "-r", ".dvc"], "run `dvc init`"),
        (["sh", "-c", "echo 'stages: [' > dvc.yaml"], "dvc.yaml"),
        (["sh", "-c", "echo '<<<<<<< HEAD' > dvc.lock"], "dvc.lock"),
        (["sed", "-i", "s/params: .validate./params: [gone]/", "dvc.yaml"], "gone"),
    ],
)
def test_a_broken_workspace_is_one_clear_message(ran: Toy, command: list[str], message: str) -> None:
    run(command, ran.root)
    with pytest.raises(PoseError, match=message):
        _ = [stage_version(ran.root, stage) for stage in stage_names(ran.root)]


def test_stale_locks_of_dvc_are_dropped(ran: Toy) -> None:
    lock = ran.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text('{"read": {}, "write": {"' + str(ran.root / "models") + '": {"pid": 1, "cmd": "dvc repro"}}}')
    os.utime(lock, (1, 1))  # written before the process that has this number now
    clear_stale_locks(ran.root)
    assert "models" not in lock.read_text()


def test_a_lock_of_dvc_is_kept_though_the_clock_was_set_forward(ran: Toy) -> None:
    """A process that started, as the clock tells it now, after it had written its lock."""
    lock = ran.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    holder = subprocess.Popen([sys.executable, "-c", "input()", "repro", "train"], stdin=subprocess.PIPE)
    try:
        for command, kept in (("dvc repro train", True), ("dvc repro export", False)):
            entry = {"pid": holder.pid, "cmd": command}
            lock.write_text(json.dumps({"read": {}, "write": {str(ran.root / "models"): entry}}))
            os.utime(lock, (1, 1))
            clear_stale_locks(ran.root)
            assert ("models" in lock.read_text()) == kept
    finally:
        holder.communicate(b"\n")


@pytest.mark.parametrize(
    ("command_line", "arguments", "same"),
    [
        ("python /venv/bin/dvc repro train", "/venv/bin/dvc repro train", True),
        ("python -m dvc repro train", "/site-packages/dvc/__main__.py repro train", True),
        ("python -m dvc repro export", "/site-packages/dvc/__main__.py repro train", False),
        ("python -m tasks.convert", "/farm/tasks/convert.py", True),
        ("python -m dvc", "/site-packages/dvc/__main__.py", True),
        ("python -m tasks.convert", "/farm/tasks/split.py", False),
        ("python -c 'import dvc.repo; dvc.repo.Repo().pull()'", "-c", True),
        ("/usr/lib/systemd", "/farm/tasks/split.py", False),
    ],
)
def test_a_process_is_known_by_what_python_leaves_of_its_command(command_line: str, arguments: str, same: bool) -> None:
    assert _is_command_of(command_line.split(), arguments) == same


def test_no_lock_of_dvc_is_left_held(ran: Toy) -> None:
    stage_version(ran.root, "train")
    assert "up to date" in dvc(ran.root, "status")
