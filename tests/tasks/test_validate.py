from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.keypoints.skeleton import parse_schema
from keypipe.splits.manifest import Manifest, ManifestLine, format_manifest
from tasks.check import find_problems
from tasks.grading.detections import to_detections
from tasks.pages.plots import PLOTS
from tasks.validate import read_units
from tasks.workspace.dataset import read_schema
from tasks.workspace.places import MANIFEST
from tests.imports import ROOT
from tests.pose_checkpoint import write_random_checkpoint
from tests.workspace import dvc, git, run_stage, run_stages, set_params

DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_both_splits_are_measured_under_names_that_tell_whose_figures_they_are(trained_once: Path) -> None:
    metrics = read(trained_once / "metrics/validate.json")
    assert set(metrics) == {"val", "test"}
    for figures in metrics.values():
        assert {"oks_AP", "oks_AP50", "within_0.1_diagonals"} <= figures["coco"].keys()
        assert {"pose/mAP50", "box/mAP50-95"} <= figures["ultralytics"].keys()
        assert figures["rule"] == {
            "sigma_min": 0.1, "sigma_max": 0.1, "area_share_of_box": 0.53, "max_detections": 20.0, "conf": 0.25,
        }  # fmt: skip


def test_sigmas_and_area_rule_stand_beside_the_figures(trained_once: Path) -> None:
    report = read(trained_once / "reports/validate/report.json")
    for split in report["sides"].values():
        assert split["sigmas"] == {"cow": [0.1] * 13}
        assert split["area_factor"] == 0.53
        assert split["keypoints"][0]["keypoint"] == "nose"
    page = (trained_once / "reports/validate/report.html").read_text()
    assert "sigma 0.1, area 0.53 of the box" in page
    assert "data:image/jpeg" in page


def test_the_report_has_errors_intervals_and_pictures(trained_once: Path) -> None:
    folder = trained_once / "reports/validate"
    report = read(folder / "report.json")
    for split, figures in report["sides"].items():
        kinds = {(group["kind"], group["name"]) for group in figures["groups"]}
        assert {("class", "cow"), ("visibility", "visible"), ("visibility", "occluded")} <= kinds
        assert sum(figures["reliability"]["count"]) % 13 == 0
        assert sum(map(sum, figures["confusion"])) >= figures["instances"]
        intervals = report["intervals"][split]
        assert (intervals["unit"], intervals["units"], intervals["resamples"]) == ("image", figures["images"], 1000)
        for interval in intervals["figures"].values():
            assert interval["low"] <= interval["value"] <= interval["high"]
        for kind in ("worst", "random"):
            assert len(list((folder / "gallery" / split / kind).glob("*.jpg"))) == min(12, figures["images"])
    page = (folder / "report.html").read_text()
    for title in ("Where keypoints are off", "Worst images", "Random images", "By class, size and visibility"):
        assert page.count(f"<h2>{title}</h2>") == len(report["sides"])


