"""Tells when the raw data have changed and come to rest.

The folder is looked at again and again: network drives tell nobody of changes. labelme opens a file for writing and
writes it piece by piece, so that a JSON that cannot be parsed is waited for, and annotators save often, so that an
event is told after a time without any change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from flows.system.state_files import read_record, write_record
from tasks.workspace.places import RAW, STATE

SEEN = STATE / "raw-seen.json"
PATIENCE = 10.0
"""How many quiet times a broken JSON is waited for; then the run that follows names it."""

Say = Callable[[str], None]
Entry = tuple[int, int]


class Seen(msgspec.Struct, frozen=True):
    """What the raw data looked like when they were last told of.

    Attributes:
        digest: of the names, sizes and times of all files.
    """

    digest: str


class RawWatch:
    """Watches ``data/raw`` of a workspace."""

    def __init__(self, root: Path, quiet_s: float, say: Say = lambda _line: None) -> None:
        """Begin with what was last told of, so that changes made while nobody watched are told of, too.

        Args:
            root: the workspace.
            quiet_s: seconds without a change before an event is told.
            say: gets a line when something is waited for.
        """
        self._root = root
        self._quiet_s = quiet_s
        self._say = say
        seen = read_record(root / SEEN, Seen)
        self._told = seen.digest if seen else None
        self._files: dict[str, Entry] = {}
        self._digest = ""
        self._since = 0.0
        self._touched: set[str] = set()
        self._waiting_for = ""

    def look(self, now: float) -> bool:
        """Look once.

        Args:
            now: seconds of a clock that only goes forward.

        Returns:
            Whether the data have changed since they were last told of, and are at rest.
        """
        files = _list_files(self._root / RAW)
        if files != self._files or not self._digest:
            self._touched |= {name for name, entry in files.items() if self._files.get(name) != entry}
            self._files, self._digest, self._since = files, _digest(files), now
        if self._digest == self._told:
            self._touched.clear()
            return False
        quiet = now - self._since
        if quiet < self._quiet_s:
            return False
        if broken := self._find_broken():
            if broken != self._waiting_for:
                self._say(f"{RAW / broken}: not a whole JSON yet; waiting for it")
                self._waiting_for = broken
            return quiet >= self._quiet_s * PATIENCE
        return True

    def tell(self) -> None:
        """Take it that what was seen last is told of, also for a later watch."""
        self._told = self._digest
        self._touched.clear()
        self._waiting_for = ""
        write_record(self._root / SEEN, Seen(self._digest))

    def _find_broken(self) -> str:
        """Return a changed JSON that is none, or nothing."""
        for name in sorted(self._touched):
            if name.lower().endswith(".json") and name in self._files and not _is_whole(self._root / RAW / name):
                return name
            self._touched.discard(name)  # whole, until it changes again
        return ""


def _list_files(folder: Path) -> dict[str, Entry]:
    """Return size and time of change in ns of every file below a folder, by its path from there."""
    found: dict[str, Entry] = {}
    stack = [""]
    while stack:
        place = stack.pop()
        try:
            with os.scandir(folder / place) as entries:
                for entry in entries:
                    name = f"{place}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(f"{name}/")
                    elif not entry.name.startswith("."):
                        stat = _stat(entry)
                        found[name] = (stat.st_size, stat.st_mtime_ns)
        except OSError:  # gone since it was listed, or not readable: looked at again soon
            continue
    return found


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    """Return size and times of a file; of a link that leads nowhere its own."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)


def _digest(files: dict[str, Entry]) -> str:
    lines = (f"{name}\0{size}\0{time}\n" for name, (size, time) in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _is_whole(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return True  # gone: nothing to wait for
    try:
        msgspec.json.decode(content, type=msgspec.Raw)
    except msgspec.DecodeError:
        try:
            json.loads(content)  # a byte order mark, UTF-16, NaN
        except UnicodeDecodeError:
            return content.rstrip().endswith(b"}")  # of an older encoding; convert tells whether it can be read
        except (ValueError, RecursionError):
            return False
    return True
