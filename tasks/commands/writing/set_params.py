"""Writes parameters into ``params.yaml`` as assignments such as ``train.epochs=5``, and checks what comes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keypipe.errors import ConfigError
from keypipe.files.atomic import write_text
from tasks.commands.writing.params_text import assign
from tasks.workspace.documents import decode_yaml, parse_yaml
from tasks.workspace.places import PARAMS_FILE


def set_params(root: Path, assignments: Sequence[str]) -> list[str]:
    """Write assignments such as ``train.epochs=5`` to ``params.yaml``.

    Args:
        root: the workspace.
        assignments: key path, ``=``, and a value as YAML has it.

    Returns:
        One line for each value that is another now.

    Raises:
        ConfigError: an assignment cannot be read, or the file would not be valid; it is left as it was.
    """
    path = root / PARAMS_FILE
    before = decode_yaml(path.read_bytes(), PARAMS_FILE) if path.exists() else ""
    text = before
    lines: list[str] = []
    for assignment in assignments:
        keys, value = parse_assignment(assignment)
        old = _look_up(parse_yaml(text, PARAMS_FILE), keys)
        if old == value and type(old) is type(value):
            continue
        text = assign(text, keys, value)
        lines.append(f"{PARAMS_FILE}: {'.'.join(keys)}: {'(default)' if old is MISSING else old} -> {value}")
    if text != before:
        _check(root, text)
        write_text(path, text)
    return lines


MISSING = object()


def parse_assignment(assignment: str) -> tuple[list[str], Any]:
    """Return the key path and the value of ``train.epochs=5``.

    Raises:
        ConfigError: no ``=``, an empty key, or no YAML after it.
    """
    name, equals, value = assignment.partition("=")
    keys = [key.strip() for key in name.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as train.epochs=5")
    try:
        return keys, parse_yaml(value, "--set")
    except ConfigError as error:
        raise ConfigError(f"--set {assignment}: {value!r} is no YAML value") from error


def _look_up(document: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(document, Mapping) or key not in document:
            return MISSING
        document = document[key]
    return document


def _check(root: Path, text: str) -> None:
    """Refuse a file that would not be valid, before anybody can read it."""
    from tasks.check import check_workspace

    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        for path in root.iterdir():
            if path.name != PARAMS_FILE:
                (Path(folder) / path.name).symlink_to(path.resolve())
        (Path(folder) / PARAMS_FILE).write_text(text, encoding="utf-8")
        check_workspace(Path(folder))
