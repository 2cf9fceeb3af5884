"""A sweep in MLflow: the run that the trainings of its trials are children of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keypipe.errors import PoseError
from tasks.tracking.client import answering, experiment_id, first_line, open_client
from tasks.tracking.machine import own_process
from tasks.tracking.tags import PROCESS

SWEEP = "keypipe.sweep"
"""Tag of the run: name of the sweep."""
_CONTENT = "mlflow.note.content"


def try_open(root: Path, name: str, params: Mapping[str, str], known: str = "") -> tuple[str, str]:
    """Open the run of a sweep, or go on with it.

    Args:
        root: the workspace.
        name: of the sweep.
        params: what it tries.
        known: id of its run, where it has one.

    Returns:
        The run's id, and why there is none; one of them is empty.
    """
    try:
        with answering(root):
            client = open_client(root)
            experiment = experiment_id(client, root)
            if known and _is_there(client, known):
                client.set_tag(known, PROCESS, own_process())
                client.update_run(known, status="RUNNING")
                return known, ""
            tags = {SWEEP: name, PROCESS: own_process(), "mlflow.source.name": "keypipe sweep"}
            run_id = str(client.create_run(experiment, run_name=f"sweep {name}", tags=tags).info.run_id)
            for key, value in params.items():
                client.log_param(run_id, key, value[:6000])
            return run_id, ""
    except (PoseError, OSError) as error:
        return "", first_line(error)


def _is_there(client: object, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")  # type: ignore[attr-defined]
    except MlflowException:
        return False


def try_note(root: Path, run_id: str, metrics: Mapping[str, float], step: int, description: str) -> str:
    """Record how a sweep stands; returns why it could not be, else "".

    Args:
        root: the workspace.
        run_id: of the sweep; "": nothing is recorded.
        metrics: figures.
        step: number of trials that have ended.
        description: in Markdown, of the run.
    """
    if not run_id:
        return ""
    try:
        with answering(root):
            client = open_client(root)
            for key, value in metrics.items():
                client.log_metric(run_id, key, value, step=step)
            client.set_tag(run_id, _CONTENT, description)
    except (PoseError, OSError) as error:
        return first_line(error)
    return ""


def try_end(root: Path, run_id: str, status: str) -> str:
    """End the run of a sweep as FINISHED, FAILED or KILLED; returns why it could not be, else ""."""
    if not run_id:
        return ""
    try:
        with answering(root):
            open_client(root).set_terminated(run_id, status)
    except (PoseError, OSError) as error:
        return first_line(error)
    return ""
