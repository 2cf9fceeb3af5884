"""Kills a piece of work at its every step: before each change that it makes to files."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.copyfile"}
"""Events of Python's audit hooks (PEP 578) by which files change; ``os.replace`` is told as ``os.rename``."""


def run_killed(work: Callable[[], Any], folder: Path, step: int) -> bool:
    """Do work in a process of its own that is killed before its so many-th change to files below a folder.

    Args:
        work: what is done.
        folder: changes elsewhere are no steps.
        step: counted from 1; 0 kills nothing.

    Returns:
        Whether it was killed; False: it ended well, with fewer steps.
    """
    process = os.fork()
    if process == 0:
        os._exit(_work_until(work, str(folder.resolve()), step))
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the work failed; its traceback is above"
    return False


def kill_before(event: str, word: str, number: int) -> None:
    """Kill this process before the so many-th event of Python's audit hooks that speaks of a word, such as a path."""
    seen = 0

    def notice(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if name == event and word in str(arguments):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(notice)


def _work_until(work: Callable[[], Any], folder: str, step: int) -> int:
    done = 0

    def notice(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        if event not in _CHANGES and not (event == "open" and _writes(arguments)):
            return
        # Paths that are relative to an open folder, as shutil.rmtree's, are below it as well.
        if any(one[0] != "/" or os.path.realpath(one).startswith(folder) for one in _paths(arguments)):
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(notice)
    try:
        work()
    except BaseException:  # noqa: BLE001 - told to the process that waits
        traceback.print_exc()
        return 1
    return 0


def _writes(arguments: tuple[Any, ...]) -> bool:
    _path, mode, flags = arguments
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(flags, int) else mode not in (None, "r")


def _paths(arguments: tuple[Any, ...]) -> list[str]:
    return [os.fsdecode(one) for one in arguments if isinstance(one, str | bytes | os.PathLike) and one]
