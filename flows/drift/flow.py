"""The drift flow: the log's window beside the validation side, a page, figures in MLflow, and people told once.

Prefect reads its settings when it is imported: call ``flows.services.server.configure`` before this module is.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import quote

from flows.drift.record import DriftOutcome, read_outcome, write_outcome
from flows.notifications.delivery import notify
from flows.notifications.notice import Notice
from flows.pipeline.flow import is_superseded
from flows.pipeline.steps import run_page, step
from flows.services.late_runs import SUPERSEDED_NAME
from keypipe.errors import PoseError
from tasks.drift.page import write_page
from tasks.drift.settings import read_drift
from tasks.drift.watch import DAY_S, Watched, check_window, watch
from tasks.progress import tell_in_lines
from tasks.registry.settings import model_name
from tasks.retraining.settings import read_notify
from tasks.tracking.beside.watching import try_record
from tasks.workspace.places import REPORT_HTML, report_folder

FLOW_NAME = "keypipe-drift"
STAGE = "drift"


def flow_run_name() -> str:
    """Return the name of a run that starts now."""
    return f"drift {datetime.now():%Y-%m-%d %H:%M:%S}"


@flow(name=FLOW_NAME, flow_run_name=flow_run_name, validate_parameters=False, persist_result=False)
def drift_flow(root: str, window_s: float | None = None, until: float | None = None, log: str = "") -> Any:
    """Compare what the model in use saw of late with what it was measured on.

    Args:
        root: the workspace.
        window_s: length of the window, seconds; None: ``drift.days``.
        until: where it ends, seconds since the epoch; None: now.
        log: folder of the log; "": the workspace's.

    Returns:
        A state whose name is the outcome's kind, and whose data are a ``DriftOutcome`` as plain JSON values.
    """
    if is_superseded():
        return Cancelled(name=SUPERSEDED_NAME, message="a later run of the same schedule is due")
    workspace = Path(root).resolve()
    end = time.time() if until is None else until
    found = compare(str(workspace), window_s, end, log, return_state=True)
    watched = found.result(raise_on_failure=False)
    if not found.is_completed():
        fault = isinstance(watched, PoseError)
        if not fault and isinstance(watched, BaseException):
            raise watched
        message = str(watched) if fault else str(found.message)
        return to_state(_end(workspace, "failed", message))
    shown = show(str(workspace), quote(watched), log, return_state=True, wait_for=[found])
    page = shown.result()
    recorded = record(str(workspace), quote(watched), return_state=True, wait_for=[shown])
    outcome = _to_outcome(workspace, watched, page, recorded.result())
    before = read_outcome(workspace)
    write_outcome(workspace, outcome)
    if outcome.alarm and not (before and before.alarm and before.version == outcome.version):
        tell(str(workspace), quote(outcome), return_state=True, wait_for=[recorded])
    return to_state(outcome)


def to_state(outcome: DriftOutcome) -> Any:
    """Return the state that a run with this outcome ends in."""
    data = msgspec.to_builtins(outcome)
    if outcome.kind == "failed":
        return Failed(message=outcome.headline, data=data)
    return Completed(name=outcome.kind.capitalize(), message=outcome.headline, data=data)


@step("compare")
def compare(root: str, window_s: float | None, until: float, log: str) -> Any:
    """Compare the window with the validation side."""
    logger = get_run_logger()
    workspace = Path(root)
    params = read_drift(workspace)
    since = until - (params.days * DAY_S if window_s is None else window_s)
    check_window(since, until)
    folder = Path(log) if log else None
    found = watch(workspace, params, since, until, log=folder, progress=tell_in_lines("drift", logger.info))
    logger.info("%d images in %d units: %s", len(found.window.rows), found.comparison.window_units, found.headline)
    return Completed(name=found.kind.capitalize(), message=found.headline, data=found)


@step("write the page")
def show(root: str, watched: Any, log: str) -> Any:
    """Write the page, and a summary for Prefect's."""
    page = write_page(Path(root), watched, Path(log) if log else None)
    try:
        create_markdown_artifact(_to_markdown(watched, page.as_posix()), key=f"drift-{_key(Path(root))}")
    except Exception as error:  # noqa: BLE001 - whatever keeps Prefect from showing it, the page stands
        get_run_logger().warning("Prefect has no summary: %s", type(error).__name__)
    return page.as_posix()


@step("record in MLflow")
def record(root: str, watched: Any) -> Any:
    """Record figures and page beside the training of the model."""
    workspace = Path(root)
    tags = {
        "keypipe.drift": watched.kind,
        "keypipe.drift.headline": watched.headline[:4900],
        "keypipe.drift.model": watched.model,
        "mlflow.note.content": _to_markdown(watched, ""),
    }
    name = f"drift {datetime.fromtimestamp(watched.until, UTC):%Y-%m-%d}"
    run, silent = try_record(
        workspace, watched.run, STAGE, name, to_metrics(watched), tags, workspace / report_folder("drift")
    )
    if silent:
        get_run_logger().warning("MLflow was not told: %s", silent)
        return Completed(name="Not recorded", message=silent, data=("", f"MLflow was not told: {silent}"))
    return Completed(name="Recorded", message=f"run {run}", data=(run, ""))


