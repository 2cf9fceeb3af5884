"""What MLflow's pages are made of: few figures on a training, a model with links, descriptions, tags."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.tracking import history
from tasks.tracking.client import open_client
from tests.imports import ROOT
from tests.trained_runs import record_export, record_training, record_validation
from tests.workspace import environment


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with a training, measured twice and exported between, and its run's id."""
    root = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        run_id = record_training(root)
        record_validation(root)
        record_export(root)
    return root, run_id


@pytest.fixture
def client(recorded: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_client(recorded[0])


def find(client: Any, stage: str) -> Any:
    (experiment,) = client.search_experiments(filter_string="name = 'keypipe'")
    order = ["attributes.start_time DESC"]
    return client.search_runs([experiment.experiment_id], f"tags.`keypipe.stage` = '{stage}'", order_by=order)[0]


def test_the_experiment_is_one_of_trainings(client: Any) -> None:
    experiment = client.get_experiment_by_name("keypipe")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_what_a_person_says_of_the_experiment_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record_training(tmp_path, 1)
    client = open_client(tmp_path)
    id_ = client.get_experiment_by_name("keypipe").experiment_id
    client.set_experiment_tag(id_, "mlflow.experimentKind", "finetuning")
    record_training(tmp_path, 2)
    assert client.get_experiment_by_name("keypipe").tags["mlflow.experimentKind"] == "finetuning"
    client.delete_experiment_tag(id_, "mlflow.experimentKind")  # as older versions left it
    record_training(tmp_path, 3)
    assert client.get_experiment_by_name("keypipe").tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_training_shows_curves_and_headline_figures_and_its_children_all(
    recorded: tuple[Path, str], client: Any
) -> None:
    shown = client.get_run(recorded[1]).data.metrics
    whole_run = {name for name in shown if name.startswith(("val_coco", "test_coco"))}
    assert whole_run == {
        f"{split}_coco/{figure}"
        for split in ("val", "test")
        for figure in ("oks_AP", "oks_AP50", "within_0.1_diagonals", "detected")
    }
    curves = {name for name in shown if name not in whole_run}
    assert {name.partition("/")[0] for name in curves} == {"train", "val", "val_epoch", "lr"}
    assert all(len(client.get_metric_history(recorded[1], name)) == 12 for name in curves)
    assert all(len(client.get_metric_history(recorded[1], name)) == 1 for name in whole_run)
    assert len(find(client, "validate").data.metrics) > 100
    assert len(find(client, "export").data.metrics) == 16


def test_the_model_belongs_to_the_training_its_data_and_its_figures(recorded: tuple[Path, str], client: Any) -> None:
    import mlflow.onnx

    training = client.get_run(recorded[1])
    (model,) = client.search_logged_models([training.info.experiment_id])
    assert (model.source_run_id, str(model.status)) == (recorded[1], "READY")
    assert [output.model_id for output in training.outputs.model_outputs] == [model.model_id]
    export = find(client, "export")
    assert [output.model_id for output in export.outputs.model_outputs] == [model.model_id]
    figures = {metric.key: metric for metric in model.metrics}
    assert set(figures) == {name for name in training.data.metrics if "_coco/" in name}
    assert figures["test_coco/oks_AP"].value == 0.6
    data = {item.dataset.name: item.dataset for item in training.inputs.dataset_inputs}
    assert set(data) == {"data/raw", "val split", "test split"}
    assert figures["test_coco/oks_AP"].dataset_digest == data["test split"].digest
    assert figures["val_coco/oks_AP"].dataset_digest == data["val split"].digest
    assert data["test split"].profile == '{"images":20,"objects":20}'
    assert mlflow.onnx.load_model(model.model_uri).graph.output[0].name == "output0"


def test_a_later_validation_is_the_models_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_id = record_training(tmp_path, 2)
    record_validation(tmp_path, 0.4)
    record_export(tmp_path)
    record_validation(tmp_path, 0.7)
    client = open_client(tmp_path)
    (model,) = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert {metric.value for metric in model.metrics if metric.key == "test_coco/oks_AP"} >= {0.7}
    record_export(tmp_path)  # exported anew: a second model, and the first goes with its child run
    first, second = [run.id for run in history.list_runs(tmp_path) if run.name == "export"][::-1]
    models = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert {model.tags["keypipe.export"] for model in models} == {first, second}
    assert history.artifact_bytes(tmp_path, first) > 0
    history.remove_run(tmp_path, first)
    (left,) = client.search_logged_models([client.get_run(run_id).info.experiment_id])
    assert left.tags["keypipe.export"] == second


def test_descriptions_say_what_it_is_what_came_of_it_and_where_the_pages_are(
    recorded: tuple[Path, str], client: Any
) -> None:
    training, validate = client.get_run(recorded[1]), find(client, "validate")
    text = training.data.tags["mlflow.note.content"]
    experiment = training.info.experiment_id
    assert text.startswith("**A training of `yolov8n-pose.yaml` for keypoints**")
    assert "started from random weights" in text
    assert "It finished: 12 epochs, best 12 by oks_AP 0.668 on val." in text
    assert "| OKS AP&emsp; | 0.600 (0.520 to 0.670)&emsp; | 0.600 |" in text
    report = f"#/experiments/{experiment}/runs/{validate.info.run_id}/artifacts/reports/validate/report.html"
    assert f"[how good the model is]({report}?" in text
    assert "- Data: `data/raw` as DVC's `0a1b2c3d4e5f.dir`" in text
    assert "- Code: commit `1f2e3d4c1f2e`" in text
    assert f"keypipe reproduce {recorded[1][:8]}" in text
    child = validate.data.tags["mlflow.note.content"]
    assert f"What was measured of [{training.info.run_name}](#/experiments/{experiment}/runs/{recorded[1]}?" in child
    assert training.data.tags["keypipe.data"] == "0a1b2c3d4e5f.dir"


def test_a_description_that_a_person_wrote_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_id = record_training(tmp_path, 2)
    client = open_client(tmp_path)
    client.set_tag(run_id, "mlflow.note.content", "the one with the new camera")
    record_validation(tmp_path)
    assert client.get_run(run_id).data.tags["mlflow.note.content"] == "the one with the new camera"


def test_a_training_that_failed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    from tasks.tracking import runs
    from tasks.workspace.models import TrainingRecord

    live = runs.start_training(tmp_path, TrainingRecord("f" * 32, {}, {}, "", {}))
    with pytest.raises(MemoryError), runs.ending(live):
        raise MemoryError("out of memory")
    text = open_client(tmp_path).get_run(live.run_id).data.tags["mlflow.note.content"]
    assert "It failed: out of memory." in text
    assert "- Code: outside git" in text


def test_mlflow_reports_no_usage_from_a_process_of_ours(tmp_path: Path) -> None:
    """It decides so when it is imported, whatever is set afterwards."""
    program = (
        "import sys; from pathlib import Path; from tests.trained_runs import record_training;"
        "record_training(Path(sys.argv[1]), 1);"
        "from mlflow.telemetry import get_telemetry_client; from mlflow.telemetry.utils import is_telemetry_disabled;"
        "from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY;"
        "print(get_telemetry_client(), MLFLOW_DISABLE_TELEMETRY.get())"
    )
    # MLflow reports nothing in a continuous integration or under pytest either, which would hide it here.
    kept = {key: value for key, value in environment().items() if key not in _CI and not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=kept, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "None True", done.stderr


_CI = {name for name in os.environ if name.startswith(("CI", "GITHUB", "DO_NOT_TRACK"))}
