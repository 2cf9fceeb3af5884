"""Signs of life in a shared folder, for where neither process numbers nor locks tell: between machines.

A process touches a file again and again; who looks at it sees whether it changes. What counts is the change, as long
as the looker's own clock measures, so that no two clocks have to agree and none may not step.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BEAT_SECONDS = 3.0
SILENT_SECONDS = 15.0
"""After so long without a sign of life a process counts as dead."""

_LOOK_SECONDS = 0.5
_RECENT_SECONDS = 60.0


@contextmanager
def giving_signs(path: Path) -> Iterator[None]:
    """Give signs of life through a file while the block runs; where it is not there, none."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            touch(path)

    thread = threading.Thread(target=beat, name=f"signs of life in {path.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def touch(path: Path) -> None:
    """Give one sign of life."""
    with contextlib.suppress(OSError):
        os.utime(path)


def is_silent(path: Path, waiting: Callable[[], None]) -> bool:
    """Tell whether nobody gives signs of life through a file, after looking at it for ``SILENT_SECONDS`` at most.

    Args:
        path: the file; gone, it is silent.
        waiting: called about twice a second meanwhile; may raise to give up.
    """
    seen, until = _mark(path), time.monotonic() + SILENT_SECONDS
    while (now := _mark(path)) == seen and now is not None and time.monotonic() < until:
        waiting()
        time.sleep(_LOOK_SECONDS)
    return now is None or now == seen


def is_recent(path: Path) -> bool:
    """Tell at once, by this machine's clock, whether a file had a sign of life lately; good enough to be shown."""
    mark = _mark(path)
    return mark is not None and abs(time.time() - mark / 1e9) < _RECENT_SECONDS


def _mark(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
