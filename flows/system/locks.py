"""Locks between processes, which the system lets go of when their holder dies in whatever way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

POLL_SECONDS = 0.5


class LockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def held_lock(path: Path, waiting: Callable[[], None] | None = None, *, mode: int = -1) -> Iterator[None]:
    """Hold the lock of a file while the block runs.

    Args:
        path: the file; it is made, with its folder, and stays.
        waiting: called about twice a second while another process holds the lock; may raise to give up. None gives up
            at once.
        mode: of the file when it is made, such as 0o666 where several users take turns; -1: what the umask leaves.

    Raises:
        LockedError: another process holds the lock, and nobody is to wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path, mode)

    def tell() -> bool:
        if waiting is not None:
            waiting()
        return waiting is None

    try:
        lock.acquire(poll_interval=POLL_SECONDS, cancel_check=tell)
    except Timeout as error:
        raise LockedError(str(path)) from error
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Tell whether some process holds the lock of a file just now."""
    if not path.exists():
        return False
    try:
        with _lock(path).acquire(blocking=False):
            return False
    except Timeout:
        return True


def _lock(path: Path, mode: int = -1) -> FileLock:
    # Where the file system knows no locks, filelock's own way out is a file whose presence locks: it would outlive a
    # process that is killed.
    return FileLock(path, mode=mode, thread_local=False, fallback_to_soft=False)
