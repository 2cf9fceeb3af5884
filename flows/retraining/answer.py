"""A person's word from Prefect's UI: a deployment that is served beside the schedule, and run by whoever answers.

A version that waits is a state of the registry, and the deployment a line in Prefect's database: neither holds a
process, and both are there after a restart. ``keypipe approve`` and ``keypipe reject`` do the same.

Prefect reads its settings when it is imported: call ``flows.services.server.configure`` before this module is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed

from flows.services.schedule_record import deployment_name
from keypipe.errors import PoseError
from tasks.registry.moves import approvals

FLOW_NAME = "keypipe-approval"
SOMEBODY = "somebody in Prefect"
"""Who answered, where nobody gave a name: Prefect's own server knows no users."""


def flow_run_name() -> str:
    """Return the name of a run: what is answered, of which version."""
    given = flow_run.parameters
    return f"{given['answer']} v{str(given['version']).removeprefix('v')}"


# Prefect's server checks the values; the copy of the flow that its runner starts cannot, which lacks `Literal`.
@flow(name=FLOW_NAME, flow_run_name=flow_run_name, validate_parameters=False)
def approval_flow(root: str, version: str, answer: Literal["approve", "reject"], why: str, who: str = "") -> Any:
    """Answer for the version that waits for a person's word.

    Args:
        root: the workspace.
        version: number of the version that waits, such as 4.
        answer: approve puts it into use; reject keeps the one that is in use.
        why: the reason, for the history.
        who: your name, for the history.
    """
    workspace, name = Path(root).resolve(), who.strip() or SOMEBODY
    try:
        if answer == "approve":
            entry = approvals.approve(workspace, version, why, name)
            told = ", ".join(map(str, entry.moves))
        else:
            entry = approvals.reject(workspace, version, why, name)
            told = f"v{entry.version} is not put into use"
    except PoseError as error:
        # Returned, not raised: Prefect would log a traceback where one clear message is due.
        get_run_logger().error("%s", error)
        return Failed(message=str(error))
    get_run_logger().info("%s", told)
    return Completed(name={"approve": "Approved", "reject": "Rejected"}[answer], message=told)


def find_page(root: Path) -> str:
    """Return the address of the page of the deployment, named as this run's own; "" where nobody has served it."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.urls import url_for

    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{FLOW_NAME}/{deployment.name or deployment_name(root)}")
        except ObjectNotFound:
            return ""
    return url_for("deployment", obj_id=found.id) or ""
