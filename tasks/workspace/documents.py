"""YAML as DVC reads and writes it, by YAML 1.2; what is wrong with a text is said with its file and line."""

from __future__ import annotations

import codecs
import io
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from keypipe.errors import ConfigError

_DEEPEST = 200


def read_document(path: Path) -> CommentedMap:
    """Read a YAML file keeping comments and line numbers; an absent or empty one is an empty mapping.

    Raises:
        ConfigError: no YAML, a key twice, or not a mapping.
    """
    return parse_document(path.read_bytes(), path.name) if path.exists() else CommentedMap()


def parse_document(content: bytes, name: str) -> CommentedMap:
    """Parse YAML with sections, keeping comments and line numbers; an empty file is an empty mapping.

    Args:
        content: the YAML.
        name: of its file, for messages.

    Raises:
        ConfigError: no YAML, not in UTF-8, a key twice, or not a mapping.
    """
    if b"*" in content:
        parse_yaml(content, name)  # which refuses an alias inside of what it stands for; here that would be None
    document = _load(YAML(), content, name)
    if document is None:
        return CommentedMap()
    if not isinstance(document, CommentedMap):
        raise ConfigError(f"{name}: expected sections such as `convert:`, got {document!r}")
    return document


def parse_yaml(content: bytes | str, name: str) -> Any:
    """Return the plain values of a YAML file as DVC reads them, by YAML 1.2.

    ``yes`` and ``12:30`` are text there, ``1e3`` is a number, ``017`` is 17; YAML 1.1 reads all four otherwise.
    Whatever DVC reads or writes too (``params.yaml``, ``dvc.yaml``, ``dvc.lock``) is read by this function or by
    ``parse_document``; ``data.yaml`` alone is Ultralytics' and read by YAML 1.1.

    Args:
        content: the YAML.
        name: of its file, for messages.

    Raises:
        ConfigError: no YAML, not in UTF-8, or a key twice.
    """
    return _load(YAML(typ="safe"), content, name)


def decode_yaml(content: bytes, name: str) -> str:
    """Return the text of a YAML file in UTF-8, with or without a byte order mark, which is left out.

    DVC reads nothing else: Windows' editors save Chinese in GBK, and "Unicode" is UTF-16 there.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        ConfigError: it is in another encoding; says which line is the first that is not UTF-8.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:64]:
        raise ConfigError(f"{name}: UTF-16 or no text at all; save it as UTF-8")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        shown = content.splitlines()[line - 1].decode("ascii", "backslashreplace").strip()[:80]
        raise ConfigError(f"{name}:{line}: not UTF-8 ({shown}); save the file as UTF-8") from error


def format_yaml(values: Any) -> str:
    """Format plain values as YAML 1.2 that DVC reads as they are, in their order."""
    yaml: Any = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.allow_unicode = True
    yaml.width = 4096
    text = io.StringIO()
    yaml.dump(values, text)
    return text.getvalue()


def format_value(value: Any) -> str:
    """Format a value as YAML 1.2 on one line."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style = True
    yaml.width = 1 << 20
    text = io.StringIO()
    yaml.dump([value], text)
    return text.getvalue().strip()[1:-1]


def _load(yaml: YAML, content: bytes | str, name: str) -> Any:
    text = decode_yaml(content, name) if isinstance(content, bytes) else content
    if _most_open(text) > _DEEPEST:  # the parser would take seconds: it looks at all open ones at every token
        raise ConfigError(f"{name}: brackets in brackets by the hundred")
    try:
        value = yaml.load(text)
        if "*" in text:
            _refuse_circles(value, name, set(), set())
        return value
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{place}: {error.problem or error.context}") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{name}:{line}: the character U+{error.character:04X} is none of YAML's; remove it"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{name}: brackets in brackets by the hundred") from error
    except (YAMLError, ValueError, TypeError, AttributeError) as error:  # a number that is none, a list for a key
        raise ConfigError(f"{name}: cannot be read: {str(error)[:200]}") from error


def _most_open(text: str) -> int:
    """Return how many brackets are open at once at most; those in quotes and comments count as well."""
    depths = accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    return max(depths, default=0)


def _refuse_circles(value: Any, name: str, around: set[int], seen: set[int]) -> None:
    """Refuse an alias inside of what it stands for, which is a value without an end."""
    if not isinstance(value, dict | list):
        return
    if id(value) in around:
        raise ConfigError(f"{name}: an alias (`*`) stands inside of what it is the alias of (`&`)")
    if id(value) not in seen:
        for item in value.values() if isinstance(value, dict) else value:
            _refuse_circles(item, name, around | {id(value)}, seen)
        seen.add(id(value))
