"""What was measured, a line each, so that a program goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Records:
    """Lines of JSON in a file: part, key and values."""

    def __init__(self, path: Path) -> None:
        """Take the file; a line that was half written when the program was stopped is cut off."""
        self._path = path
        self._lines: list[dict[str, Any]] = []
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                path.write_bytes(whole)
            self._lines = [json.loads(line) for line in whole.splitlines()]

    def has(self, part: str, key: Any) -> bool:
        """Tell whether it was measured."""
        return any(line["part"] == part and line["key"] == key for line in self._lines)

    def of(self, part: str) -> list[tuple[Any, dict[str, Any]]]:
        """Return key and values of everything measured for a part."""
        return [(line["key"], line["values"]) for line in self._lines if line["part"] == part]

    def add(self, part: str, key: Any, values: dict[str, Any]) -> None:
        """Append a line."""
        line = {"part": part, "key": key, "values": values}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._lines.append(line)
