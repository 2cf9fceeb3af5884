"""The prediction flow: ``keypipe predict`` as a run that Prefect records and can start.

Prefect reads its settings when it is imported: call ``flows.services.server.configure`` before this module is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.commands.prediction import USUAL, Wish, predict_in_workspace
from flows.services import server
from keypipe.batch import prediction as batch
from keypipe.errors import PoseError
from tasks.progress import tell_in_lines

FLOW_NAME = "keypipe-prediction"


def flow_run_name() -> str:
    """Return the name of the run: what it predicts on."""
    return f"prediction {flow_run.parameters['source']}"


@flow(name=FLOW_NAME, flow_run_name=flow_run_name, persist_result=False)
def prediction_flow(root: str, source: str, wish: dict[str, Any] | None = None) -> Any:
    """Predict on files; see ``flows.commands.prediction.predict_main``.

    Args:
        root: the workspace.
        source: what to predict on.
        wish: how; the values of a ``flows.commands.prediction.Wish``.

    Returns:
        The summary, or a failed state with the user's error.
    """
    logger = get_run_logger()
    try:
        progress = tell_in_lines("predict", logger.info)
        summary = predict_in_workspace(Path(root), source, msgspec.convert(wish or {}, Wish), progress)
        logger.info("%s", summary)
        batch.raise_for_faults(summary)
    except PoseError as error:
        # Returned, not raised: Prefect would log a traceback where one clear message is due.
        logger.error("%s", error)
        return Failed(message=str(error).splitlines()[0], data=error)
    return summary


def run_prediction(root: Path, source: str, wish: Wish = USUAL) -> batch.Summary:
    """Run the flow in this process, with a Prefect server; see ``flows.commands.prediction.predict_main``."""
    with server.connected(root, print):
        state: Any = prediction_flow(str(root), source, msgspec.to_builtins(wish), return_state=True)
        server.settle(state.state_details.flow_run_id)
        summary: batch.Summary = state.result()
        return summary
