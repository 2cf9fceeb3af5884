"""What became of a retraining, as it is told: in Prefect, by a notification, on the page and by ``keypipe status``."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["promoted", "rejected", "undecided", "skipped", "failed", "approval wanted"]


class RuleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the gate, as a table shows it.

    Attributes:
        rule: its name, such as ``oks_AP against the champion``.
        champion: the figure that it is compared with, or the limit; None: there is none.
        challenger: the challenger's figure; None: not measured.
        interval: bounds of the difference; None where nothing is drawn.
        verdict: ``passed``, ``failed``, ``undecided`` or ``veto``.
    """

    rule: str
    champion: float | None = None
    challenger: float | None = None
    interval: tuple[float, float] | None = None
    verdict: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a retraining.

    Attributes:
        kind: in a word or two.
        title: a line, such as a mail's subject.
        reason: why, as a sentence; several lines where several things are wrong.
        rows: every rule of the gate; none where nothing was compared.
        model: the registered model's name; "" where nothing was registered.
        version: the challenger's number there, such as ``4``; "" where nothing was registered.
        champion: number of the version in use afterwards; "" where none is.
        run_url: address of the run on Prefect's or MLflow's pages; "" where nobody serves them.
        report: path of the page, relative to the workspace; "" without one.
        workspace: its folder.
        finished: when, ISO 8601 with offset.
        flow_run: name of the Prefect run.
        training: id of the MLflow run of the training; "" where nothing was trained.
        remarks: what else is to be known, such as a push that failed; sentences.
        exit_code: 0, 1 for a bug or a crash, 2 for a fault of the input.
    """

    kind: Kind
    title: str
    reason: str
    rows: tuple[RuleRow, ...] = ()
    model: str = ""
    version: str = ""
    champion: str = ""
    run_url: str = ""
    report: str = ""
    workspace: str = ""
    finished: str = ""
    flow_run: str = ""
    training: str = ""
    remarks: tuple[str, ...] = ()
    exit_code: int = 0
