"""What reading annotation files gave, kept from run to run, so that only what changed is read again.

A file is taken for unchanged when its size, its times and its inode are what they were, as git and DVC take it.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any, TypeVar

import msgspec

Entry = TypeVar("Entry")

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


def read_entries(path: Path, key: str, kind: type[Entry]) -> list[Entry]:
    """Read a cache.

    Args:
        path: of the cache.
        key: says of what parameters and code it must be.
        kind: of its entries.

    Returns:
        What was kept; nothing when the cache is absent, damaged, or of another key.
    """
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        return msgspec.msgpack.decode(body, type=list[kind]) if head == key.encode() else []  # type: ignore[valid-type]
    except (OSError, msgspec.DecodeError):
        return []


def write_entries(path: Path, key: str, entries: list[Any]) -> None:
    """Write a cache, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    scratch.write_bytes(key.encode() + b"\n" + msgspec.msgpack.encode(entries))
    scratch.replace(path)
