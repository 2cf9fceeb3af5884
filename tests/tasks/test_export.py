from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keypipe.errors import ModelError
from keypipe.predictor import load_onnx_model
from tasks.export import ExportParams, check_parity, compare
from tests.workspace import run_stage, run_stages, set_params


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_onnx_file_says_what_the_weights_say(trained_once: Path) -> None:
    figures = read(trained_once / "metrics/export.json")["onnx"]
    assert figures["parity_max_px"] < 0.01
    report = read(trained_once / "reports/export/report.json")
    val = read(trained_once / "data/dataset/annotations/val.json")
    assert report["parity"]["images"] == len(val["images"]) > 0
    assert report["parity"]["anchors"] > 0


def test_it_carries_schema_and_license(trained_once: Path) -> None:
    _, info = load_onnx_model(trained_once / "exports/model.onnx")
    assert info.slots[0] == "nose"
    assert len(info.edges) == 13
    assert info.license == "AGPL-3.0"
    assert info.imgsz == (96, 96)


@pytest.mark.parametrize("layer", ["cv4.0.2.bias", "dfl.conv.weight"], ids=["keypoints differ", "boxes differ"])
def test_a_damaged_export_is_found(trained_once: Path, tmp_path: Path, layer: str) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(trained_once / "exports/model.onnx"))
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith(layer)]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.05), tensor.name))
    damaged = tmp_path / "damaged.onnx"
    onnx.save(model, str(damaged))
    parity = compare(trained_once, damaged, ExportParams())
    with pytest.raises(ModelError, match="the export differs from the weights: keypoints by up to"):
        check_parity(parity, 0.01)


def test_a_tolerance_that_cannot_be_met_fails_and_leaves_the_old_export(trained: Path) -> None:
    before = (trained / "exports/model.onnx").read_bytes()
    set_params(trained, **{"export.tolerance_px": 1e-12, "export.imgsz": 128})
    done = run_stage(trained, "export")
    assert done.returncode == 2
    assert "the export differs from the weights" in done.stderr
    assert (trained / "exports/model.onnx").read_bytes() == before
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{trained / 'mlflow.db'}")
    parent = client.get_run(read(trained / "models/train.json")["run_id"])
    assert parent.info.status == "FINISHED", "a failing export never marks a training as failed"
    failed = client.search_runs([parent.info.experiment_id], "attributes.status = 'FAILED'")
    assert [run.info.run_name for run in failed] == ["export"]


def test_another_size_and_dynamic_axes(trained: Path) -> None:
    set_params(trained, **{"export.imgsz": 128, "export.dynamic": True})
    run_stages(trained, "export")
    assert read(trained / "metrics/export.json")["onnx"]["parity_max_px"] < 0.01


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"export.format": "floppy"}, "export.format: Input should be 'onnx', got 'floppy'"),
        ({"export.tolerance_px": 0}, "export.tolerance_px: Input should be greater than 0"),
        ({"export.images": 1.5}, "export.images: Input should be a valid integer"),
    ],
)
def test_bad_parameters(trained: Path, params: dict[str, Any], message: str) -> None:
    set_params(trained, **params)
    done = run_stage(trained, "export")
    assert done.returncode == 2
    assert message in done.stderr
