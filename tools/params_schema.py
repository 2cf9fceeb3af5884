"""Write docs/params.schema.json, by which editors complete and check params.yaml.

``python tools/params_schema.py`` writes it; a test holds that the file is what this program would write. Keys, types,
defaults and limits are those of the models that read the sections; what a key means is what docs/parameters.md says.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "params.schema.json"
sys.path.insert(0, str(ROOT))

from tasks.check import SECTIONS  # noqa: E402  (needs the path above)
from tasks.train import engine  # noqa: E402
from tasks.workspace.documents import parse_yaml  # noqa: E402

ROW = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \| (?:`[^`]*`|[^|]*) \| (.*) \|$", re.MULTILINE)
REFERENCE = "https://docs.ultralytics.com/modes/train/#train-settings"
NAME = {"type": ["string", "number", "boolean"]}
PAIR = {"type": "array", "items": NAME, "minItems": 2, "maxItems": 2}


def make_schema() -> dict[str, Any]:
    """Return the JSON Schema of params.yaml."""
    meanings = _read_meanings(ROOT / "docs" / "parameters.md", "## ")
    rules = _read_meanings(ROOT / "docs" / "retraining.md", "### ")["Rules"]
    properties: dict[str, Any] = {
        "seed": {"type": "integer", "minimum": 0, "default": 0, "description": meanings["Top level"]["seed"]},
        "schema": _make_classes(meanings["schema"]),
    }
    definitions: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        section = _tidy(model.model_json_schema(by_alias=True))
        definitions |= section.pop("$defs", {})
        section["description"] = f"docs/parameters.md, section {name}"
        for key, meaning in meanings[name].items():
            section["properties"][key]["description"] = meaning
        properties[name] = section
    for key, meaning in rules.items():
        definitions["Rules"]["properties"][key]["description"] = meaning
    train = properties["train"]
    train["properties"] |= _make_arguments(train["properties"])
    train["additionalProperties"] = False
    required = _read_required()
    for name, keys in required.items():
        if keys:
            properties[name]["required"] = sorted({*keys, *properties[name].get("required", ())})
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "params.yaml of keypipe",
        "description": "Made from the code by tools/params_schema.py.",
        "type": "object",
        "additionalProperties": False,
        "required": [name for name in properties if name in required],
        "properties": properties,
        "definitions": definitions,
    }


def render() -> str:
    """Return the file's text."""
    text = json.dumps(make_schema(), indent=1, ensure_ascii=False).replace("#/$defs/", "#/definitions/")
    return text + "\n"


def _read_required() -> dict[str, list[str]]:
    """Return the sections that dvc.yaml names, and the keys that it names in them: DVC takes no defaults for these."""
    stages = parse_yaml((ROOT / "dvc.yaml").read_bytes(), "dvc.yaml")["stages"]
    required: dict[str, list[str]] = {}
    for name in (name for stage in stages.values() for name in stage.get("params", ())):
        section, _, key = name.partition(".")
        required.setdefault(section, []).extend([key] if key else [])
    return required


def _read_meanings(page: Path, heading: str) -> dict[str, dict[str, str]]:
    """Return what the tables of a page say of each key, by heading."""
    found: dict[str, dict[str, str]] = {}
    for part in re.split(rf"^{heading}", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name = part.partition("\n")[0].strip("`")
        for keys, meaning in ROW.findall(part.partition("\n#")[0]):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", meaning)
            found.setdefault(name, {}).update(dict.fromkeys(re.findall(r"`(\w+)`", keys), text))
    return found


def _make_classes(meanings: Mapping[str, str]) -> dict[str, Any]:
    entry = {
        "type": "object",
        "additionalProperties": False,
        "required": ["keypoints"],
        "properties": {
            "keypoints": {"type": "array", "items": NAME, "minItems": 1, "description": meanings["keypoints"]},
            "skeleton": {"type": "array", "items": PAIR, "default": [], "description": meanings["skeleton"]},
            "pairs": {
                "anyOf": [{"const": "auto"}, {"type": "array", "items": PAIR}],
                "default": "auto",
                "description": meanings["pairs"],
            },
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["classes"],
        "description": "Classes in id order, each with its keypoints in a fixed order.",
        "properties": {
            "classes": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": entry,
                "description": "By the label of their rectangles.",
            },
            "aliases": {
                "type": "object",
                "additionalProperties": NAME,
                "description": "Other labels that people used, and the class or keypoint that they mean.",
            },
        },
    }


def _make_arguments(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of Ultralytics' train arguments, as ``TrainParams`` checks them."""
    reserved = engine().RESERVED
    arguments: dict[str, Any] = {}
    for key, default in sorted(engine().read_train_arguments().items()):
        if key in own or key in reserved:
            continue
        about: dict[str, Any] = {"description": f"Ultralytics: {REFERENCE}"}
        if isinstance(default, bool):
            about["type"] = ["boolean", "string", "integer", "null"]
        elif isinstance(default, int | float):
            about["type"] = ["number", "array", "null"]
        elif isinstance(default, str):
            about["type"] = ["string", "null"]
        if default is not None:
            about["default"] = default
        arguments[key] = about
    return arguments


def _tidy(node: Any) -> Any:
    """Leave out the titles that pydantic makes of names, and descriptions that are docstrings."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    is_object = node.get("type") == "object"
    return {
        key: ({name: _tidy(item) for name, item in value.items()} if key == "properties" else _tidy(value))
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "description" and is_object)
    }


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
