"""`keypipe predict VIDEO --track` in a workspace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from keypipe.errors import ConfigError
from keypipe.tracks.tables.writing import FORMATS
from tests.imports import ROOT
from tests.keypipe.batch.spots import SCHEMA, write_film
from tests.onnx_files import write_colour_model


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_colour_model(tmp_path / "exports/model.onnx", SCHEMA)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return write_film(tmp_path / "film.avi", n_frames=20)


def run(root: Path, *arguments: str) -> str:
    done = CliRunner().invoke(cli, ["predict", *arguments], obj=root, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_track(film: Path) -> None:
    root = film.parent
    run(root, "film.avi", "--track", "--smooth", "1", "--table", "parquet", "--table", "dlc")
    out = root / "predictions/film"
    names = ["film.csv", "film.dlc.csv", "film.json", "film.mp4", "film.parquet", "predictions.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    smoothing = json.loads((out / "film.json").read_text())["smoothing"]
    assert smoothing == {"min_cutoff_hz": 1.0, "beta": 6.0, "speed_cutoff_hz": 1.0}


def test_json(film: Path) -> None:
    told = json.loads(run(film.parent, "film.avi", "--track", "--json"))
    assert told["files"][0]["tables"] == ["film.csv"]
    assert told["files"][0]["tracks"] == 3


def test_what_goes_with_track_alone(film: Path) -> None:
    with pytest.raises(ConfigError, match="add --track"):
        run(film.parent, "film.avi", "--smooth", "1")


def test_the_command_names_every_table() -> None:
    (option,) = [option for option in cli.commands["predict"].params if option.name == "tables"]  # type: ignore[attr-defined]
    assert tuple(option.type.choices) == tuple(FORMATS)  # type: ignore[attr-defined]
