"""Prediction as a run of Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.commands.prediction import Wish
from keypipe.errors import FaultsError
from keypipe.inference.predictor import Thresholds
from tests.flows.toy import Api


def test_the_flow(workspace: Path, api: Api) -> None:
    from flows.commands.prediction_flow import run_prediction

    summary = run_prediction(workspace, "photos/good.jpg", Wish(thresholds=Thresholds(max_det=1)))
    assert [entry.objects for entry in summary.files] == [1]
    run = last_run()
    assert (run.name, run.state.name) == ("prediction photos/good.jpg", "Completed")


def test_a_flow_with_faults_has_failed_and_tells_why(workspace: Path, api: Api) -> None:
    from flows.commands.prediction_flow import run_prediction

    with pytest.raises(FaultsError, match="1 other file done"):
        run_prediction(workspace, "photos")
    run = last_run()
    assert (run.name, run.state.name, run.state.message) == ("prediction photos", "Failed", "1 fault in 1 file")
    assert (workspace / "predictions/photos/good.json").exists()


def last_run() -> Any:
    """Return the latest run of the prediction flow that the server knows."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    from flows.commands.prediction_flow import FLOW_NAME

    with get_client(sync_client=True) as client:
        flows = FlowFilter(name=FlowFilterName(any_=[FLOW_NAME]))
        return client.read_flow_runs(flow_filter=flows, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
