"""A whole small run of each family beside YOLOv8-pose: from drawings to a proven export that predicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keypipe.images.media import read_image
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from tests.workspace import dvc, make_workspace, run_stages

FAMILIES = [("yolo11n-pose.yaml", None), ("yolo26n-pose.yaml", None), ("yolo26n-pose.yaml", False)]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "nms"), FAMILIES)
def test_from_drawings_to_a_proven_export(tmp_path: Path, model: str, nms: bool | None) -> None:
    import mlflow

    formats = ["onnx", "torchscript", "openvino"]
    params: dict[str, Any] = {"train.model": model, "train.nms": nms, "export.formats": formats, "export.int8": True}
    params |= {"export.conf": 0.001, "export.int8_tolerance_diagonals": 20.0, "export.int8_tolerance_ap": 1.0}
    root = make_workspace(tmp_path / "workspace", n_images=24, **params)
    assert dvc(root, "add", "--quiet", "data/raw").returncode == 0
    run_stages(root, "convert", "split", "train", "validate", "export")

    run_id = json.loads((root / "models/train.json").read_text())["run_id"]
    metrics = mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}").get_run(run_id).data.metrics
    own = {"l1", "rle"} if "26" in model else {"dfl"}
    told = {name for name in metrics if name.startswith("train/") and name.endswith("_loss")}
    assert told == {f"train/{name}_loss" for name in {"box", "cls", "kobj", "pose"} | own}
    assert {"val_epoch/oks_AP", "val_coco/oks_AP"} <= metrics.keys()

    proofs = json.loads((root / "metrics/export.json").read_text())
    assert proofs.keys() == {*formats, "onnx_int8"}
    for name in formats:
        assert proofs[name]["anchors"] > 0
        assert proofs[name]["anchors_max_px"] < 0.01
        assert proofs[name]["unmatched"] == 0 < proofs[name]["matched"]
    timed = json.loads((root / "exports/latency.json").read_text())["measured"]
    batches = [item["timings"].keys() for item in timed if item["setting"]["batch"] == 16]
    assert batches
    assert all({"onnx", "openvino", "torchscript"} <= names for names in batches), "with 16 images at once as well"

    opened, info = load_onnx_model(root / "exports/model.onnx")
    assert info.end2end == (nms is False)
    image = next((root / "data/raw").rglob("*.jpg"))
    found = Predictor(opened, info).predict_image(read_image(image), Thresholds(0.0005))
    assert found
    assert [point.name for point in found[0].keypoints] == list(info.schema.classes["cow"].keypoints)
