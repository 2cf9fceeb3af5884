"""The notebook that walks the library's API runs from its first cell to its last, as a person would run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keypipe.demo.scene import SCHEMA
from keypipe.keypoints.skeleton import parse_schema
from tests.imports import ROOT
from tests.onnx_files import metadata_of, raw_output, write_constant_model

NOTEBOOK = ROOT / "docs" / "library.ipynb"
CELLS: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_holds_no_results_of_a_machine() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)


def test_it_walks_from_the_demo_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that sees one cow on every image."""
    schema = parse_schema({"classes": SCHEMA["classes"]})
    seen = ("cow", 0.9, [80.0, 80.0, 60.0, 40.0], dict.fromkeys(schema.slots, (80.0, 80.0, 0.8)))
    model = tmp_path / "exports/model.onnx"
    write_constant_model(model, raw_output(schema, [seen]), metadata_of(schema, 160), 160)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name} {cell['id']}", "exec"), names)
    assert (len(names["images"]), len(names["folder"].faults)) == (40, 0)
    assert [found.kind for found in names["suspects"]], "the exchanged labels are found"
    assert {line.split for line in names["split"].lines} == {"train", "val", "test"}
    assert np.isclose(names["result"].all_keypoints.median_px, 1.18 * names["NOISE_PX"], rtol=0.1)
    assert "data:image/jpeg" in (names["root"] / "walk.html").read_text(encoding="utf-8")
    assert [prediction.class_name for prediction in names["predictions"]] == ["cow"]
