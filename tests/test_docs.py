"""What the documentation says is what the code does."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tasks.check import SECTIONS
from tasks.workspace.params import Local
from tests.imports import ROOT

PAGE = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
RULES = (ROOT / "docs/retraining.md").read_text(encoding="utf-8").partition("### Rules")[2].partition("\n#")[0]
MODELS: dict[str, Any] = {**SECTIONS, "local.yaml": Local}


def documented(section: str) -> dict[str, str]:
    """Return key -> default as a section's tables have them."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (part,) = [part for part in text if part.startswith(f"`{section}`")]
    return dict(re.findall(r"^\| `(\w+)` \| (`[^`]+`|\S+) \|", part, flags=re.MULTILINE))


def plain(default: Any) -> Any:
    """Return a default as a YAML file holds it."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        values = dataclasses.asdict(default).items()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}
    return default.model_dump(mode="json", by_alias=True) if isinstance(default, BaseModel) else default


@pytest.mark.parametrize("section", MODELS)
def test_every_parameter_is_documented_with_its_default(section: str) -> None:
    fields = MODELS[section].model_fields
    table = documented(section)
    assert list(table) == list(fields)
    for name, field in fields.items():
        if dataclasses.is_dataclass(field.default):
            assert (section, name) == ("retrain", "gate")  # its table is the next test's
        else:
            assert yaml.safe_load(table[name].strip("`")) == plain(field.default), name


def test_every_rule_of_the_gate_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", RULES, flags=re.MULTILINE)
    table: dict[str, Any] = {}
    for keys, defaults in rows:
        names = re.findall(r"`(\w+)`", keys)
        values = defaults.split(", ") if len(names) > 1 and ", " in defaults else [defaults] * len(names)
        table |= {name: yaml.safe_load(value.strip().strip("`")) for name, value in zip(names, values, strict=True)}
    assert table == plain(SECTIONS["retrain"].model_fields["gate"].default)


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


PAGES = [ROOT / name for name in ("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs/zh-CN").glob("*.md"))
PLACE = re.compile(r"`((?:keypipe|tasks|flows|tests|benchmarks|tools)/[\w/.]*)`")
"""What is written like a path of the project; one with ``<…>`` or ``…`` in it stands for many."""
PLANNED = {"keypipe/tracks/", "flows/runners/"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", text):
        place = page.parent / target if target else page
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place), f"{target}#{anchor}"
    for name in PLACE.findall(text):
        assert (ROOT / name).exists() != (name in PLANNED), name


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)", page.read_text(encoding="utf-8"))
    }
    assert not [page.name for page in PAGES if page not in linked and page.name != "README.md"]


def test_the_map_stays_a_map() -> None:
    assert len((ROOT / "docs/architecture.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_examples_of_the_library_run_on_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run one after the other, with a model that sees the first image's animals on every image."""
    from keypipe.annotations.folder import read_folder
    from keypipe.annotations.labelme import LabelmeOptions
    from keypipe.demo.scene import SCHEMA, write_demo
    from keypipe.keypoints.skeleton import parse_schema
    from tests.onnx_files import metadata_of, raw_output, write_constant_model

    side_px = 160
    write_demo(tmp_path / "data/raw", 6, seed=1, size_wh=(side_px, side_px))
    schema = parse_schema({"classes": SCHEMA["classes"]})
    first = read_folder(tmp_path / "data/raw", schema, LabelmeOptions()).files[0].image
    assert first is not None
    assert first.instances
    seen = [
        (item.class_name, 0.9, to_centre(item.box_xyxy), {k: (p.x, p.y, 0.9) for k, p in item.keypoints.items()})
        for item in first.instances
    ]
    output = raw_output(schema, seen)
    write_constant_model(tmp_path / "exports/model.onnx", output, metadata_of(schema, side_px), side_px)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs/library.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        exec(example, names)
    assert len(names["images"]) == 6
    assert not names["folder"].faults
    assert names["points"].keys() == set(schema.slots)
    assert 0 < names["result"].oks["AP"] < 1
    assert 0 < names["result"].within < 1


def to_centre(box_xyxy: tuple[float, float, float, float]) -> list[float]:
    left, top, right, bottom = box_xyxy
    return [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


RELIABILITY = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
ROWS = [
    row for row in RELIABILITY.splitlines() if row.startswith("| ") and not row.startswith(("| fault |", "| input |"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_every_row_about_reliability_names_tests_that_exist(row: str) -> None:
    tests = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row.split("|")[-2])
    assert tests, "no test"
    for path, name in tests:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


def test_every_kind_of_finding_is_documented() -> None:
    from keypipe.diagnosis.findings import KINDS

    page = (ROOT / "docs/doctor.md").read_text(encoding="utf-8")
    assert not [kind for kind in KINDS if f"`{kind}`" not in page]


def test_versions_and_licenses_are_the_same_everywhere() -> None:
    import tomllib

    from keypipe import __version__
    from tasks.workspace.models import LICENSE

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == citation["version"] == __version__
    assert project["license"] == citation["license"] == LICENSE


def test_the_page_of_the_library_names_what_packages_offer() -> None:
    import importlib

    page = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(keypipe\.\w+)` \| (.*) \|$", page, flags=re.MULTILINE)
    packages = {f"keypipe.{path.parent.name}" for path in (ROOT / "keypipe").glob("*/__init__.py")}
    assert {package for package, _ in rows} == packages
    for package, text in rows:
        assert set(re.findall(r"`(\w+)`", text)) <= set(importlib.import_module(package).__all__), package
