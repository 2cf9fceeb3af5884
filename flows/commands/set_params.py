"""Writes parameters into ``params.yaml`` the way a careful hand would: one value changes, every comment stays.

ruamel.yaml's round trip keeps comments, quotes and order, but it has one style for the whole file: it moves lists to
one indentation, writes ``null`` as nothing, drops spaces that align values, and knows only LF. So it tells where a
value stands, and the value alone is replaced; only where there is no such place does the file make the round trip.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.util import load_yaml_guess_indent

from keypipe.errors import ConfigError
from keypipe.files.atomic import replacing_file
from tasks.workspace.params import format_value, parse_yaml
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
    before = path.read_bytes().decode("utf-8") if path.exists() else ""
    text = before
    lines: list[str] = []
    for assignment in assignments:
        keys, value = parse_assignment(assignment)
        old = _look_up(_load(text), keys)
        if old == value and type(old) is type(value):
            continue
        text = assign(text, keys, value)
        lines.append(f"{PARAMS_FILE}: {'.'.join(keys)}: {'(default)' if old is MISSING else old} -> {value}")
    if text != before:
        _check(root, text)
        _replace(path, text)
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


def assign(text: str, keys: Sequence[str], value: Any) -> str:
    """Return the text of a YAML file with one value set; everything else stays as it is, byte for byte.

    Where that cannot be done, as in a section that is not there yet, the file is written anew by ruamel.yaml, which
    keeps comments as well.
    """
    wanted = _with_value(_load(text), keys, value)
    edited = _edit(text, keys, value)
    if edited is not None and _loads_as(edited, wanted):
        return edited
    return _rewrite(text, keys, value)


def _edit(text: str, keys: Sequence[str], value: Any) -> str | None:
    """Replace the value's characters, or put a line for a new key under the last one of its section."""
    node: Node | None = YAML().compose(io.StringIO(text))
    for position, key in enumerate(keys):
        if not isinstance(node, MappingNode) or node.flow_style:
            return None
        found = next((pair for pair in node.value if pair[0].value == key), None)
        if found is None:
            return _add(text, node, key, value) if position == len(keys) - 1 else None
        node = found[1]
    if node is None or (isinstance(node, CollectionNode) and not node.flow_style):
        return None
    start, end = node.start_mark.index, node.end_mark.index
    space = "" if text[start - 1 : start].isspace() else " "
    return text[:start] + space + format_value(value) + text[end:]


def _add(text: str, section: MappingNode, key: str, value: Any) -> str | None:
    last_key, last_value = section.value[-1]
    if isinstance(last_value, CollectionNode) and not last_value.flow_style:
        return None
    end = text.find("\n", last_value.end_mark.index) + 1 or len(text)
    line_end = _line_end(text)
    head = text[:end] if text[:end].endswith("\n") else text[:end] + line_end
    return f"{head}{' ' * int(last_key.start_mark.column)}{key}: {format_value(value)}{line_end}{text[end:]}"


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


class _Representer(RoundTripRepresenter):
    """Writes ``null`` where ruamel.yaml would write nothing."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def _rewrite(text: str, keys: Sequence[str], value: Any) -> str:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.Representer = _Representer
    document, sequence, offset = load_yaml_guess_indent(text.replace("\r\n", "\n"), yaml=yaml)
    indented = re.search(r"^( +)[^\s#-]", text, re.MULTILINE)
    yaml.indent(len(indented[1]) if indented else None, sequence, offset)
    document = document or {}
    node = document
    for key in keys[:-1]:
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise ConfigError(f"--set {'.'.join(keys)}: {key} is a value, not a section")
    node[keys[-1]] = value
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue().replace("\n", _line_end(text))


def _load(text: str) -> Any:
    return parse_yaml(text, PARAMS_FILE) or {}


def _loads_as(text: str, wanted: Any) -> bool:
    try:
        return bool(_load(text) == wanted)
    except ConfigError:
        return False


def _look_up(document: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        if not isinstance(document, Mapping) or key not in document:
            return MISSING
        document = document[key]
    return document


def _with_value(document: Any, keys: Sequence[str], value: Any) -> Any:
    """Return a copy of a document with one value set."""
    first, *rest = keys
    known = document if isinstance(document, Mapping) else {}
    return {**known, first: _with_value(known.get(first), rest, value) if rest else value}


def _check(root: Path, text: str) -> None:
    """Refuse a file that would not be valid, before anybody can read it."""
    from tasks.check import check_workspace

    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        for path in root.iterdir():
            if path.name != PARAMS_FILE:
                (Path(folder) / path.name).symlink_to(path.resolve())
        (Path(folder) / PARAMS_FILE).write_text(text, encoding="utf-8")
        check_workspace(Path(folder))


def _replace(path: Path, text: str) -> None:
    with replacing_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
        if path.exists():
            shutil.copymode(path, temporary)
