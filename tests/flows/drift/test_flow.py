"""The drift flow with a champion: steady, drift, told once, recorded, a reason to retrain, what cannot be looked at."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from flows.drift.record import DriftOutcome, read_outcome, reason_to_retrain
from flows.notifications.record import TOLD
from keypipe.batch.prediction import predict
from keypipe.drift.log import LogSettings, PredictionLog
from keypipe.drift.segments import PICTURES, read_window
from tasks.drift.in_use import find_model_in_use
from tasks.drift.settings import LOG
from tests.flows.retraining.fixtures import Farm
from tests.retrained import add_images, write_images
from tests.workspace import git, set_params


def look(farm: Farm, **given: Any) -> DriftOutcome:
    """Run the flow in this process."""
    from flows.drift.flow import drift_flow

    farm.state = drift_flow(str(farm.root), return_state=True, **given)
    found = farm.state.result(raise_on_failure=False)
    if isinstance(found, BaseException):
        raise found
    return msgspec.convert(found, DriftOutcome)


def champion(root: Path, folder: Path) -> Path:
    """Write the champion's network to a file."""
    path = folder / "champion.onnx"
    path.write_bytes(find_model_in_use(root).onnx)
    return path


def log_fresh(farm: Farm, folder: Path, n: int = 20) -> None:
    """Predict on fresh images of the same kind, with small pictures in the log."""
    write_images(folder / "fresh", range(1000, 1000 + n), "fresh")
    settings = LogSettings(farm.root / LOG, picture_mb=5)
    predict(str(folder / "fresh"), champion(farm.root, folder), folder / "out", log=settings)


def log_strange(farm: Farm, n: int = 20, source: str = "predict") -> None:
    """Log what the champion would have said of images that it is not sure of."""
    model = find_model_in_use(farm.root)
    known = read_window(farm.root / LOG, 0, 4e9, model.sha256, 100, 0).rows
    shutil.rmtree(farm.root / LOG)
    log = PredictionLog(LogSettings(farm.root / LOG))
    rng = np.random.default_rng(0)
    for index in range(n):
        row = known[index % len(known)]
        objects = [msgspec.structs.replace(found, score=float(rng.uniform(0.3, 0.5))) for found in row.objects]
        log.add(msgspec.structs.replace(row, objects=objects, image=f"{index}.png", at=time.time(), source=source))
    log.close()


