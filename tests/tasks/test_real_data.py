"""The whole way on real photographs; minutes of training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.predictions import assert_as_ultralytics_on_every_validation_image
from tests.workspace import make_workspace, run_stages, set_params

SET_SQUARE = {
    "sjb_rect": {
        "keypoints": ["angle_30", "angle_60", "angle_90"],
        "skeleton": [["angle_30", "angle_60"], ["angle_60", "angle_90"], ["angle_90", "angle_30"]],
    }
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_set_squares_are_learnt(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "workspace", n_images=0)
    shutil.copytree(shared_data("setsquare") / "labelme", root / "data/raw")
    (root / "local.yaml").unlink()
    set_params(
        root,
        **{
            "schema.classes": SET_SQUARE,
            "split.train": 0.8,
            "split.val": 0.1,
            "split.test": 0.1,
            "train.epochs": 60,
            "train.imgsz": 256,
            "train.batch": 16,
            "train.nbs": 16,
            "train.warmup_epochs": 2,
        },
    )
    run_stages(root, "convert", "split", "train", "validate", "export")
    metrics = json.loads((root / "metrics/validate.json").read_text())
    print(json.dumps(metrics, indent=2))
    # Plain Ultralytics, at these steps and its own loss sigma, reached 8 % and an mAP50 of 0.001.
    assert metrics["val"]["coco"]["within_0.1_diagonals"] > 0.2
    assert metrics["val"]["coco"]["oks_AP50"] > 0.05
    exported = json.loads((root / "metrics/export.json").read_text())["onnx"]
    assert exported["anchors_max_px"] < 0.1
    # Validate lets Ultralytics make the input, with less margin.
    assert exported["oks_AP"] == pytest.approx(metrics["val"]["coco"]["oks_AP"], abs=0.05)
    assert assert_as_ultralytics_on_every_validation_image(root, conf=0.05) > 0
