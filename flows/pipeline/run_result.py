"""What became of a run and its stages."""

from __future__ import annotations

import msgspec

from tasks.workspace.places import STATE

LAST_RUN = STATE / "last-run.json"


class StageResult(msgspec.Struct):
    """What became of one stage in a run.

    Attributes:
        stage: its name.
        state: Ran, Cached, Restored, Failed or Skipped.
        seconds: how long it took.
        headline: its one figure, as the stage wrote it.
    """

    stage: str
    state: str
    seconds: float = 0.0
    headline: str = ""


class RunResult(msgspec.Struct):
    """What became of a run; kept in ``.keypipe/last-run.json``.

    Attributes:
        name: of the flow run.
        flow_run_id: Prefect's id of it.
        finished: when, ISO 8601 with offset.
        state: Completed, Failed, Cancelled or Superseded.
        stages: every stage that was asked for, in order.
        raw_version: DVC's name for the annotations that the run saw.
        training: id of the MLflow run of its training; empty where it ended before one.
        message: what went wrong.
        unrecorded: what MLflow or Prefect was not told of it, one line each.
        exit_code: 0, 1 for a bug or a crash, 2 for a fault of the input.
    """

    name: str
    flow_run_id: str
    finished: str
    state: str = "Completed"
    stages: list[StageResult] = []
    raw_version: str = ""
    training: str = ""
    message: str = ""
    unrecorded: list[str] = []
    exit_code: int = 0
