"""The section ``schema`` of ``params.yaml`` as text: written, and made sure of that it is read as it was written."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from keypipe.errors import ConfigError
from keypipe.files.atomic import write_text
from keypipe.files.texts import DOUBTFUL, is_doubtful
from keypipe.keypoints.skeleton import Schema, find_pairs
from tasks.commands.writing.params_text import assign, to_comment
from tasks.workspace.documents import decode_yaml, parse_document, parse_yaml
from tasks.workspace.places import PARAMS_FILE

Reasons = Mapping[tuple[str, str], str]
"""Comments by class and key, such as ``("cow", "pairs")``."""


def write_schema(path: Path, schema: Schema) -> None:
    """Replace classes and aliases in ``params.yaml``, keeping everything else and its comments.

    Raises:
        ConfigError: the file is no YAML with sections.
    """
    write_text(path, with_schema(path.read_bytes(), schema))


def with_schema(content: bytes, schema: Schema, encoding: str | None = None, reasons: Reasons | None = None) -> str:
    """Return the text of a ``params.yaml`` with other classes and aliases; a section ``schema`` is made if it has none.

    Args:
        content: the file's.
        schema: classes and aliases.
        encoding: of the annotation files, where it must be stated.
        reasons: comments beside what a class has.

    Raises:
        ConfigError: the text is no YAML with sections.
    """
    document = parse_document(content, PARAMS_FILE)
    if not isinstance(document.get("schema"), dict | None):
        raise ConfigError(f"{PARAMS_FILE}: schema: expected a section with classes; remove the value behind `schema:`")
    if is_doubtful(content):
        raise ConfigError(f"{PARAMS_FILE}: {DOUBTFUL}")
    text = decode_yaml(content, PARAMS_FILE)
    section = _to_yaml(schema, reasons)
    text = assign(text, ["schema", "classes"], section["classes"])
    if schema.aliases or "aliases" in (document.get("schema") or {}):  # old ones would stand for names that are gone
        text = assign(text, ["schema", "aliases"], section.get("aliases", CommentedMap()))
    if encoding:
        text = assign(text, ["convert", "encoding"], encoding)
    _check_read_back(text, schema)
    return text


def _check_read_back(text: str, schema: Schema) -> None:
    """Make sure that a schema is read as it was written, by YAML 1.2 and by 1.1, which most other programs read."""
    section = _to_yaml(schema)
    for load in (partial(parse_yaml, name=PARAMS_FILE), yaml.safe_load):
        try:
            written = load(text)["schema"]
        except (ConfigError, yaml.YAMLError) as error:
            raise ConfigError(f"{PARAMS_FILE}: YAML cannot hold these classes and keypoints; rename them") from error
        for key in ("classes", "aliases"):
            if written.get(key, {}) != section.get(key, {}):
                raise ConfigError(f"{PARAMS_FILE}: YAML reads schema.{key} otherwise than written; rename the labels")


def format_schema(schema: Schema) -> str:
    """Format a schema as the section of ``params.yaml`` that describes it."""
    text = io.StringIO()
    yaml_1_2 = YAML()
    yaml_1_2.width = 10_000
    yaml_1_2.dump({"schema": _to_yaml(schema)}, text)
    return text.getvalue()


def _quote(name: str) -> str:
    """Quote a name that some YAML takes for something else: ``yes``, ``12:30``, ``1e3``, ``a: b``."""
    flow = yaml.safe_dump([name], default_flow_style=True, width=10_000, allow_unicode=True)
    is_plain = flow == f"[{name}]\n" and not {*name} & {*"<:"} and not _NUMBER.fullmatch(name)
    return name if is_plain else DoubleQuotedScalarString(name)


_NUMBER = re.compile(r"[-+.\d][-+.\d_eE]*")  # of YAML 1.2, such as 1e3, which 1.1 takes for a word


def _to_yaml(schema: Schema, reasons: Reasons | None = None) -> CommentedMap:
    classes = CommentedMap()
    for name, skeleton in schema.classes.items():
        entry = CommentedMap()
        entry["keypoints"] = _flow(skeleton.keypoints)
        entry["skeleton"] = _flow(map(_flow, skeleton.edges))
        derived = {frozenset(pair) for pair in find_pairs(skeleton.keypoints)}
        is_derived = derived == {frozenset(pair) for pair in skeleton.pairs}
        entry["pairs"] = "auto" if is_derived else _flow(map(_flow, skeleton.pairs))
        for key in entry:
            if why := (reasons or {}).get((name, key)):
                entry.yaml_add_eol_comment(to_comment(why), key, column=0)
        classes[_quote(name)] = entry
    section = CommentedMap(classes=classes)
    if schema.aliases:
        section["aliases"] = CommentedMap({_quote(alias): _quote(name) for alias, name in schema.aliases.items()})
    return section


def _flow(items: Iterable[Any]) -> CommentedSeq:
    sequence = CommentedSeq(_quote(item) if isinstance(item, str) else item for item in items)
    sequence.fa.set_flow_style()
    return sequence
