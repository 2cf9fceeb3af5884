"""Lines of JSON on disk that never take more room than they are given."""

from __future__ import annotations

from pathlib import Path

from keypipe.errors import ConfigError


class Journal:
    """A file of lines, and the one before it, ``NAME.1``; each has half of the room, and the older one goes first."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Take the place of the file, whose folder is made; what is there already is gone on with.

        Args:
            path: the file.
            max_bytes: what both may have together.

        Raises:
            ConfigError: the folder cannot be made.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written there ({error.strerror}); choose --shadow-log") from error
        self._path = path
        self._half = max_bytes // 2

    def write(self, line: bytes) -> None:
        """Add a line, whole; one that is longer than half of the room is left out.

        Args:
            line: JSON without its line end.

        Raises:
            OSError: it cannot be written.
        """
        if len(line) + 1 > self._half:
            return
        size = self._path.stat().st_size if self._path.exists() else 0
        if size + len(line) + 1 > self._half:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        with self._path.open("ab") as file:
            file.write(line + b"\n")
