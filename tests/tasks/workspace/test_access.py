"""What a failed stage lacked of the machine, in one line."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from tasks.workspace.access import explain_end


def from_a_library(cause: Exception) -> Exception:
    """Return an error as a library raises it that hides the system's own behind one of its own."""
    try:
        raise RuntimeError("could not save") from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.pt"), "a.pt: no space left on device"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "the disk: file too large"),
        (from_a_library(OSError(errno.EROFS, os.strerror(errno.EROFS), "b")), "b: read-only file system"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "a file could not be w"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 4 vs 8"), "a file could not be wr"),
        (from_a_library(RuntimeError("basic_ios::clear: iostream error")), "a file could not be written (could not"),
        (sqlite3.OperationalError("database or disk is full"), "a file could not be written (database or disk is"),
        (MemoryError(), "memory ended (MemoryError); end what else runs, or lower the stage's batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory ended (DefaultCPUAllocator"),
    ],
)  # fmt: skip
def test_what_libraries_say_of_the_machine_is_one_line(error: Exception, said: str, tmp_path: Path) -> None:
    found = explain_end(error, tmp_path)
    assert found is not None
    assert found.startswith(said)
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("a bug"), RuntimeError("shapes differ"), OSError(errno.ENOENT, "no")]
)
def test_a_bug_is_none_of_the_machines(error: Exception, tmp_path: Path) -> None:
    assert explain_end(error, tmp_path) is None
