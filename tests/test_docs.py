"""What the documentation says of parameters is what the code does."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tasks.check import SECTIONS
from tasks.workspace.params import Local
from tests.imports import ROOT

PAGE = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
MODELS: dict[str, Any] = {**SECTIONS, "local.yaml": Local}


def documented(section: str) -> dict[str, str]:
    """Return key -> default as a section's tables have them."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (part,) = [part for part in text if part.startswith(f"`{section}`")]
    return dict(re.findall(r"^\| `(\w+)` \| (`[^`]+`|\S+) \|", part, flags=re.MULTILINE))


def plain(default: Any) -> Any:
    """Return a default as a YAML file holds it."""
    return default.model_dump(by_alias=True) if isinstance(default, BaseModel) else default


@pytest.mark.parametrize("section", MODELS)
def test_every_parameter_is_documented_with_its_default(section: str) -> None:
    fields = MODELS[section].model_fields
    table = documented(section)
    assert list(table) == list(fields)
    for name, field in fields.items():
        assert yaml.safe_load(table[name].strip("`")) == plain(field.default), name


def test_the_shipped_params_spell_out_the_defaults_and_nothing_unknown() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, model in SECTIONS.items():
        if section == "train":
            continue
        assert params[section] == {name: plain(field.default) for name, field in model.model_fields.items()}
    own = {name: plain(field.default) for name, field in SECTIONS["train"].model_fields.items()}
    assert {name: params["train"][name] for name in ("model", "loss_sigma", "best_by")} == {
        name: own[name] for name in ("model", "loss_sigma", "best_by")
    }


def test_the_shipped_schema_is_the_demos() -> None:
    from keypipe.demo.scene import SCHEMA
    from keypipe.keypoints.skeleton import parse_schema

    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    shipped = parse_schema(params["schema"])
    assert shipped == parse_schema({"classes": SCHEMA["classes"]})


def test_the_shipped_parameters_are_accepted() -> None:
    from tasks.check import check_workspace

    check_workspace(ROOT)


def test_no_place_of_a_machine_or_registry_is_written_down() -> None:
    import subprocess

    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    forbidden = re.compile(r"(pypi\.org|pythonhosted|download\.pytorch|/home/\w+/|/root/)")
    this = "tests/test_docs.py"
    found = [
        f"{name}: {match[0]}"
        for name in names
        if name != this and (ROOT / name).suffix in {".py", ".md", ".toml", ".yaml", ".lock", ".txt", ""}
        for match in forbidden.finditer((ROOT / name).read_text(encoding="utf-8", errors="ignore"))
    ]
    assert not found
