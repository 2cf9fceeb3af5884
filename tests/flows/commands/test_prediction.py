"""Prediction with the workspace's model, as a plain function."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from benchmarks.prediction import choose_conf, draw_images, make_model, measure
from flows.commands.prediction import find_model, predict_main
from keypipe.errors import FaultsError, ModelError
from keypipe.inference.results import ImageResult
from tasks.engine.settings import configure
from tests.pose_checkpoint import CLASS_NAMES, KEYPOINT_NAMES, write_random_checkpoint


def test_the_plain_function(workspace: Path) -> None:
    summary = predict_main("photos/good.jpg", root=workspace)
    assert summary.output == workspace / "predictions/good"
    assert sorted(path.name for path in summary.output.iterdir()) == ["good.jpg", "good.json", "predictions.json"]


def test_a_subfolder_of_the_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace / "photos")
    assert predict_main("good.jpg", root=workspace).output == workspace / "predictions/good"
    assert predict_main("good.jpg", output="here", root=workspace).output == Path("here")


def test_faults_come_at_the_end(workspace: Path) -> None:
    with pytest.raises(FaultsError, match="1 other file done"):
        predict_main("photos", root=workspace)
    assert (workspace / "predictions/photos/good.json").exists()


def test_which_model(workspace: Path) -> None:
    assert find_model(workspace) == workspace / "exports/model.onnx"
    (workspace / "models").mkdir()
    (workspace / "models/best.pt").write_bytes(b"")
    assert find_model(workspace) == workspace / "exports/model.onnx"
    shutil.rmtree(workspace / "exports")
    assert find_model(workspace) == workspace / "models/best.pt"
    shutil.rmtree(workspace / "models")
    with pytest.raises(ModelError, match="`keypipe run` makes them"):
        find_model(workspace)


def test_a_checkpoint(workspace: Path) -> None:
    configure(workspace)
    write_random_checkpoint(workspace / "models/best.pt")
    noise = np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((320, 180)).save(workspace / "photos/noise.jpg")
    summary = predict_main("photos/noise.jpg", model="models/best.pt", conf=0.1, device="cpu", root=workspace)
    assert summary.files[0].objects > 0
    result = msgspec.json.decode((summary.output / "noise.json").read_bytes(), type=ImageResult)
    assert result.keypoint_names == dict.fromkeys(CLASS_NAMES, KEYPOINT_NAMES)
    assert result.model.path == "models/best.pt"


def test_a_damaged_checkpoint(workspace: Path) -> None:
    (workspace / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match=r"bad\.pt"):
        predict_main("photos/good.jpg", model="bad.pt", root=workspace)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("objects", [2, 255])
def test_keypipe_predict_finds_what_yolo_predict_does_with_the_same_file(tmp_path: Path, objects: int) -> None:
    model, source = make_model(tmp_path, 320), draw_images(tmp_path, 20)
    result = measure(tmp_path, model, source, choose_conf(model, source, objects), times=1)
    assert result.found[0] == pytest.approx(result.found[1], abs=2, rel=0.001)
    assert result.found[0] > 5 * objects
