"""What became of the last look for drift, for whoever started it, for a retraining, and for the next look."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from flows.system.state_files import read_record, write_record
from tasks.workspace.places import STATE

LAST_DRIFT = STATE / "last-drift.json"

Kind = Literal["steady", "images differ", "drift", "cannot tell", "failed"]


class DriftOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a look for drift came to.

    Attributes:
        kind: in a word or two; ``drift`` alone is an alarm.
        headline: what came of it, a sentence.
        workspace: name of the registered model.
        model: which model was looked at, such as ``v3 of cows``.
        version: its number; "" of an export that is not registered.
        since: where the window begins, ISO 8601.
        until: where it ends.
        images: of the window.
        units: of the window: videos, groups, hours, or images that stand alone.
        differences: titles of what clearly differs.
        expected_close: share of the shown keypoints that is to be expected close; None: it cannot be said.
        expected_low: its lower bound.
        expected_high: its upper bound.
        why_not: why it cannot be said.
        validation_close: the same on the validation side, measured.
        separable: how well images can be told from the validation side's, 0.5 to 1.
        report: path of the page, relative to the workspace; "" without one.
        finished: when, ISO 8601 with offset.
        flow_run: name of the Prefect run.
        run_url: its page; "" where nobody serves it.
        mlflow_run: id of the MLflow run that holds figures and page; "" without one.
        remarks: what else is to be known.
    """

    kind: Kind
    headline: str
    workspace: str = ""
    model: str = ""
    version: str = ""
    since: str = ""
    until: str = ""
    images: int = 0
    units: int = 0
    differences: tuple[str, ...] = ()
    expected_close: float | None = None
    expected_low: float | None = None
    expected_high: float | None = None
    why_not: tuple[str, ...] = ()
    validation_close: float | None = None
    separable: float | None = None
    report: str = ""
    finished: str = ""
    flow_run: str = ""
    run_url: str = ""
    mlflow_run: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def alarm(self) -> bool:
        """Whether somebody should look."""
        return self.kind == "drift"


def write_outcome(root: Path, outcome: DriftOutcome) -> None:
    """Write down what a look came to."""
    write_record(root / LAST_DRIFT, outcome)


def read_outcome(root: Path) -> DriftOutcome | None:
    """Return what the last look came to; None where nobody has looked."""
    return read_record(root / LAST_DRIFT, DriftOutcome)


def reason_to_retrain(root: Path, champion: str) -> str:
    """Return why the last look is a reason to train anew; "" where it is none.

    Args:
        root: the workspace.
        champion: number of the version in use; what was seen of another one says nothing of it.
    """
    last = read_outcome(root)
    if last is None or not last.alarm or last.version != champion:
        return ""
    return f"drift was found on {last.finished[:10]}: {last.headline}"
