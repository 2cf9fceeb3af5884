"""Names that YAML takes for something else are read as they were written, by YAML 1.1 and 1.2."""

from __future__ import annotations

from io import StringIO

import pytest
import yaml
from ruamel.yaml import YAML

from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import Schema, Skeleton, parse_schema
from tasks.commands.writing import schema_text
from tasks.commands.writing.schema_text import format_schema, with_schema
from tasks.workspace.documents import parse_document

NAMES = (
    *(
        "cow:nose",
        "12:30",
        "yes",
        "On",
        "NO",
        "true",
        "1e3",
        "- a",
        "null",
        "~",
        "#x",
        "a: b",
        "a #b",
        "[x",
        "x]",
        "{x",
    ),
    *("&a", "*a", "!t", "%x", "@x", "`x", '"q', "'q", "?", "0x1F", "0o7", "010", "1_000", ".inf", ".nan", "2001-01-01"),
    *("=", "<<", "a,b", "| y", "> y", "12", "1.50", "a:", "é", "牛头", "---", "..."),
)
SCHEMA = Schema({name: Skeleton(NAMES, ((NAMES[0], name),), ()) for name in NAMES[1:]}, {f"{n}_": n for n in NAMES})


@pytest.mark.parametrize("load", [YAML().load, YAML(typ="safe").load, yaml.safe_load], ids=["1.2", "safe", "1.1"])
def test_names_are_read_as_they_were_written(load: object) -> None:
    text = with_schema(b"seed: 1\n", SCHEMA)
    section = load(StringIO(text))["schema"]  # type: ignore[operator]
    assert tuple(section["classes"]) == NAMES[1:]
    assert tuple(section["classes"]["12:30"]["keypoints"]) == NAMES
    assert section["aliases"] == dict(SCHEMA.aliases)


@pytest.mark.parametrize("text", [with_schema(b"", SCHEMA), format_schema(SCHEMA)], ids=["file", "section"])
def test_the_schema_comes_back(text: str) -> None:
    assert parse_schema(parse_document(text.encode(), "params.yaml")["schema"]) == SCHEMA


def test_usual_names_stay_without_quotes() -> None:
    usual = Schema({"cow": Skeleton(("nose", "left ear", "牛头"), (), ())})
    assert "keypoints: [nose, left ear, 牛头]" in format_schema(usual)


def test_what_would_be_read_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_text, "_quote", str)
    with pytest.raises(ConfigError, match=r"YAML reads schema\.classes otherwise"):
        with_schema(b"", Schema({"cow": Skeleton(("nose", "yes"), (), ())}))
