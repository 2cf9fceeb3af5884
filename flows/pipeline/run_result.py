"""What became of a run and its stages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from tasks.workspace.places import RECORD, REPORT_JSON, STATE, report_folder

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


def flow_run_name() -> str:
    """Return the name of a run that starts now."""
    return f"training {datetime.now():%Y-%m-%d %H:%M:%S}"


def time_now() -> str:
    """Return the time as a result has it: ISO 8601 with offset, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def read_headline(root: Path, stage: str) -> str:
    """Return the one figure that a stage has written about itself, or nothing."""
    path = root / (RECORD if stage == "train" else report_folder(stage) / REPORT_JSON)
    try:
        report = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return ""
    return str(report.get("headline", "")) if isinstance(report, dict) else ""


def summarise(stages: Sequence[StageResult]) -> str:
    """Return how many stages ran, such as ``1 ran, 4 cached``."""
    states = [result.state for result in stages]
    return ", ".join(f"{states.count(name)} {name.lower()}" for name in dict.fromkeys(states)) or "nothing to do"
