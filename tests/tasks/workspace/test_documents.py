"""One reading of YAML for all that DVC reads too."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import loads_yaml

from keypipe.errors import ConfigError
from tasks.commands.writing.schema_text import with_schema
from tasks.commands.writing.set_params import set_params
from tasks.versions.stages.lockfile import Files, join_locks
from tasks.workspace.changes import read_last_schema, schema_changes
from tasks.workspace.documents import format_value, format_yaml, parse_document, parse_yaml
from tasks.workspace.params import load_schema, read_params
from tests.workspace import dvc

TEXTS = (
    *("yes", "No", "on", "y", "12:30", "1:2:3", "1e3", "1.5e3", "1e-3", "-1E5", "0o17", "017", "0x1f", "1_000", "0b11"),
    *(
        "null",
        "~",
        "True",
        "false",
        ".inf",
        ".nan",
        "-.5",
        "1.",
        "2001-01-01",
        "'1e3'",
        '"yes"',
        "12345e10",
        "[yes, 1e3]",
    ),
)


@pytest.mark.parametrize("text", TEXTS)
def test_values_are_those_that_dvc_reads(text: str) -> None:
    value = parse_yaml(f"k: {text}", "params.yaml")["k"]
    (of_dvc,) = loads_yaml(f"k: {text}").values()
    with_lines = parse_document(f"k: {text}".encode(), "params.yaml")["k"]
    assert type(value) is type(of_dvc)
    assert value == of_dvc == with_lines or (isinstance(value, float) and math.isnan(value))


@pytest.mark.parametrize("value", ["yes", "12:30", "1e3", "0o17", "017", "1" * 30 + "e1", "null", "牛", 1e3, 0.1, None])
def test_what_is_written_is_read_by_dvc_as_it_was(value: Any) -> None:
    assert loads_yaml(format_yaml({"b": value, "a": [value]})) == {"b": value, "a": [value]}
    assert format_yaml({"b": 1, "a": 2}) == "b: 1\na: 2\n"
    assert loads_yaml(f"k: {format_value(value)}") == {"k": value}


@pytest.mark.parametrize("content", ["a: [", "a: 1\na: 2", "a: \x00", b"\xff\xfe\xff", "[" * 5000])
def test_what_is_no_yaml_is_said_with_the_file(content: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"^lost\.yaml"):
        parse_yaml(content, "lost.yaml")


@pytest.mark.parametrize("content", [b"x: &x [*x]\n", b"x: &x {a: *x}\n", b"a: 1\nx: &x {b: [{c: *x}]}\n"])
def test_an_alias_inside_of_what_it_stands_for_is_refused(content: bytes) -> None:
    for parse in (parse_yaml, parse_document):
        with pytest.raises(ConfigError, match=r"^params\.yaml: an alias"):
            parse(content, "params.yaml")
    assert parse_yaml("a: &a [1]\nb: *a\nc: [*a, *a]\n", "params.yaml") == {"a": [1], "b": [1], "c": [[1], [1]]}


def test_a_schema_with_such_names_is_the_one_that_convert_ran_with(drawn: Path) -> None:
    path = drawn / "params.yaml"
    text = path.read_text().replace("- nose\n", "- 12:30\n").replace("[nose, ", "['12:30', ").replace("withers", "yes")
    path.write_text(text.replace("tail_base", "'0o17'"))
    assert dvc(drawn, "repro", "convert").returncode == 0
    schema = load_schema(read_params(drawn))
    assert {"12:30", "yes", "0o17"} <= set(schema.slots)
    assert read_last_schema(drawn) == schema
    assert schema_changes(drawn) == []


def test_a_stage_fits_the_parameters_that_it_ran_with() -> None:
    params = b"train:\n  lr0: 1e-3\n  note: 12:30\n  run: yes\n"
    entry = {"cmd": "x", "params": {"params.yaml": {"train": {"lr0": 0.001, "note": "12:30", "run": "yes"}}}}
    lock = format_yaml({"schema": "2.0", "stages": {"train": {"cmd": "x"}, "validate": entry}})
    files = Files({"params.yaml": params}.get, lambda folder: [])
    begun = format_yaml({"schema": "2.0", "stages": {"train": {"cmd": "old"}}})
    joined = join_locks(begun, lock, ["train", "validate"], "train", files, {})
    assert joined.stages == {"train", "validate"}


NAMES = "seed: 0\nschema:\n  classes: {牛: {keypoints: [鼻子, 尾巴]}}\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf_8_is_read_with_and_without_a_mark(encoding: str) -> None:
    assert parse_yaml(NAMES.encode(encoding), "params.yaml") == parse_yaml(NAMES, "params.yaml")
    assert parse_document(NAMES.encode(encoding), "params.yaml")["seed"] == 0


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("gbk", r"params\.yaml:3: not UTF-8 \(classes: \{\\xc5\\xa3: .*\); save the file as UTF-8"),
        ("utf-16", r"params\.yaml: UTF-16 or no text at all; save it as UTF-8"),
        ("utf-16-le", r"params\.yaml: UTF-16"),
    ],
)
def test_other_encodings_are_refused_by_every_reader_alike(tmp_path: Path, encoding: str, message: str) -> None:
    content = NAMES.encode(encoding)
    (tmp_path / "params.yaml").write_bytes(content)
    for read in (
        lambda: parse_yaml(content, "params.yaml"),
        lambda: parse_document(content, "params.yaml"),
        lambda: read_params(tmp_path),
        lambda: with_schema(content, load_schema(parse_yaml(NAMES, "params.yaml"))),
        lambda: set_params(tmp_path, ["seed=1"]),
    ):
        with pytest.raises(ConfigError, match=message):
            read()


def test_a_character_that_yaml_does_not_take_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml:2: the character U\+0007 is none"):
        parse_yaml(b"seed: 0\nname: \x07\n", "params.yaml")


@pytest.mark.parametrize("text", ["{" * 2000, "[" * 201, "{a: " * 300 + "1" + "}" * 300])
def test_brackets_in_brackets_by_the_hundred_are_refused_before_a_parser_sees_them(text: str) -> None:
    """The parser takes seconds for what fits on a line, since it looks at all open brackets at every token."""
    for read in (parse_yaml, parse_document):
        with pytest.raises(ConfigError, match=r"^params\.yaml: brackets in brackets by the hundred$"):
            read(f"a: {text}".encode(), "params.yaml")
    assert parse_yaml(f"a: {'[' * 100}{']' * 100}", "params.yaml")
