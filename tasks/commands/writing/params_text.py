"""The text of ``params.yaml`` with one value changed the way a careful hand would: every comment stays.

ruamel.yaml's round trip keeps comments, quotes and order, but it has one style for the whole file: it moves lists to
one indentation, writes ``null`` as nothing, drops spaces that align values, and knows only LF; and a comment goes with
the value that stands before it. So it tells where a value stands, and the value alone is replaced; only where there is
no such place does the file make the round trip.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.util import load_yaml_guess_indent

from keypipe.errors import ConfigError
from keypipe.printable import to_printable
from tasks.workspace.documents import format_value, parse_yaml
from tasks.workspace.places import PARAMS_FILE

_NOT_IN_YAML = re.compile("[\ud800-\udfff\ufeff\ufffe\uffff]")


def assign(text: str, keys: Sequence[str], value: Any, about: str = "") -> str:
    """Return the text of a YAML file with one value set; everything else stays as it is, byte for byte.

    Where that cannot be done, as in a section that stands on one line, the file is written anew by ruamel.yaml, which
    keeps comments as well.

    Args:
        text: of the file.
        keys: the path to the value.
        value: plain, which is written on one line, or a mapping of ruamel.yaml, which is written in its own style.
        about: comment on the line of a key that is new.

    Raises:
        ConfigError: a value stands where the path needs a section.
    """
    wanted = _with_value(_load(text), keys, value)
    edited = _edit(text, keys, value, about)
    if edited is not None and _loads_as(edited, wanted):
        return edited
    return _rewrite(text, keys, value)


def comment(text: str, keys: Sequence[str], about: str) -> str:
    """Return the text of a YAML file with a comment beside one value, in place of the one that is there.

    Args:
        text: of the file.
        keys: the path to the value, which stands on one line.
        about: the comment.
    """
    node: Any = YAML().compose(io.StringIO(text))
    for key in keys:
        node = next((value for name, value in node.value if name.value == key), None) if node else None
        if not isinstance(node, Node):
            return text
    if isinstance(node, CollectionNode) and not node.flow_style:
        return text
    end = node.end_mark.index
    line_end = len(text) if (found := text.find("\n", end)) < 0 else found
    rest = text[end:line_end].rstrip("\r").strip()
    if rest and not rest.startswith("#"):
        return text
    tail = "\r" if text[end:line_end].endswith("\r") else ""
    return f"{text[:end].rstrip(' ')}  # {to_comment(about)}{tail}{text[line_end:]}"


def to_comment(about: str) -> str:
    """Return a text as YAML may hold it in a comment: on one line, other characters as their escapes."""
    text = to_printable(" ".join(about.split()))
    return _NOT_IN_YAML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _edit(text: str, keys: Sequence[str], value: Any, about: str) -> str | None:
    """Replace the value's characters, or put lines for what is new under the last one of its section."""
    node: Any = YAML().compose(io.StringIO(text))
    found: Any = None
    for position, key in enumerate(keys):
        if found is not None and _is_empty(node):
            column = found[0].start_mark.column + 2
            return _fill(text, found, _format_lines(keys[position:], value, text, column, about))
        if not isinstance(node, MappingNode) or node.flow_style:
            return None
        found = next((pair for pair in node.value if pair[0].value == key), None)
        if found is None:
            return _add(text, node, keys[position:], value, about)
        node = found[1]
    if isinstance(value, CommentedMap):
        start = found[0].start_mark.index - found[0].start_mark.column
        end = _find_line_end(text, node)
        return text[:start] + _format_block(keys[-1], value, text, found[0].start_mark.column) + text[end:]
    if node is None or (isinstance(node, CollectionNode) and not node.flow_style):
        return None
    start, end = node.start_mark.index, node.end_mark.index
    space = "" if text[start - 1 : start].isspace() else " "
    return text[:start] + space + format_value(value) + text[end:]


def _is_empty(node: Node) -> bool:
    """Tell whether a section has nothing in it, as in ``export:`` or ``export: {}``."""
    return not node.value if isinstance(node, MappingNode) else node.tag == "tag:yaml.org,2002:null"


def _fill(text: str, section: tuple[Node, Node], lines: str) -> str:
    """Put lines under the key of a section that is empty; a comment on the key's line stays."""
    key, node = section
    colon = text.index(":", key.end_mark.index) + 1
    after = max(colon, node.end_mark.index) if node.end_mark.index > node.start_mark.index else colon
    end = text.find("\n", after) + 1 or len(text)
    rest = text[after:end].rstrip("\r\n")
    return text[:colon] + rest + _line_end(text) + lines + text[end:]


def _add(text: str, section: MappingNode, keys: Sequence[str], value: Any, about: str) -> str:
    last_key, last_value = section.value[-1]
    end = _find_line_end(text, last_value)
    head = text[:end] if text[:end].endswith("\n") else text[:end] + _line_end(text)
    return head + _format_lines(keys, value, text, int(last_key.start_mark.column), about) + text[end:]


def _format_lines(keys: Sequence[str], value: Any, text: str, column: int, about: str) -> str:
    """Return the lines of a value and of the sections above it that are not there yet."""
    *sections, key = keys
    heads = [f"{' ' * (column + 2 * depth)}{name}:{_line_end(text)}" for depth, name in enumerate(sections)]
    block = _format_block(key, value, text, column + 2 * len(sections))
    line_end = _line_end(text)
    return "".join(heads) + (block.removesuffix(line_end) + f"  # {to_comment(about)}{line_end}" if about else block)


def _find_line_end(text: str, node: Node) -> int:
    """Return where the line ends that a value ends on; comments below it belong to what comes next."""
    while isinstance(node, CollectionNode) and not node.flow_style:
        node = node.value[-1][1] if isinstance(node, MappingNode) else node.value[-1]
    return text.find("\n", node.end_mark.index) + 1 or len(text)


def _format_block(key: str, value: Any, text: str, column: int) -> str:
    """Return the lines of a key and its value as they stand in a file, indented."""
    if isinstance(value, CommentedMap) and value:
        yaml = YAML()
        yaml.width = 10_000
        out = io.StringIO()
        yaml.dump({key: value}, out)
        lines = out.getvalue().splitlines()
    else:
        lines = [f"{key}: {format_value(dict(value) if isinstance(value, Mapping) else value)}"]
    return "".join(f"{' ' * column}{line}{_line_end(text)}" for line in lines)


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


def _with_value(document: Any, keys: Sequence[str], value: Any) -> Any:
    """Return a copy of a document with one value set."""
    first, *rest = keys
    known = document if isinstance(document, Mapping) else {}
    return {**known, first: _with_value(known.get(first), rest, value) if rest else value}
