"""Locks between processes: held by one, waited for or refused, and free after a death."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.system.locks import LockedError, held_lock, is_held
from tests.imports import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from flows.system.locks import held_lock
with held_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the lock until it reads a line or is killed."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_nobody_holds_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "folder" / "lock")
    assert not (tmp_path / "folder").exists()


def test_one_holds_and_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with holder(path):
        assert is_held(path)
        with pytest.raises(LockedError), held_lock(path):
            pytest.fail("held by two")
    assert not is_held(path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_holder_holds_nothing(tmp_path: Path, number: int) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.send_signal(number)
        process.wait()
        with held_lock(path):
            assert is_held(path)


def test_who_waits_is_asked_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        asked: list[float] = []

        def waiting() -> None:
            asked.append(time.monotonic())
            if len(asked) == 3:
                process.communicate("go\n")

        with held_lock(path, waiting):
            assert len(asked) == 3


def test_who_waits_may_give_up(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    def give_up() -> None:
        raise KeyboardInterrupt

    with holder(path):
        with pytest.raises(KeyboardInterrupt), held_lock(path, give_up):
            pytest.fail("held by two")
        assert is_held(path)
    with held_lock(path, give_up):
        assert is_held(path)


def test_flock_of_older_versions_is_respected(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(path)
    with held_lock(path), path.open("a") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
