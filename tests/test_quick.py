"""The shortest run of the whole pipeline: what every interpreter must do, beside the suite on one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspace import environment, make_workspace

pytestmark = pytest.mark.quick


def keypipe(root: Path, *arguments: str) -> str:
    """Run the command as a user does; return what it prints, which must hold no warning."""
    command = [sys.executable, "-m", "keypipe", *arguments]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Warning" not in said
    return said


def test_one_epoch_is_trained_exported_and_predicts(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "farm", n_images=16, **{"train.epochs": 1, "train.imgsz": 64})
    keypipe(root, "run")
    for name in ("data/coco/keypoints.json", "data/dataset/manifest.csv", "models/best.pt", "metrics/validate.json"):
        assert (root / name).is_file(), name
    assert list((root / "exports").glob("*.onnx"))
    assert keypipe(root, "status").count("up to date") == 5
    keypipe(root, "predict", "data/raw", "--output", "found")
    assert (root / "found/predictions.json").is_file()
