"""Prediction as a run of Prefect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from flows.models.prediction import Wish
from flows.services import server
from keypipe.errors import FaultsError
from keypipe.inference.predictor import Thresholds
from tests.flows.services.test_presence import running_server, strike
from tests.flows.toy import REPOSITORY, Api, wait_until
from tests.patience import PATIENCE


def test_the_flow(workspace: Path, api: Api) -> None:
    from flows.models.prediction_flow import run_prediction

    summary = run_prediction(workspace, "photos/good.jpg", Wish(thresholds=Thresholds(max_det=1)))
    assert [entry.objects for entry in summary.files] == [1]
    run = last_run()
    assert (run.name, run.state.name) == ("prediction photos/good.jpg", "Completed")


def test_a_flow_with_faults_has_failed_and_tells_why(workspace: Path, api: Api) -> None:
    from flows.models.prediction_flow import run_prediction

    with pytest.raises(FaultsError, match="1 other file done"):
        run_prediction(workspace, "photos")
    run = last_run()
    assert (run.name, run.state.name, run.state.message) == ("prediction photos", "Failed", "1 fault in 1 file")
    assert (workspace / "predictions/photos/good.json").exists()


def predict(root: Path, source: str, url: str) -> subprocess.Popen[str]:
    """Start ``keypipe predict --flow`` in a process of its own, with a Prefect server."""
    code = "import sys; from pathlib import Path; from flows.cli import main; main(Path(sys.argv.pop(1)))"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(root), "predict", source, "--flow"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PREFECT_API_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_prediction_goes_on_and_ends_without_its_server(workspace: Path, api: Api, tmp_path: Path) -> None:
    many = workspace / "many"
    many.mkdir()
    for number in range(300):
        shutil.copy(workspace / "photos/good.jpg", many / f"{number}.jpg")
    folder = tmp_path / "server"
    with running_server(folder) as (tree, url):
        run = predict(workspace, "many", url)
        wait_until(lambda: list((workspace / "predictions").glob("many/*.json")), "the first result")
        strike(tree, psutil.Process.kill)
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, output
    assert "300 objects in 300 files" in output
    assert "not recorded: Prefect (" in output
    assert "Traceback" not in output
    assert len(list((workspace / "predictions/many").glob("*.json"))) == 301
    (unsettled,) = (workspace / ".keypipe/unsettled").glob("*.json")

    with running_server(folder) as (_, url), server.pointed_to(url):
        run = predict(workspace, "photos/good.jpg", url)
        output, _ = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, output
        assert flow_state(unsettled.stem) == "Completed"
    assert not list((workspace / ".keypipe/unsettled").iterdir())


def test_a_server_that_is_away_before_a_prediction_is_told_in_a_line(workspace: Path) -> None:
    run = predict(workspace, "photos/good.jpg", "http://127.0.0.1:9/api")
    output, _ = run.communicate(timeout=PATIENCE)
    assert (run.returncode, len(output.splitlines())) == (2, 1), output
    assert "does not answer; start it, or unset PREFECT_API_URL" in output
    assert not (workspace / "predictions").exists()


def flow_state(flow_run_id: str) -> str:
    """Return the state of a run as the server knows it."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(UUID(flow_run_id)).state_name)


def last_run() -> Any:
    """Return the latest run of the prediction flow that the server knows."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    from flows.models.prediction_flow import FLOW_NAME

    with get_client(sync_client=True) as client:
        flows = FlowFilter(name=FlowFilterName(any_=[FLOW_NAME]))
        return client.read_flow_runs(flow_filter=flows, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
