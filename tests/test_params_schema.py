"""The JSON Schema of params.yaml is made from the models, and takes and refuses what they do."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from tasks.check import find_missing, find_problems
from tasks.workspace.documents import parse_document
from tests.imports import ROOT
from tools.params_schema import PAGE, render

SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
SCHEMA: dict[str, Any] = json.loads(PAGE.read_text(encoding="utf-8"))


def faults(text: str) -> tuple[list[str], list[str]]:
    """Return what the schema finds, and what keypipe's own check does."""
    validator = jsonschema.Draft7Validator(SCHEMA)
    document = parse_document(text.encode(), "params.yaml")
    own = find_problems(document) + find_missing(ROOT, document)
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))], own


def test_the_file_is_what_the_program_would_write() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python tools/params_schema.py`"
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_first_line_of_params_yaml_names_it() -> None:
    first = SHIPPED.splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert ROOT / first.partition("$schema=")[2] == PAGE


def test_every_key_says_what_it_means() -> None:
    for name, section in SCHEMA["properties"].items():
        assert section["description"], name
        for key, about in section.get("properties", {}).items():
            assert about.get("description"), f"{name}.{key}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("loss_sigma: {from: 0.333, to: 0.1, over: 0.5}", "loss_sigma: 0.1"),
        ("best_by: oks_AP  ", "augmentation: light\n  best_by: oks_AP  "),
        ("best_by: oks_AP  ", "augmentation: {from: 0.2, to: strong, over: 1}\n  best_by: oks_AP  "),
        ("sigma: 0.1  ", "sigma: [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]  "),
        ("group_by: null", "group_by: folder"),
        ("mosaic: 0.0", "mosaic: 1.0\n  degrees: 10"),
        ("pairs: auto", "pairs: [[left_ear, right_ear]]"),
        ("mail: []", "mail: [{to: [anna@example.org], sender: k@example.org}]"),
        ("patience: 100", "freeze: 10"),
    ],
)
def test_what_the_check_takes_the_schema_takes(before: str, after: str) -> None:
    assert before in SHIPPED
    assert faults(SHIPPED.replace(before, after, 1)) == ([], [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("seed: 42", "seed: -1"),
        ("doctor:\n", "docter:\n"),
        ("fail_on: error", "fail_on: errors"),
        ("occluded: train", "ocluded: train"),
        ("train: 0.7", "train: most"),
        ("epochs: 70", "epocs: 70"),
        ("epochs: 70", "epochs: many"),
        ("batch: 16\n  nbs", "device: 0\n  nbs"),
        ("loss_sigma: {from: 0.333, to: 0.1, over: 0.5}", "note: 1"),
        ("best_by: oks_AP  ", "augmentation: heavy\n  best_by: oks_AP  "),
        ("conf: 0.25                   # score from which a detection", "conf: 1.5  # "),
        ("margin_ap: 0.02", "margin_app: 0.02"),
        ("opset: null", "opset: 3"),
        ("pairs: auto", "pairs: none"),
    ],
)
def test_what_the_schema_refuses_the_check_refuses(before: str, after: str) -> None:
    assert before in SHIPPED
    schema, own = faults(SHIPPED.replace(before, after, 1))
    assert schema
    assert own
