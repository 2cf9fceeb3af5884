"""The prediction flow: ``keypipe predict`` as a run that Prefect records and can start.

Prefect reads its settings when it is imported: call ``flows.services.server.configure`` before this module is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.commands.prediction import predict_in_workspace
from flows.services import server
from keypipe.batch import prediction as batch
from keypipe.errors import PoseError

FLOW_NAME = "keypipe-prediction"


def flow_run_name() -> str:
    """Return the name of the run: what it predicts on."""
    return f"prediction {flow_run.parameters['source']}"


@flow(name=FLOW_NAME, flow_run_name=flow_run_name, persist_result=False)
def prediction_flow(
    root: str,
    source: str,
    model: str | None = None,
    output: str | None = None,
    *,
    conf: float = 0.25,
    keypoint_conf: float = 0.5,
    device: str | None = None,
) -> Any:
    """Predict on files; see ``flows.commands.prediction.predict_main``.

    Args:
        root: the workspace.
        source: an image, a folder, a pattern or a video.
        model: an ONNX file or a checkpoint; None takes the workspace's.
        output: folder of the results; None makes a new one.
        conf: smallest score of an object.
        keypoint_conf: smallest confidence of a keypoint that is drawn.
        device: such as ``cpu`` or ``cuda:0``.

    Returns:
        The summary, or a failed state with the user's error.
    """
    logger = get_run_logger()
    try:
        summary = predict_in_workspace(
            Path(root),
            source,
            model,
            output,
            conf=conf,
            keypoint_conf=keypoint_conf,
            device=device,
            say=logger.info,
        )
        logger.info("%s", summary)
        batch.raise_for_faults(summary)
    except PoseError as error:
        # Returned, not raised: Prefect would log a traceback where one clear message is due.
        logger.error("%s", error)
        return Failed(message=str(error).splitlines()[0], data=error)
    return summary


def run_prediction(
    root: Path,
    source: str,
    model: str | None = None,
    output: str | None = None,
    *,
    conf: float = 0.25,
    keypoint_conf: float = 0.5,
    device: str | None = None,
) -> batch.Summary:
    """Run the flow in this process, with a Prefect server; see ``flows.commands.prediction.predict_main``."""
    with server.connected(root, print):
        state: Any = prediction_flow(
            str(root), source, model, output, conf=conf, keypoint_conf=keypoint_conf, device=device, return_state=True
        )
        server.settle(state.state_details.flow_run_id)
        summary: batch.Summary = state.result()
        return summary
