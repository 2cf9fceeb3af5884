from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from keypipe.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.skeleton import parse_schema
from tasks.detections import to_detections
from tests.workspace import run_stage, run_stages, set_params


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_both_sides_are_measured_under_names_that_tell_whose_figures_they_are(trained_once: Path) -> None:
    metrics = read(trained_once / "metrics/validate.json")
    assert set(metrics) == {"val", "test"}
    for figures in metrics.values():
        assert {"oks_AP", "oks_AP50", "within_0.1_diagonals"} <= figures["coco"].keys()
        assert {"pose/mAP50", "box/mAP50-95"} <= figures["ultralytics"].keys()


def test_sigmas_and_area_rule_stand_beside_the_figures(trained_once: Path) -> None:
    report = read(trained_once / "reports/validate/report.json")
    for side in report["sides"].values():
        assert side["sigmas"] == {"cow": [0.1] * 13}
        assert side["area_factor"] == 0.53
        assert side["keypoints"][0]["keypoint"] == "nose"
    page = (trained_once / "reports/validate/report.html").read_text()
    assert "sigma 0.1, area 0.53 of the box" in page
    assert "data:image/jpeg" in page


def test_metrics_are_the_same_bytes_again(trained: Path) -> None:
    first = (trained / "metrics/validate.json").read_bytes()
    predictions = (trained / "reports/validate/predictions_val.json").read_bytes()
    run_stages(trained, "validate")
    assert (trained / "metrics/validate.json").read_bytes() == first
    assert (trained / "reports/validate/predictions_val.json").read_bytes() == predictions


def test_the_view_is_made_anew_when_it_is_absent(trained: Path) -> None:
    shutil.rmtree(trained / "data/yolo")
    first = (trained / "metrics/validate.json").read_bytes()
    run_stages(trained, "validate")
    assert (trained / "metrics/validate.json").read_bytes() == first


def test_a_server_that_does_not_know_the_training_gets_it_anew(trained: Path) -> None:
    (trained / "mlflow.db").unlink()
    done = run_stage(trained, "validate")
    assert done.returncode == 0, done.stderr
    assert "did not know this training: restored" in done.stdout
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{trained / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'keypipe'")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("keypipe.restored") == "true"]
    epochs = read(trained / "models/epochs.json")
    history = client.get_metric_history(parent.info.run_id, "train/pose_loss")
    assert [entry.value for entry in history] == [epoch["train/pose_loss"] for epoch in epochs]
    assert len(runs) == 2


def test_without_a_model_it_says_what_to_run(drawn: Path) -> None:
    done = run_stage(drawn, "validate")
    assert done.returncode == 2
    assert "no trained model; run `keypipe run`" in done.stderr


def test_a_model_for_another_skeleton_is_refused_and_the_figures_stay(trained: Path) -> None:
    first = (trained / "metrics/validate.json").read_bytes()
    set_params(trained, **{"schema.classes": {"cow": {"keypoints": ["nose", "left_ear", "right_ear"]}}})
    run_stages(trained, "convert", "split")
    done = run_stage(trained, "validate")
    assert done.returncode == 2
    assert "made for 13 keypoints" in done.stderr
    assert (trained / "metrics/validate.json").read_bytes() == first


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"validate.sigma": [0.1, 0.2]}, "validate.sigma: expected one number above 0, or 13 of them"),
        ({"validate.conf": 2}, "validate.conf: Input should be less than 1"),
    ],
)
def test_bad_parameters(trained: Path, params: dict[str, Any], message: str) -> None:
    set_params(trained, **params)
    done = run_stage(trained, "validate")
    assert done.returncode == 2
    assert message in done.stderr


def test_detections_keep_only_the_keypoints_of_their_class() -> None:
    schema = parse_schema(
        {"classes": {"cow": {"keypoints": ["nose", "tail"]}, "bird": {"keypoints": ["beak", "tail"]}}}
    )
    truth = CocoFile([CocoImage(7, "raw/a/1.jpg", 10, 10)], list[CocoAnnotation](), list[CocoCategory]())
    row = ("a/1.jpg", 1, 0.5, [1.0, 2.0, 4.0, 8.0], [[1.0, 1.0, 0.1], [2.0, 2.0, 0.2], [3.0, 3.0, 0.3]])
    (detection,) = to_detections([row], truth, schema)
    assert detection.image_id == 7
    assert detection.category_id == 2
    assert detection.bbox == (1.0, 2.0, 3.0, 6.0)
    assert detection.keypoints == [3.0, 3.0, 0.3, 2.0, 2.0, 0.2]
