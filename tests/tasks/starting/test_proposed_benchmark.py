"""The benchmark of what is proposed gives both parameters the same work, and runs from folder to figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks import proposed
from tests.workspace import make_workspace


@pytest.mark.parametrize(("imgsz", "epochs"), [(160, 70), (320, 18), (224, 36), (1280, 1)])
def test_epochs_come_to_the_same_pixels(tmp_path: Path, imgsz: int, epochs: int) -> None:
    root = make_workspace(tmp_path / "w", 0)
    train = proposed.set_training(root, {"train.imgsz": imgsz, "train.degrees": 30.0}, seed=3, epochs=70)
    assert (train["imgsz"], train["epochs"], train["degrees"], train["lr0"]) == (imgsz, epochs, 30.0, 0.003)
    document = YAML().load(root / "params.yaml")
    assert (document["seed"], document["train"]["epochs"]) == (3, epochs)

    assert proposed.set_training(root, {"train.imgsz": imgsz}, seed=3, epochs=70, equal="steps")["epochs"] == 70


@pytest.mark.benchmark
@pytest.mark.slow
def test_a_cell_goes_from_deeplabcut_to_a_figure_and_is_not_run_twice(tmp_path: Path) -> None:
    for variant in proposed.VARIANTS * 2:
        proposed.run_cell(tmp_path, "dlc", variant, 0, epochs=2, n_images=24)
    cells = proposed.read_cells(tmp_path)
    assert [cell["variant"] for cell in cells] == ["shipped", "proposed"]
    assert cells[0]["train"]["imgsz"] == 160
    assert (
        json.loads((tmp_path / "dlc/.keypipe/proposed.json").read_text())["train.imgsz"] == cells[1]["train"]["imgsz"]
    )
    assert proposed.format_table(cells).count("\n") == 3