def test_artifacts_are_in_mlflow(trained_once: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{trained_once / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'keypipe'")
    (run,) = client.search_runs([experiment.experiment_id], filter_string="tags.`keypipe.stage` = 'validate'")
    assert {"val_coco/oks_AP", "val_interval/oks_AP_low", "val_coco/keypoints_missed"} <= run.data.metrics.keys()
    assert {Path(item.path).name for item in client.list_artifacts(run.info.run_id, "plots")} == {
        path.name for path in PLOTS
    }
    worst = client.list_artifacts(run.info.run_id, "reports/validate/gallery/test/worst")
    assert all(item.path.endswith(".jpg") for item in worst)
    assert worst


def test_dvc_shows_the_difference_between_two_commits(trained: Path) -> None:
    git(trained, "add", "metrics")
    git(trained, "commit", "--quiet", "--message", "sigma 0.1")
    set_params(trained, **{"validate.sigma": 3.0})  # so wide that any place is right
    run_stages(trained, "validate")
    git(trained, "commit", "--quiet", "--all", "--message", "sigma 3")
    metrics = dvc(trained, "metrics", "diff", "--json", "HEAD~1", "HEAD")
    assert metrics.returncode == 0, metrics.stderr
    change = json.loads(metrics.stdout)["metrics/validate.json"]["test.coco.oks_AP"]
    assert change["new"] > change["old"]
    plots = dvc(trained, "plots", "diff", "--json", "HEAD~1", "HEAD")
    assert plots.returncode == 0, plots.stderr
    assert "failed" not in plots.stderr
    data = json.loads(plots.stdout)["data"]
    assert set(data) == {name for entry in DVC["plots"] for name in entry}
    values = {}
    for name, (plot,) in data.items():
        assert plot["revisions"] == ["HEAD~1", "HEAD"], name
        values[name] = plot["content"]["data"]["values"]
        assert {row["rev"] for row in values[name]} == {"HEAD~1", "HEAD"}, name
        assert "DVC_METRIC" not in json.dumps(plot["content"]), name
    curve = [row for row in values["Precision at each recall, OKS 0.5"] if row["field"] == "test_oks50"]
    area = {rev: sum(float(row["test_oks50"]) for row in curve if row["rev"] == rev) for rev in ("HEAD~1", "HEAD")}
    assert area["HEAD"] > area["HEAD~1"]
    page = dvc(trained, "plots", "diff", "HEAD~1", "HEAD")
    assert page.returncode == 0, page.stderr
    assert (trained / "dvc_plots/index.html").exists()


def test_groups_of_the_split_are_what_is_drawn(tmp_path: Path) -> None:
    names = [f"raw/{index}.jpg" for index in range(4)]
    lines = [ManifestLine(name, name, "val", group) for name, group in zip(names, ("a", "a", "", ""), strict=True)]
    path = tmp_path / MANIFEST
    path.parent.mkdir(parents=True)
    truth = CocoFile([CocoImage(i, name, 9, 9) for i, name in enumerate(names)], [], [])
    path.write_text(format_manifest(Manifest(tuple(lines))), encoding="utf-8")
    assert read_units(tmp_path, truth) == ("group", ["group a", "group a", "image raw/2.jpg", "image raw/3.jpg"])
    alone = CocoFile(truth.images[2:], [], [])
    assert read_units(tmp_path, alone) == ("image", ["image raw/2.jpg", "image raw/3.jpg"])


def test_without_a_test_split_or_resamples(trained: Path) -> None:
    set_params(trained, **{"split.test": 0.0, "split.val": 0.3, "split.reset": True})
    set_params(trained, **{"validate.resamples": 0, "validate.gallery": 0, "validate.area_rule": "coco"})
    run_stages(trained, "split", "validate")
    metrics = read(trained / "metrics/validate.json")
    assert set(metrics) == {"val"}
    assert "interval" not in metrics["val"]
    table = list(csv.DictReader((trained / "metrics/validate_precision.csv").open()))
    assert {row["test_oks50"] for row in table} == {"nan"}
    assert "nan" not in {row["val_oks50"] for row in table}
    assert "area as annotated" in (trained / "reports/validate/report.html").read_text()


def test_metrics_are_the_same_bytes_again(trained: Path) -> None:
    files = [*(trained / "metrics").glob("validate*"), *(trained / "reports/validate").rglob("*.*")]
    first = {path: path.read_bytes() for path in files}
    assert len(first) > 12
    run_stages(trained, "validate")
    assert {path: path.read_bytes() for path in files} == first


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
        ({"validate.sigma": "coco-person"}, "validate.sigma: coco-person is for the 17 keypoints of COCO's persons"),
        ({"validate.sigma": "data/sigmas.yaml"}, "validate.sigma: data/sigmas.yaml holds no sigmas"),
        ({"validate.area_rule": "mask"}, "validate.area_rule: Input should be 'box' or 'coco'"),
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


# ---------------------------------------------------------------------------------- mirrored as well


def test_mirrored_views_are_refused_where_names_would_be_wrong() -> None:
    document = YAML().load(ROOT / "params.yaml")
    document["validate"]["mirror"] = True
    assert find_problems(document) == []
    document["schema"]["classes"]["cow"]["pairs"] = []
    (problem,) = find_problems(document)
    assert "validate.mirror: no keypoint has a left/right partner, so names may be wrong in a mirror" in problem
    document["train"]["symmetric"] = True
    assert find_problems(document) == []


@pytest.mark.slow
def test_what_is_found_in_both_views_is_graded(trained: Path) -> None:
    schema = read_schema(trained)
    write_random_checkpoint(trained / "models/best.pt", schema.class_names, schema.slots, 96)
    found = {}
    for mirror in (False, True):
        set_params(trained, **{"validate.mirror": mirror})
        run_stages(trained, "validate")
        metrics = json.loads((trained / "metrics/validate.json").read_text())
        assert ("mirrored" in metrics["test"]["rule"]) == mirror
        headline = json.loads((trained / "reports/validate/report.json").read_text())["headline"]
        assert headline.endswith("; images looked at mirrored as well") == mirror
        found[mirror] = json.loads((trained / "reports/validate/predictions_test.json").read_text())
    assert len(found[True]) > 10
    assert found[True] != found[False]
