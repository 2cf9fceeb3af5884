"""Commands that use a model: ``keypipe serve`` inside a clone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import pytest

from flows.cli import cli
from keypipe.keypoints.predictions import DEFAULT_CONF, DEFAULT_KEYPOINT_CONF
from keypipe.keypoints.skeleton import Schema, Skeleton
from keypipe.serving.settings import Settings
from tests.imports import ROOT
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.patience import PATIENCE
from tests.served import command, surroundings
from tests.served import serving as served

SCHEMA = Schema({"cow": Skeleton(("nose", "tail"), (("nose", "tail"),))})
COW = ("cow", 0.9, [32.0, 32.0, 20.0, 10.0], {"nose": (25, 30, 0.9), "tail": (40, 33, 0.8)})


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that the command takes for a clone."""
    for name in ("dvc.yaml", "flows", "params.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "photos").mkdir()
    return tmp_path


def test_the_export_is_served_from_any_folder_of_the_clone(clone: Path) -> None:
    write_constant_model(clone / "exports/model.onnx", raw_output(SCHEMA, [COW]), metadata_of(SCHEMA))
    with served(clone / "photos", "--conf", "0.5") as server:
        card = httpx.get(f"{server.url}/model").json()
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0
        assert server.process.communicate()[1] == ""
    assert card["model"]["path"] == "model.onnx"
    assert card["thresholds"]["conf"] == 0.5


def test_another_model_is_named_relative_to_the_current_folder(clone: Path) -> None:
    write_constant_model(clone / "photos/mine.onnx", raw_output(SCHEMA, [COW]), metadata_of(SCHEMA))
    with served(clone / "photos", "mine.onnx") as server:
        assert httpx.get(f"{server.url}/model").json()["model"]["path"] == "mine.onnx"


def test_without_an_export_it_says_what_makes_one(clone: Path) -> None:
    done = subprocess.run(command(), cwd=clone, env=surroundings(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("keypipe: ")
    assert "exports/model.onnx: no such model file; `keypipe run` trains and exports one" in done.stderr


def of_click() -> dict[str, Any]:
    """Return option -> default of the clone's command."""
    found = cli.commands["serve"]
    values = found.make_context("serve", []).params
    return {item.opts[0]: values[str(item.name)] for item in found.params if isinstance(item, click.Option)}


def of_the_package(folder: Path) -> set[str]:
    """Return the options of the package's command, as it shows them outside of any workspace."""
    done = subprocess.run(command("--help"), cwd=folder, env=surroundings(), capture_output=True, text=True, check=True)
    return set(re.findall(r"^  (--[\w-]+)", done.stdout, flags=re.MULTILINE))


def of_the_server() -> dict[str, Any]:
    """Return option -> default of the server itself."""
    settings = {f"--{name.replace('_', '-')}": value for name, value in msgspec.structs.asdict(Settings()).items()}
    of_the_model = {
        "--conf": DEFAULT_CONF,
        "--keypoint-conf": DEFAULT_KEYPOINT_CONF,
        "--device": None,
        "--mirror": False,
    }
    return settings | of_the_model


def of_the_docs() -> dict[str, str]:
    """Return option -> default as the documentation's table has them."""
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    section = page.partition("\n## Options\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`--[^|]+) \| ([^|]+) \|", section, flags=re.MULTILINE)
    pairs = [zip(re.findall(r"--[\w-]+", names), defaults.split(", "), strict=True) for names, defaults in rows]
    return dict(pair for row in pairs for pair in row)


def as_documented(option: str, default: Any) -> str:
    """Return a default as the table spells it."""
    if default is None:
        return {
            "--device": "a GPU where onnxruntime serves one",
            "--cache": "`~/.cache/keypipe/serving`",
            "--log": "`drift.log`",
        }.get(option, "none")
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_both_commands_and_the_documentation_agree(tmp_path: Path) -> None:
    settings = {name: default for name, default in of_click().items() if name != "--no-cache"}  # which unsets one
    assert settings == of_the_server()
    # What is logged is a matter of params.yaml in a clone.
    package = {option for option in of_the_package(tmp_path) if not option.startswith("--log-")}
    assert package == of_click().keys()
    assert {name: as_documented(name, default) for name, default in settings.items()} == of_the_docs()