@step("notify")
def tell(root: str, outcome: DriftOutcome) -> Any:
    """Tell people of an alarm, by the ways that they named; one that fails fails nothing."""
    found = notify(Path(root), read_notify(Path(root)), to_notice(root, outcome), get_run_logger().info)
    arrived = sum(delivery.arrived for delivery in found)
    told = f"told by {arrived} of {len(found)} ways" if found else "nobody is told of this"
    return Completed(name="Told" if arrived else "Nobody told", message=told, data=told)


def to_notice(root: str, outcome: DriftOutcome) -> Notice:
    """Return what people are told of an alarm."""
    lines = [f"{outcome.headline[:1].upper()}{outcome.headline[1:]}."]
    lines.append(f"{outcome.images} images in {outcome.units} units, from {outcome.since} to {outcome.until}.")
    if outcome.expected_close is not None:
        lines.append(
            f"Close keypoints to be expected: {outcome.expected_close:.1%} ({outcome.expected_low:.1%} to"
            f" {outcome.expected_high:.1%}); {outcome.validation_close:.1%} on the validation side."
        )
    elif outcome.why_not:
        lines.append(f"No accuracy can be expected: {'; '.join(outcome.why_not)}.")
    return Notice(
        event="drift",
        title=f"{outcome.model} sees something new",
        reason="\n".join(lines),
        workspace=outcome.workspace,
        model_version=outcome.version or None,
        champion_version=outcome.version or None,
        run_url=outcome.run_url or None,
        report=str(Path(root, outcome.report)) if outcome.report else None,
        todo="Look at the page; label some of the new images and retrain if the model is to know them.",
    )


def to_metrics(watched: Watched) -> dict[str, float]:
    """Return the figures of a window by name."""
    expected, comparison = watched.expected, watched.comparison
    figures: dict[str, float | None] = {
        "drift/alarm": float(watched.kind == "drift"),
        "drift/images": len(watched.window.rows),
        "drift/units": comparison.window_units,
        "drift/differences": len(comparison.clear()),
        "drift/largest_effect": max((abs(found.effect) for found in comparison.differences), default=None),
        "drift/separable": watched.novelty.auc if watched.novelty else None,
        "drift/expected_close": expected.share if expected else None,
        "drift/expected_close_low": expected.low if expected else None,
        "drift/expected_close_high": expected.high if expected else None,
        "drift/validation_close": watched.reliability.observed if watched.reliability else None,
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def _to_outcome(root: Path, watched: Watched, page: str, recorded: tuple[str, str]) -> DriftOutcome:
    expected = watched.expected
    run, remark = recorded
    return _end(
        root,
        watched.kind,
        watched.headline,
        model=watched.model,
        version=watched.version,
        since=_iso(watched.since),
        until=_iso(watched.until),
        images=len(watched.window.rows),
        units=watched.comparison.window_units,
        differences=tuple(dict.fromkeys(found.title for found in watched.comparison.clear())),
        expected_close=expected.share if expected else None,
        expected_low=expected.low if expected else None,
        expected_high=expected.high if expected else None,
        why_not=expected.why_not if expected else ("the validation side has too few labelled keypoints",),
        validation_close=watched.reliability.observed if watched.reliability else None,
        separable=watched.novelty.auc if watched.novelty else None,
        report=page,
        mlflow_run=run,
        remarks=(remark,) if remark else (),
    )


def _end(root: Path, kind: Any, headline: str, **more: Any) -> DriftOutcome:
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return DriftOutcome(
        kind=kind,
        headline=headline,
        workspace=model_name(root),
        finished=datetime.now().astimezone().isoformat(timespec="seconds"),
        flow_run=str(run.name) if run else "",
        run_url=run_page(root, run),
        **more,
    )


def _to_markdown(watched: Watched, page: str) -> str:
    lines = [f"**{watched.kind.capitalize()}**: {watched.headline}.", ""]
    expected = watched.expected
    if expected is not None and expected.share is not None:
        lines.append(
            f"Close keypoints to be expected: {expected.share:.1%} ({expected.low:.1%} to {expected.high:.1%})."
        )
    elif expected is not None:
        lines.append(f"No accuracy can be expected: {'; '.join(expected.why_not)}.")
    clear = watched.comparison.clear()
    if clear:
        lines += ["", "| feature | question | validation | window | effect |", "| --- | --- | ---: | ---: | ---: |"]
        lines += [
            f"| {found.title} | {found.question} | {found.reference:g} | {found.window:g} | {found.effect:+.2f} |"
            for found in clear[:12]
        ]
    if page:
        lines += ["", f"The page: `{Path(page).parent.as_posix()}/{REPORT_HTML}`"]
    return "\n".join(lines)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")


def _key(root: Path) -> str:
    name = model_name(root).lower()
    return "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name).strip("-")
