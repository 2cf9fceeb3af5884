"""What reading annotation files gave, kept from run to run, so that only what changed is read again.

A file is taken for unchanged when its size, its times and its inode are what they were, as git and DVC take it.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import time
import weakref
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from keypipe.files.atomic import replacing_file

RECENT_NS = 2_000_000_000
"""A file that was written so shortly before it was read may change once more without its times telling; such a one
is read again (git calls such entries racy)."""


class Signature(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What tells that a file is still the one that was read: bytes, times in nanoseconds since 1970, inode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    def is_settled(self) -> bool:
        """Tell whether the file was not written just now."""
        return max(self.mtime_ns, self.ctime_ns) < time.time_ns() - RECENT_NS


def sign(status: os.stat_result) -> Signature:
    """Return the signature of a file."""
    return Signature(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def sign_file(path: str) -> Signature | None:
    """Return the signature of a file; None when it is not there."""
    try:
        return sign(os.stat(path))  # noqa: PTH116 - Path.stat is slower, and this is called for every file
    except OSError:
        return None


def read_signed(path: str) -> tuple[bytes, Signature]:
    """Read a file and its signature, in as few system calls as can be."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(file)
        parts = []
        while part := os.read(file, status.st_size + 1):
            parts.append(part)
            if len(part) == status.st_size:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts), sign(status)
    finally:
        os.close(file)


def hash_code(*modules: str) -> str:
    """Hash source files: a cache that other code wrote is of no use.

    Args:
        modules: ``__file__`` of each.
    """
    digest = hashlib.sha256()
    for path in modules:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


class Store:
    """Records in a file, found by number: what reading a hundred thousand files gave need not be in memory."""

    def __init__(self, folder: Path | None = None) -> None:
        """Make an empty store, in a file without a name.

        Args:
            folder: where there is room for it; None: where the system keeps such files.
        """
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=_BUFFER)  # noqa: SIM115 - open as long as the store
        self._starts = array("q", [0])
        weakref.finalize(self, _close, self._file)

    def append(self, record: bytes) -> int:
        """Keep a record; return its number, counted from 0."""
        self._file.seek(self._starts[-1])
        self._file.write(record)
        self._starts.append(self._starts[-1] + len(record))
        return len(self._starts) - 2

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> bytes:
        start = self._starts[number]
        self._file.seek(start)
        record: bytes = self._file.read(self._starts[number + 1] - start)
        return record


def _close(file: IO[bytes]) -> None:
    """Close a file that nobody reads any more: where its disk is full, what is still to be written does not matter."""
    with suppress(OSError):
        file.close()


_BUFFER = 1 << 18
_LENGTH = struct.Struct("<I")


def read_records(path: Path, key: str) -> Iterator[bytes]:
    """Yield the records of a cache, one in memory at a time; none when it is absent or of another key.

    Args:
        path: of the cache.
        key: says of what parameters and code it must be.
    """
    try:
        file = path.open("rb", buffering=_BUFFER)
    except OSError:
        return
    with file:
        if file.readline() != key.encode() + b"\n":
            return
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            record = file.read(_LENGTH.unpack(head)[0])
            yield record


def write_records(path: Path, key: str, records: Iterable[bytes]) -> None:
    """Write a cache, whole or not at all."""
    with replacing_file(path) as temporary, temporary.open("wb", buffering=_BUFFER) as file:
        file.write(key.encode() + b"\n")
        for record in records:
            file.write(_LENGTH.pack(len(record)))
            file.write(record)
