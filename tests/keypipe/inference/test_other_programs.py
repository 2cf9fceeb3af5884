"""The programs of docs/onnx.md say what ``keypipe predict`` says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from keypipe.batch.prediction import predict
from keypipe.demo.scene import write_demo
from keypipe.inference.predictor import Thresholds
from tests.imports import ROOT
from tests.pose_checkpoint import SIDE_PX, write_random_checkpoint

PLAIN, DNN, ROWS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/onnx.md").read_text(encoding="utf-8"), flags=re.DOTALL
)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network of random weights, whose output depends on every pixel."""
    return export_random(tmp_path_factory.mktemp("model"))


def export_random(folder: Path, **options: Any) -> Path:
    """Export a network of random weights to an ONNX file; ``options`` as ``write_random_checkpoint`` takes them."""
    from tasks.engine.exporting.files import export
    from tasks.engine.settings import configure

    configure(folder)
    checkpoint = write_random_checkpoint(folder / "random.pt", **options)
    return export(checkpoint, "onnx", SIDE_PX, {"simplify": False}, {}, folder, folder).path


def with_opencv_dnn() -> str:
    """Return the page's program with OpenCV in onnxruntime's place, whose session is left for the metadata alone."""
    code, n_replaced = re.subn(r"^tensor = .*\n\nfound = session\.run.*\n", DNN, PLAIN, flags=re.MULTILINE)
    assert n_replaced == 1
    return code


def without_suppression() -> str:
    """Return the page's program for a model that gives each object once."""
    code, n_replaced = re.subn(r"^found = session\.run.*^\)\n", ROWS, PLAIN, flags=re.MULTILINE | re.DOTALL)
    assert (n_replaced, code.count("4 + len(names)")) == (1, 1)
    return code.replace("4 + len(names)", "6")


@pytest.mark.parametrize("code", [PLAIN, with_opencv_dnn()], ids=["onnxruntime", "OpenCV DNN"])
def test_a_program_of_the_page_finds_what_keypipe_predict_finds(code: str, onnx: Path, tmp_path: Path) -> None:
    compare_program(code, onnx, tmp_path)


def test_the_program_without_suppression_finds_what_keypipe_predict_finds(tmp_path: Path) -> None:
    compare_program(without_suppression(), export_random(tmp_path, family="yolo26n-pose.yaml", nms=False), tmp_path)


def compare_program(code: str, onnx: Path, tmp_path: Path) -> None:
    """Run a program and keypipe on the same photos, and compare what they say."""
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 30
    (tmp_path / "plain.py").write_text(code, encoding="utf-8")
    photos = tmp_path / "photos"
    for number, path in enumerate(write_demo(tmp_path / "drawn", 3, seed=5, size_wh=(201, 150))):
        photos.mkdir(exist_ok=True)
        with Image.open(path) as image:
            image.resize([(201, 150), (90, 240), (64, 47)][number]).save(photos / f"{number}.png")
    predict(str(photos), onnx, tmp_path / "out", thresholds=Thresholds(conf=0.25))
    n_objects = 0
    for path in sorted(photos.iterdir()):
        run = subprocess.run(
            [sys.executable, tmp_path / "plain.py", onnx, path], capture_output=True, text=True, check=True
        )
        expected = json.loads((tmp_path / f"out/{path.stem}.json").read_bytes())["predictions"]
        said = [line.split() for line in run.stdout.splitlines()]
        wanted = [
            row
            for found in expected
            for row in [
                (found["class_name"], found["score"]),
                *((point["name"], point["x"], point["y"], point["confidence"]) for point in found["keypoints"]),
            ]
        ]
        assert [row[0] for row in said] == [row[0] for row in wanted], path.name
        for (_, *values), (_, *others) in zip(said, wanted, strict=True):
            assert [float(value) for value in values] == pytest.approx(others, abs=0.02)
        n_objects += len(expected)
    assert n_objects > 20