@pytest.fixture
def watched(farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    """A workspace with a champion, and its predictions on fresh images of the same kind in the log."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log_fresh(farm, tmp_path)
    return farm


def test_images_of_the_same_kind_are_steady_and_everything_is_recorded(watched: Farm) -> None:
    outcome = look(watched)
    assert (outcome.kind, outcome.alarm, outcome.version) == ("steady", False, "1")
    assert watched.state.name == "Steady"
    assert (outcome.images, outcome.units) == (20, 20)
    assert read_outcome(watched.root) == outcome
    page = (watched.root / outcome.report).read_text()
    assert "answers as on the validation side" in page
    assert "What is new" in page
    report = json.loads((watched.root / "reports/drift/report.json").read_text())
    assert (report["kind"], report["alarm"], report["window"]["images"]) == ("steady", False, 20)
    assert reason_to_retrain(watched.root, "1") == ""
    assert git(watched.root, "status", "--porcelain") == ""


def test_the_model_knows_nothing_of_pictures_that_the_log_has_dropped(watched: Farm) -> None:
    shutil.rmtree(watched.root / LOG / PICTURES)
    assert look(watched).kind == "steady"
    assert "What is new" not in (watched.root / "reports/drift/report.html").read_text()


def test_figures_and_page_are_a_child_run_of_the_champions_training(watched: Farm) -> None:
    outcome = look(watched)
    from tasks.tracking.client import open_client

    assert outcome.mlflow_run, outcome.remarks
    client = open_client(watched.root)
    run = client.get_run(outcome.mlflow_run)
    training = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert training.info.run_id == find_model_in_use(watched.root).run
    assert run.data.tags["keypipe.stage"] == run.info.run_name.split()[0] == "drift"
    assert run.data.tags["keypipe.drift"] == "steady"
    assert run.data.metrics["drift/alarm"] == 0
    assert run.data.metrics["drift/images"] == 20
    assert [file.path for file in client.list_artifacts(outcome.mlflow_run, "reports/drift")]


def test_an_alarm_is_told_once_and_is_a_reason_to_retrain_as_soon_as_there_is_something_new(watched: Farm) -> None:
    set_params(watched.root, **{"retrain.drift": True, "retrain.changed_images": 50})
    git(watched.root, "commit", "--quiet", "--all", "--message", "drift is a reason")
    hook = {"url": "http://127.0.0.1:9/nobody", "events": ["drift"]}
    set_params(watched.root, **{"retrain.notify.webhooks": [hook], "retrain.notify.tries": 1})
    log_strange(watched)
    outcome = look(watched)
    assert (outcome.kind, watched.state.name) == ("drift", "Drift")
    assert "score" in outcome.differences
    assert "best score on an image" in outcome.headline
    told = json.loads((watched.root / TOLD).read_text())
    assert told["event"] == "drift"
    assert told["title"] == outcome.model + " sees something new"
    (watched.root / TOLD).unlink()
    assert look(watched).kind == "drift"
    assert not (watched.root / TOLD).exists()  # the same alarm is no news

    from tasks.commands.accept import same_param
    from tasks.retraining.decision import decide_in
    from tasks.retraining.settings import read_settings

    def drifted(version: str) -> str:
        return reason_to_retrain(watched.root, version)

    nothing_new = decide_in(watched.root, read_settings(watched.root), same_param, "", drifted)
    assert not nothing_new.train
    assert any("there is nothing new to learn from yet" in note for note in nothing_new.notes)
    add_images(watched.root, range(3), "added")
    decision = decide_in(watched.root, read_settings(watched.root), same_param, "", drifted)
    assert decision.train
    assert decision.reasons[-1].startswith("drift was found on ")
    assert reason_to_retrain(watched.root, "2") == ""
    off = read_settings(watched.root).model_copy(update={"drift": False})
    assert not decide_in(watched.root, off, same_param, "", drifted).train


def test_an_hour_of_pictures_that_nobody_grouped_is_one_unit(watched: Farm) -> None:
    log_strange(watched, 40, source="serve")
    outcome = look(watched)
    assert outcome.kind == "cannot tell"
    assert outcome.units <= 2
    assert "too few units" in outcome.headline


@pytest.mark.parametrize(
    ("window", "said"),
    [({"until": 1000.0}, "has no predictions from"), ({"window_s": -5.0}, "the window ends before it begins")],
)
def test_what_cannot_be_looked_at_fails_in_one_line(watched: Farm, window: dict[str, float], said: str) -> None:
    outcome = look(watched, **window)
    assert (outcome.kind, watched.state.is_failed()) == ("failed", True)
    assert said in outcome.headline
    assert read_outcome(watched.root) is None  # it says nothing of drift


def test_rows_of_another_model_are_counted_and_left_out(watched: Farm, tmp_path: Path) -> None:
    log = PredictionLog(LogSettings(watched.root / LOG))
    model = find_model_in_use(watched.root)
    (row, *_) = read_window(watched.root / LOG, 0, 4e9, model.sha256, 1, 0).rows
    log.add(msgspec.structs.replace(row, sha256="00" * 32))
    log.close()
    assert look(watched).images == 20
    assert "Left out: 1 image of another model" in (watched.root / "reports/drift/report.html").read_text()
    shutil.rmtree(watched.root / LOG)
    log = PredictionLog(LogSettings(tmp_path / "elsewhere"))
    log.add(msgspec.structs.replace(row, sha256="00" * 32))
    log.close()
    outcome = look(watched, log=str(tmp_path / "elsewhere"))
    assert "but 1 image of another model" in outcome.headline
