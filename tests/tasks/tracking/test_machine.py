"""Whether a process lives: by what no clock and no other process can change."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import psutil
import pytest

from tasks.tracking.machine import is_alive, own_process, process_is_dead, start_mark


def test_this_process_lives_whatever_the_clock_does(monkeypatch: pytest.MonkeyPatch) -> None:
    identity, mark = own_process(), start_mark(os.getpid())
    assert mark
    assert not process_is_dead(identity)
    real = psutil.Process.create_time
    for step_seconds in (1.0, -1.0, 3600.0, 86_400.0):  # the clock is set: psutil counts from a boot time that moves
        monkeypatch.setattr(psutil.Process, "create_time", lambda process, step=step_seconds: real(process) + step)
        assert not process_is_dead(identity)
        assert is_alive(os.getpid(), mark)


def test_a_process_that_has_ended_is_dead_and_so_is_one_whose_number_another_has() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = start_mark(child.pid)
    identity = f"{platform.node()}:{child.pid}:{mark}"
    assert not process_is_dead(identity)
    child.kill()
    while start_mark(child.pid) is not None:  # a zombie has ended
        pass
    assert process_is_dead(identity)
    child.communicate()
    assert process_is_dead(identity)
    assert process_is_dead(f"{platform.node()}:{os.getpid()}:{mark}"), "the number was given away again"


@pytest.mark.parametrize("identity", ["", "another-host:1:x", "nonsense", f"{platform.node()}:no:1"])
def test_of_what_cannot_be_looked_at_nothing_is_told(identity: str) -> None:
    assert not process_is_dead(identity)


def test_times_of_earlier_versions_are_understood() -> None:
    began = psutil.Process().create_time()
    name = f"{platform.node()}:{os.getpid()}"
    assert not process_is_dead(f"{name}:{began + 1.2:.2f}"), "a correction of the clock by a second"
    assert process_is_dead(f"{name}:{began - 60:.2f}")
    assert is_alive(os.getpid(), began)
    assert not is_alive(os.getpid(), began - 60)
