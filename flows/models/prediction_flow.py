"""The prediction flow: ``keypipe predict`` as a run that Prefect records and can start.

Prefect reads its settings when it is imported: call ``flows.services.server.configure`` before this module is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Failed

from flows.models.prediction import USUAL, Wish, predict_in_workspace
from flows.pipeline.lease import RunCancelled
from flows.services import server
from flows.services.presence import Presence, Unsettled, is_cut_off, note_end, tell_ends, watched
from keypipe.batch import prediction as batch
from keypipe.errors import PoseError
from tasks.progress import tell_in_lines

FLOW_NAME = "keypipe-prediction"


def flow_run_name() -> str:
    """Return the name of the run: what it predicts on."""
    return f"prediction {flow_run.parameters['source']}"


@flow(name=FLOW_NAME, flow_run_name=flow_run_name, persist_result=False)
def prediction_flow(root: str, source: str, wish: dict[str, Any] | None = None) -> Any:
    """Predict on files; see ``flows.models.prediction.predict_main``.

    Args:
        root: the workspace.
        source: what to predict on.
        wish: how; the values of a ``flows.models.prediction.Wish``.

    Returns:
        The summary, or a failed state with the user's error.
    """
    logger = get_run_logger()
    workspace = Path(root)
    outcome: batch.Summary | PoseError
    with watched(flow_run.id, str(get_current_settings().api.url or "")) as presence:
        try:
            tell_ends(workspace)
            progress = _until_cancelled(tell_in_lines("predict", logger.info), presence)
            outcome = predict_in_workspace(workspace, source, msgspec.convert(wish or {}, Wish), progress)
            logger.info("%s", outcome)
            batch.raise_for_faults(outcome)
        except PoseError as error:
            # Returned, not raised: Prefect would log a traceback where one clear message is due.
            logger.error("%s", error)
            outcome = error
        except RunCancelled as error:
            return Cancelled(message=str(error))
        message = str(outcome).splitlines()[0] if isinstance(outcome, PoseError) else ""
        if presence.leave():
            state = "FAILED" if message else "COMPLETED"
            note_end(workspace, Unsettled(str(flow_run.id), state, message))
    _ended[:] = [Ended(outcome, presence.describe())]
    return Failed(message=message, data=outcome) if message else outcome


class Ended(NamedTuple):
    """What a run came to, and what its server was not told of it."""

    outcome: batch.Summary | PoseError
    unrecorded: list[str]


_ended: list[Ended] = []
"""The last run of this process, for who cannot ask its server."""


def _until_cancelled(progress: batch.Progress, presence: Presence) -> batch.Progress:
    """Stop a prediction that was cancelled in Prefect, which itself tells only runs that a runner has started."""

    def tell(*arguments: Any) -> None:
        if presence.cancelled:
            raise RunCancelled("the run was cancelled in Prefect")
        progress(*arguments)

    return tell


def run_prediction(root: Path, source: str, wish: Wish = USUAL) -> batch.Summary:
    """Run the flow in this process, with a Prefect server; see ``flows.models.prediction.predict_main``.

    A server that goes away meanwhile stops nothing; a later run tells it how this one ended.
    """
    with server.connected(root, print):
        try:
            state: Any = prediction_flow(str(root), source, msgspec.to_builtins(wish), return_state=True)
        except Exception:
            if not is_cut_off():
                raise
        else:
            server.settle(state.state_details.flow_run_id)
            state.result()
    (ended,) = _ended
    for line in ended.unrecorded:
        click.echo(f"not recorded: {line}", err=True)
    if isinstance(ended.outcome, PoseError):
        raise ended.outcome
    return ended.outcome
