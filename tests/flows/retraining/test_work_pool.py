"""``prefect.yaml`` with a real server, a process work pool and a worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import msgspec

from flows.outcome import Outcome
from flows.retraining.record import read_outcome, write_outcome
from tests.flows.retraining.fixtures import Farm
from tests.imports import ROOT
from tests.patience import PATIENCE

POOL = "keypipe"
DEPLOYMENT = "keypipe-retraining/keypipe"


def prefect(farm: Farm, *arguments: str) -> str:
    """Run Prefect's own command in the workspace, as an administrator would."""
    env = {
        **os.environ,
        "PREFECT_API_URL": farm.api.url,
        "KEYPIPE_WORKSPACE": str(farm.root),
        "PREFECT_CLI_PROMPT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "prefect", "--no-prompt", *arguments],
        cwd=farm.root,
        env=env | {"PYTHONPATH": str(farm.root), "PREFECT_WORKER_QUERY_SECONDS": "1"},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_worker_elsewhere_retrains(farm: Farm) -> None:
    from prefect.client.orchestration import get_client

    shutil.copy2(ROOT / "prefect.yaml", farm.root)
    before = read_outcome(farm.root)
    assert before is not None
    write_outcome(farm.root, msgspec.structs.replace(before, title="of before"))
    prefect(farm, "work-pool", "create", POOL, "--type", "process", "--overwrite")
    prefect(farm, "deploy", "--all")
    with get_client(sync_client=True) as client:
        deployed: Any = client.read_deployment_by_name(DEPLOYMENT)
        assert deployed.work_pool_name == POOL
        assert [(plan.schedule.cron, plan.schedule.timezone) for plan in deployed.schedules] == [("0 3 * * *", "UTC")]
        assert deployed.global_concurrency_limit.limit == 1
        run = client.create_flow_run_from_deployment(deployed.id)
    prefect(farm, "worker", "start", "--pool", POOL, "--run-once", "--limit", "1")
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    assert state is not None
    assert (state.name, state.type.value) == ("Skipped", "COMPLETED"), state.message
    told = read_outcome(farm.root)
    assert isinstance(told, Outcome)
    assert (told.kind, told.workspace) == ("skipped", str(farm.root))
