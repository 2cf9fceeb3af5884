"""What is told when the process of a retraining was killed: by who had started it, since the run itself cannot."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.notifications.delivery import notify
from flows.notifications.notice import from_outcome
from flows.outcome import Outcome
from flows.retraining.record import read_outcome, write_outcome
from keypipe.errors import PoseError
from tasks.registry.settings import model_name
from tasks.retraining.settings import read_notify
from tasks.workspace.places import PARAMS_FILE

log = logging.getLogger("prefect.keypipe")


def tell_crash(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - the names are Prefect's
    """Write down and tell that a run of a schedule has crashed; Prefect calls it.

    One that a person has started ends before their eyes.
    """
    root = Path(flow_run.parameters.get("root", "")).resolve()
    if flow_run.deployment_id is None or not (root / PARAMS_FILE).exists():
        return
    ended = read_outcome(root)
    if ended is not None and ended.flow_run == str(flow_run.name):  # killed while it told people
        return
    try:
        outcome = Outcome(
            kind="failed",
            title="retraining was killed",
            reason=f"{state.message or 'its process is gone'}\nthe next run clears up; a training goes on where it was",
            model=model_name(root),
            workspace=str(root),
            finished=datetime.now().astimezone().isoformat(timespec="seconds"),
            flow_run=str(flow_run.name),
            exit_code=1,
        )
        write_outcome(root, outcome)
        notify(root, read_notify(root), from_outcome(outcome), log.info)
    except (PoseError, OSError) as error:
        log.warning("nobody was told that the run crashed: %s", error)
