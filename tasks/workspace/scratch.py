"""Scratch: one folder for each process below ``.keypipe/tmp``, removed when the process has ended in whatever way.

A process holds the lock of its folder as long as it lives, and the system lets go of it when it dies. So commands
beside each other, such as a doctor during a run, keep out of each other's files, and whoever comes next can tell what
nobody uses any more.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.workspace.places import SCRATCH

_LOCK = "lock"
_held: dict[Path, tuple[Path, FileLock]] = {}


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder of this process; it and what is left in it are removed when the block ends.

    Args:
        root: the workspace, in which moving it into place is one rename.
        name: of the folder.
    """
    folder = scratch_path(root, name)
    folder.mkdir()
    try:
        yield folder
    finally:
        remove(folder)


def scratch_path(root: Path, name: str) -> Path:
    """Return a path in this process's scratch, at which nothing is yet."""
    path = _own_folder(root.resolve()) / name
    remove(path)
    return path


def remove_abandoned(root: Path) -> None:
    """Remove what processes that are gone have left in the scratch of a workspace."""
    folder = root.resolve() / SCRATCH
    if folder.exists():
        with _lock(folder.with_suffix(".lock")):
            _sweep(folder)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _own_folder(root: Path) -> Path:
    if root in _held and _held[root][0].is_dir():
        return _held[root][0]
    folder = root / SCRATCH
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_suffix(".lock")):  # so that nobody removes the new folder before its lock is held
        _sweep(folder)
        own = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
        own.mkdir()
        lock = _lock(own / _LOCK)
        lock.acquire()
    _held[root] = own, lock
    atexit.register(_leave, root, os.getpid())
    return own


def _leave(root: Path, pid: int) -> None:
    if pid == os.getpid() and root in _held:  # not in a process that was forked off
        folder, lock = _held.pop(root)
        remove(folder)
        lock.release()


def _sweep(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):  # what cannot be removed, such as another user's, is in nobody's way
            if path.is_dir() and not path.is_symlink():
                with suppress(Timeout), _lock(path / _LOCK).acquire(blocking=False):  # else its process lives
                    remove(path)
            else:
                remove(path)


def _lock(path: Path) -> FileLock:
    # Not by a file whose mere presence locks, where the file system has no locks: it would outlive a killed process.
    return FileLock(path, thread_local=False, fallback_to_soft=False)
