"""Small JSON files under ``.keypipe/`` that one process writes and others read at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from keypipe.files.atomic import replacing_file

T = TypeVar("T")


def write_record(path: Path, record: Any) -> None:
    """Write a record so that a reader finds the old one or the new one, never a part."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def read_record(path: Path, kind: type[T]) -> T | None:
    """Read a record; None when it is absent or of another make."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError, msgspec.ValidationError):
        return None
