"""Kills a piece of work at its every step: before each change that it makes to files, or each commit to a database."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SAMPLE = 7
"""Steps that `make test` tries of a piece of work, evenly spread; `make faults` tries all."""

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.copyfile"}
"""Events of Python's audit hooks (PEP 578) by which files change; ``os.replace`` is told as ``os.rename``."""


Work = Callable[[Path], Any]


def killed_at_steps(
    template: Path,
    folder: Path,
    work: Work,
    *,
    sample: int | None = None,
    commits: bool = False,
    touching: Sequence[str] = ("",),
) -> Iterator[tuple[int, int, Path]]:
    """Yield copies of a place in each of which work was killed, at another of its steps.

    Args:
        template: the place as it is before the work; it is left alone.
        folder: where the copies lie; each goes when the next is asked for.
        work: what is done in a copy.
        sample: how many of its steps, evenly spread; None: every one.
        commits: a step is a commit to a database, and no change to files.
        touching: only changes of files count in whose path one of these stands.

    Yields:
        The step, how many there are, and the copy.
    """

    def run_in_copy(name: str, step: int) -> Path:
        place = folder / name
        shutil.copytree(template, place, symlinks=True)
        killed, done = run_killed(lambda: work(place), place, step, commits=commits, touching=touching)
        assert killed == (step > 0), f"step {step} was not reached, but {done}"
        steps.append(done)
        return place

    steps: list[int] = []
    shutil.rmtree(run_in_copy("counted", 0))
    total = steps[0]
    assert total, "it takes no step that could be seen"
    tried = min(sample or total, total)
    for step in sorted({1 + round(n * (total - 1) / max(tried - 1, 1)) for n in range(tried)}):
        place = run_in_copy(f"step{step}", step)
        yield step, total, place
        shutil.rmtree(place)


def run_whole(work: Callable[[], Any]) -> None:
    """Do work that must end well in a process of its own, so that this one may fork again."""
    assert not run_killed(work, Path("/"), 0)[0]


def run_killed(
    work: Callable[[], Any], folder: Path, step: int, *, commits: bool = False, touching: Sequence[str] = ("",)
) -> tuple[bool, int]:
    """Do work in a process of its own that is killed before its so many-th change to files below a folder.

    Args:
        work: what is done.
        folder: changes elsewhere are no steps.
        step: counted from 1; 0 kills nothing.
        commits: what counts are commits to databases, wherever they lie, and no changes to files.
        touching: only changes of files count in whose path one of these stands.

    Returns:
        Whether it was killed (False: it ended well, with fewer steps), and how many steps it came to.
    """
    with mmap.mmap(-1, 8) as shared:
        process = os.fork()
        if process == 0:
            os._exit(_work_until(work, str(folder.resolve()), step, shared, commits=commits, touching=touching))
        _, status = os.waitpid(process, 0)
        done = int.from_bytes(shared[:8], "little")
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True, done
    assert os.waitstatus_to_exitcode(status) == 0, "the work failed; its traceback is above"
    return False, done


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


def _work_until(
    work: Callable[[], Any], folder: str, step: int, shared: mmap.mmap, *, commits: bool, touching: Sequence[str]
) -> int:
    process = os.getpid()

    def count(*_: Any) -> None:
        if os.getpid() != process:  # forked off by the work
            return
        done = int.from_bytes(shared[:8], "little") + 1
        shared[:8] = done.to_bytes(8, "little")
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def notice(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES and not (event == "open" and _writes(arguments)):
            return
        # Paths that are relative to an open folder, as shutil.rmtree's, are below it as well.
        paths = [one for one in _paths(arguments) if one[0] != "/" or os.path.realpath(one).startswith(folder)]
        if any(word in one for one in paths for word in touching):
            count()

    if commits:
        from sqlalchemy import Engine, event

        event.listen(Engine, "commit", count)
    else:
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
