"""The wheel in an empty environment: it predicts, and brings none of the engines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from keypipe.demo import write_demo
from keypipe.media import read_image
from keypipe.predictor import Predictor, load_onnx_model
from tests.imports import ROOT
from tests.pose_checkpoint import SIDE_PX, write_random_checkpoint

ENGINES = {"torch", "torchvision", "ultralytics", "prefect", "dvc", "mlflow", "scikit-learn", "openvino", "labelme"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, away from this environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    sources = tmp_path_factory.mktemp("wheel") / "sources"
    shutil.copytree(ROOT / "keypipe", sources / "keypipe", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, sources / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*command, "--wheel-dir", sources.parent, sources, cwd=sources)
    (path,) = sources.parent.glob("keypipe-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with ``keypipe[predict]`` and nothing else: the folder of its programs."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", f"{wheel}[predict]", cwd=folder.parent)
    return folder / "bin"


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model that finds many objects."""
    folder = tmp_path_factory.mktemp("model")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder / "settings"))
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    from ultralytics import YOLO

    checkpoint = write_random_checkpoint(folder / "random.pt")
    return Path(YOLO(checkpoint, task="pose").export(format="onnx", imgsz=SIDE_PX, verbose=False))


@pytest.mark.slow
def test_predict_brings_no_engine(environment: Path, tmp_path: Path) -> None:
    listed = json.loads(run(environment / "python", "-m", "pip", "list", "--format", "json", cwd=tmp_path))
    installed = {item["name"].lower() for item in listed}
    assert {"keypipe", "onnxruntime", "opencv-python-headless"} <= installed
    assert not installed & ENGINES
    run(environment / "python", "-m", "pip", "check", cwd=tmp_path)


@pytest.mark.slow
def test_it_predicts_as_it_does_here(environment: Path, onnx: Path, tmp_path: Path) -> None:
    images = write_demo(tmp_path / "images", 4, seed=5, size_wh=(200, 150))
    Image.new("L", (60, 80), 90).save(tmp_path / "images/grey.png")
    run(environment / "keypipe", "predict", "images", "--model", onnx, "--output", "found", cwd=tmp_path)
    index: dict[str, Any] = json.loads((tmp_path / "found/predictions.json").read_text(encoding="utf-8"))
    assert len(index["files"]) == len(images) + 1
    predictor = Predictor(*load_onnx_model(onnx))
    n_found = 0
    for entry in index["files"]:
        assert (tmp_path / "found" / entry["drawn"]).is_file()
        found = json.loads((tmp_path / "found" / entry["json"]).read_text(encoding="utf-8"))["predictions"]
        expected = predictor.predict_image(read_image(tmp_path / entry["file"]))
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            for keypoint, twin in zip(one["keypoints"], other.keypoints, strict=True):
                assert keypoint["name"] == twin.name
                assert abs(keypoint["x"] - twin.x) < 0.5
                assert abs(keypoint["y"] - twin.y) < 0.5
        n_found += len(found)
    assert n_found > 20
