"""``prefect.yaml`` with a real server, a process work pool and a worker."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

import msgspec
import pytest
import yaml

from flows.outcome import Outcome
from flows.retraining.answer import FLOW_NAME
from flows.retraining.record import read_outcome, write_outcome
from flows.scheduling.runner import FLOWS
from tasks.registry.moves.aliases import challenge, open_registry, read_state
from tasks.registry.moves.approvals import ask
from tests.flows.retraining.fixtures import Farm
from tests.imports import ROOT
from tests.patience import PATIENCE

POOL = "keypipe"
DEPLOYMENT = "keypipe-retraining/keypipe"
APPROVAL = f"{FLOW_NAME}/keypipe"
PLANS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]


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


def entry_module(plan: dict[str, Any]) -> tuple[str, str]:
    """Return module and function of a deployment's entrypoint."""
    file, _, function = plan["entrypoint"].partition(":")
    return ".".join(PurePosixPath(file).with_suffix("").parts), function


def test_every_flow_that_a_schedule_serves_can_be_reached_from_a_work_pool() -> None:
    served = {(flow.module, flow.function): flow.name for flow in FLOWS.values()}
    served["flows.retraining.answer", "approval_flow"] = FLOW_NAME
    assert {entry_module(plan) for plan in PLANS} == set(served)
    for plan in PLANS:
        module, function = entry_module(plan)
        flow = getattr(import_module(module), function)
        assert flow.name == served[module, function]
        assert plan["parameters"].keys() <= inspect.signature(flow.fn).parameters.keys()
        assert (plan["name"], plan["work_pool"], plan["concurrency_limit"]) == ("keypipe", {"name": POOL}, 1)
    scheduled = [entry_module(plan)[0] for plan in PLANS if plan.get("schedules")]
    assert scheduled == ["flows.retraining.flow"], "one alone starts by itself"


@pytest.mark.timeout(3600)
def test_a_worker_elsewhere_retrains_and_carries_out_what_a_person_answers(farm: Farm) -> None:
    from prefect.client.orchestration import get_client

    shutil.copy2(ROOT / "prefect.yaml", farm.root)
    before = read_outcome(farm.root)
    assert before is not None
    write_outcome(farm.root, msgspec.structs.replace(before, title="of before"))
    prefect(farm, "work-pool", "create", POOL, "--type", "process", "--overwrite")
    prefect(farm, "deploy", "--all")
    with get_client(sync_client=True) as client:
        names = {f"{flow.name}/keypipe" for flow in FLOWS.values()} | {APPROVAL}
        assert {client.read_deployment_by_name(name).work_pool_name for name in names} == {POOL}
        deployed: Any = client.read_deployment_by_name(DEPLOYMENT)
        assert [(plan.schedule.cron, plan.schedule.timezone) for plan in deployed.schedules] == [("0 3 * * *", "UTC")]
        assert deployed.global_concurrency_limit.limit == 1
        run = client.create_flow_run_from_deployment(deployed.id)
    assert end_of(farm, run) == ("Skipped", "COMPLETED")
    told = read_outcome(farm.root)
    assert isinstance(told, Outcome)
    assert (told.kind, told.workspace) == ("skipped", str(farm.root))

    registry = open_registry(farm.root)
    registry._client.create_model_version(registry.name, "s3://nowhere/model")
    challenge(farm.root, "2", "for a test")
    ask(farm.root, "2", "promoted: every rule is kept", 3.0, ["anna"])
    with get_client(sync_client=True) as client:
        asked: Any = client.read_deployment_by_name(APPROVAL)
        assert asked.parameter_openapi_schema["properties"]["answer"]["enum"] == ["approve", "reject"]
        given = {"version": "2", "answer": "approve", "why": "looked at the pictures", "who": "anna"}
        run = client.create_flow_run_from_deployment(asked.id, parameters=given)
    assert end_of(farm, run) == ("Approved", "COMPLETED")
    found = read_state(farm.root)
    assert found.aliases == {"champion": "2", "previous": "1"}
    assert (found.entries[-1].what, found.entries[-1].who) == ("approve", "anna")


def end_of(farm: Farm, run: Any) -> tuple[str, str]:
    """Have a worker run what is due; returns name and type of the state of a run after it."""
    from prefect.client.orchestration import get_client

    prefect(farm, "worker", "start", "--pool", POOL, "--run-once")
    with get_client(sync_client=True) as client:
        state: Any = client.read_flow_run(run.id).state
    return state.name, state.type.value
