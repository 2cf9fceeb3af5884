"""Prediction with the workspace's model, as a plain function."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.prediction.material import choose_conf, draw_images, make_model
from benchmarks.prediction.programs import measure
from flows.cli import cli
from flows.models.prediction import Wish, find_model, predict_main
from keypipe.errors import FaultsError, ModelError
from keypipe.inference.predictor import Thresholds
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
    assert predict_main("good.jpg", Wish(output="here"), root=workspace).output == Path("here")


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
    wish = Wish("models/best.pt", thresholds=Thresholds(conf=0.1), device="cpu")
    summary = predict_main("photos/noise.jpg", wish, root=workspace)
    assert summary.files[0].objects > 0
    result = msgspec.json.decode((summary.output / "noise.json").read_bytes(), type=ImageResult)
    assert result.keypoint_names == dict.fromkeys(CLASS_NAMES, KEYPOINT_NAMES)
    assert result.model.path == "models/best.pt"


def test_the_command_takes_every_option(workspace: Path) -> None:
    arguments = ["predict", "photos/good.jpg", "--max-det", "1", "--conf", "0.2", "--keypoint-conf", "0.1"]
    with contextlib.chdir(workspace):
        done = CliRunner().invoke(cli, [*arguments, "--output", "here", "--device", "cpu", "--mirror"], obj=workspace)
    assert done.exit_code == 0, done.output
    assert "1 object in 1 file, results in here" in done.output
    result = msgspec.json.decode((workspace / "here/good.json").read_bytes(), type=ImageResult)
    assert result.thresholds == Thresholds(conf=0.2, max_det=1, keypoint_conf=0.1, mirror=True)


def test_a_damaged_checkpoint(workspace: Path) -> None:
    (workspace / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match=r"bad\.pt"):
        predict_main("photos/good.jpg", Wish("bad.pt"), root=workspace)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("objects", [2, 255])
def test_keypipe_predict_finds_what_yolo_predict_does_with_the_same_file(tmp_path: Path, objects: int) -> None:
    model, source = make_model(tmp_path, 320), draw_images(tmp_path, 20)
    result = measure(tmp_path, model, source, choose_conf(model, source, objects), times=1)
    assert result.found[0] == pytest.approx(result.found[1], abs=2, rel=0.001)
    assert result.found[0] > 5 * objects


def test_labelme_files_are_marked_as_the_workspace_does(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("convert: {occluded_flag: '', occluded_suffix: _occ}\n")
    arguments = ["predict", "photos/good.jpg", "--to-labelme", "new", "--keypoint-conf", "0.99"]
    with contextlib.chdir(workspace):
        done = CliRunner().invoke(cli, arguments, obj=workspace, catch_exceptions=False)
    assert "1 labelme file in new to be corrected and confirmed" in done.output
    labels = [shape["label"] for shape in json.loads((workspace / "new/good.json").read_text())["shapes"]]
    assert len(labels) > 1
    assert all(label.endswith("_occ") for label in labels[1:])
