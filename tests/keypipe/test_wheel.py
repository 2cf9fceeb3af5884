"""The wheel in an empty environment: it predicts and serves, and brings none of the engines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from keypipe.demo.scene import write_demo
from keypipe.images.media import read_image
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor
from keypipe.keypoints.predictions import Prediction
from tests.imports import ROOT
from tests.mlflow_server import MlflowServer
from tests.model_versions import Versions, photo
from tests.patience import PATIENCE
from tests.pose_checkpoint import SIDE_PX, write_random_checkpoint
from tests.served import serving

ENGINES = {"torch", "torchvision", "ultralytics", "prefect", "dvc", "mlflow", "scikit-learn", "openvino", "labelme"}


def surroundings() -> dict[str, str]:
    """Return the environment variables without those that lead to this environment."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, away from this environment."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=surroundings(), capture_output=True, text=True, check=False
    )
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
    return make_environment(tmp_path_factory.mktemp("empty") / "venv", f"{wheel}[predict]")


@pytest.fixture(scope="module")
def serving_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with ``keypipe[serve]``."""
    return make_environment(tmp_path_factory.mktemp("empty") / "venv", f"{wheel}[serve]")


def make_environment(folder: Path, package: str) -> Path:
    """Make an environment with a package and what it needs; return the folder of its programs."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", package, cwd=folder.parent)
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
    installed = packages(environment, tmp_path)
    assert {"keypipe", "onnxruntime", "opencv-python-headless"} <= installed
    assert not installed & (ENGINES | {"fastapi", "uvicorn"})


def packages(environment: Path, cwd: Path) -> set[str]:
    """Return the names of the packages in an environment, which has everything that they need."""
    run(environment / "python", "-m", "pip", "check", cwd=cwd)
    listed = json.loads(run(environment / "python", "-m", "pip", "list", "--format", "json", cwd=cwd))
    return {item["name"].lower() for item in listed}


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
        assert_alike(found, predictor.predict_image(read_image(tmp_path / entry["file"])))
        n_found += len(found)
    assert n_found > 20


def assert_alike(found: list[dict[str, Any]], expected: list[Prediction]) -> None:
    """Compare keypoints by name and to half a pixel: other versions of onnxruntime round otherwise."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for keypoint, twin in zip(one["keypoints"], other.keypoints, strict=True):
            assert keypoint["name"] == twin.name
            assert abs(keypoint["x"] - twin.x) < 0.5
            assert abs(keypoint["y"] - twin.y) < 0.5


@pytest.mark.slow
def test_it_serves_without_an_engine(serving_environment: Path, onnx: Path, tmp_path: Path) -> None:
    installed = packages(serving_environment, tmp_path)
    assert {"keypipe", "onnxruntime", "fastapi", "uvicorn"} <= installed
    assert not installed & ENGINES
    predictor = Predictor(*load_onnx_model(onnx))
    program = [str(serving_environment / "keypipe"), "serve"]
    n_found = 0
    with serving(tmp_path, onnx, program=program, env=surroundings()) as server:
        assert "Drop an image here" in httpx.get(server.url).text
        for path in write_demo(tmp_path / "images", 4, seed=5, size_wh=(200, 150)):
            for body in ({"content": path.read_bytes()}, {"files": {"file": path.read_bytes()}}):
                found = httpx.post(f"{server.url}/predict", **body, timeout=PATIENCE).json()["predictions"]
                assert_alike(found, predictor.predict_image(read_image(path)))
                n_found += len(found)
    assert n_found > 20


@pytest.mark.slow
def test_it_follows_a_champion_and_a_challenger_without_mlflow(
    serving_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "mlflow" not in " ".join(packages(serving_environment, tmp_path))
    registry = MlflowServer(tmp_path / "mlflow")
    registry.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)
        versions = Versions(tmp_path)
        numbers = [versions.add_seeing(score) for score in (0.9, 0.8)]
        versions.point("champion", numbers[0])
        versions.point("challenger", numbers[1])
        program = [str(serving_environment / "keypipe"), "serve"]
        arguments = ["--tracking-uri", registry.url, "--poll", "0.2", "--shadow", "challenger", "--shadow-share", "1"]
        with serving(tmp_path, versions.ref, *arguments, program=program, env=surroundings()) as server:

            def health() -> Any:
                return httpx.get(f"{server.url}/healthz", timeout=PATIENCE).json()

            while not health()["shadow"]["version"]:
                time.sleep(0.1)
            assert httpx.post(f"{server.url}/predict", content=photo()).headers["keypipe-model"] == versions.uri("1")
            while not health()["shadow"]["compared"]:
                time.sleep(0.1)
            versions.point("champion", numbers[1])
            while health()["model"] != versions.uri("2"):
                time.sleep(0.1)
    finally:
        registry.stop()


@pytest.mark.slow
def test_serving_says_what_is_missing(environment: Path, onnx: Path, tmp_path: Path) -> None:
    command = [str(environment / "keypipe"), "serve", str(onnx)]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"keypipe: \w+ is not installed: pip install 'keypipe\[serve\]'\n", done.stderr)
