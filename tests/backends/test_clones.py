"""The whole flow on PostgreSQL and an S3 API, in three clones: trained in one, reproduced and retrained in others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from keypipe.demo.scene import write_demo
from tests.backends.clones import Clone, make_clone, make_first
from tests.patience import PATIENCE
from tools.backends.stack import Backends, running_workers

pytestmark = [pytest.mark.backends, pytest.mark.slow]
DEPLOYMENT = "keypipe-retraining/keypipe"


@pytest.mark.timeout(7200)
def test_what_one_clone_trains_others_reproduce_retrain_and_roll_back(backends: Backends, tmp_path: Path) -> None:
    origin = tmp_path / "origin.git"
    settings = {"retrain.changed_images": 4, "retrain.changed_share": None, "retrain.push": True}
    first = make_first(tmp_path / "one", origin, backends, **settings)
    first.keypipe("run")
    assert finished_trainings(backends) == 1
    first.publish("first training")
    assert [key for key in backends.storage.keys("artifacts") if key.endswith("/models/best.pt")]
    first.keypipe("register")
    first.keypipe("promote", "1", "--why", "the first")

    second = make_clone(tmp_path / "two", origin, backends)
    second.dvc("pull")
    assert (second.root / "models/best.pt").read_bytes() == (first.root / "models/best.pt").read_bytes()
    assert version_in_use(second) == "1"
    second.keypipe("reproduce", "latest", "--check")

    third = make_clone(tmp_path / "three", origin, backends)
    write_demo(first.root / "data/raw/new", 8, seed=7, size_wh=(160, 120))
    first.dvc("add", "--quiet", "data/raw")
    first.publish("new images")
    runs, logs = retrain_twice(backends, second.root, third.root)
    assert [run.state.type.value for run in runs] == ["COMPLETED"] * 2, [run.state for run in runs]
    assert runs[1].state.name == "Skipped", runs[1].state
    assert runs[0].end_time <= runs[1].start_time, "two retrainings at once"
    assert sum("submitting flow run" in log.lower() for log in logs) >= 1, logs

    second.keypipe("promote", "2", "--why", "to be taken back")
    assert version_in_use(third) == "2"
    third.keypipe("rollback", "--why", "misses ears")
    assert version_in_use(first) == "1"
    history = [clone.json("models")["history"] for clone in (first, second, third)]
    assert history[0] == history[1] == history[2]


def finished_trainings(backends: Backends) -> int:
    """Return how many trainings the server holds to have ended well."""
    from mlflow import MlflowClient

    client = MlflowClient(backends.mlflow_url)
    experiment = client.get_experiment_by_name("keypipe")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
    return sum("mlflow.parentRunId" not in run.data.tags for run in runs)


def version_in_use(clone: Clone) -> str:
    """Return the number of the version that a clone holds to be in use."""
    return str(clone.json("status")["in_use"]["champion"])


def retrain_twice(backends: Backends, *workspaces: Path) -> tuple[list[Any], list[str]]:
    """Ask the deployment for two runs at once, of which two workers may take one each.

    Returns:
        The runs in the order in which they began, and what each worker printed.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    backends.prefect(workspaces[0], "deploy", "--all")
    with temporary_settings({PREFECT_API_URL: backends.prefect_url}), get_client(sync_client=True) as client:
        deployed: Any = client.read_deployment_by_name(DEPLOYMENT)
        ids = [client.create_flow_run_from_deployment(deployed.id).id for _ in workspaces]
        with running_workers(backends, workspaces):
            deadline = time.monotonic() + 10 * PATIENCE
            runs: list[Any] = []
            while not (runs and all(run.state.is_final() for run in runs)):
                assert time.monotonic() < deadline, [(run.state, run.start_time) for run in runs]
                time.sleep(1)
                runs = [client.read_flow_run(one) for one in ids]
    logs = [path.read_text() for path in sorted(backends.logs.glob("worker-*.log"))]
    return sorted(runs, key=lambda run: run.start_time), logs
