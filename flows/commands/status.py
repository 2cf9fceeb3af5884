"""What ``keypipe status`` tells, also while a training runs, when DVC itself would only say that it is busy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from ruamel.yaml.comments import CommentedMap

from flows.models.standing import InUse, describe_in_use, read_in_use, read_power
from flows.notifications.record import TOLD, Told
from flows.outcome import Outcome
from flows.pipeline import lease
from flows.pipeline.run_result import LAST_RUN, RunResult
from flows.pipeline.unchanged.afterwards import describe_untold
from flows.retraining.record import read_outcome
from flows.services import server
from flows.services.background import Background, describe, find_background
from flows.services.schedule_record import ScheduleRecord, active_schedule, upcoming
from flows.system.signs import is_recent
from flows.system.state_files import read_record
from flows.system.tables import print_table
from keypipe.errors import PoseError
from keypipe.splits.power import Power
from tasks.tracking.outbox import describe_waiting
from tasks.versions.raw import raw_changes, raw_version
from tasks.versions.repository import BusyError
from tasks.versions.stages.acceptance import find_differences, is_code, only_code_changed
from tasks.versions.stages.state import StageVersion, stage_names, stage_versions
from tasks.workspace.changes import schema_changes
from tasks.workspace.params import load_schema, read_params
from tasks.workspace.places import STATE

if TYPE_CHECKING:
    from rich.console import Console

PROGRESS = STATE / "progress.json"


class Progress(msgspec.Struct):
    """How far a stage is; written by the stage itself.

    Attributes:
        stage: its name.
        done: units done.
        total: units in all.
        unit: such as ``epoch``.
    """

    stage: str
    done: int
    total: int
    unit: str = ""


class StageStatus(msgspec.Struct):
    """One stage.

    Attributes:
        stage: its name.
        state: ``up to date``, ``stale``, ``missing`` (not run yet, or outputs gone), ``running``, ``waiting`` (for
            its turn in the run that is going on) or ``unknown``.
        detail: what changed, or how far it is.
    """

    stage: str
    state: str
    detail: str = ""


class Status(msgspec.Struct):
    """The workspace as it is now.

    Attributes:
        workspace: its folder.
        stages: in order.
        raw_version: DVC's name for the last version of ``data/raw``.
        raw_changes: what changed in it since.
        schema_changes: what changed in the schema since the pipeline last ran, and what that makes stale.
        running: the run that holds the workspace.
        killed: a run that was killed holding it, or stopped by somebody; the next one clears up after it.
        last_run: the last run that ended.
        last_retraining: what became of the last retraining.
        unrecorded: what MLflow and Prefect were not told yet, one line for each server.
        server: address of the Prefect server that serves this workspace.
        background: what `keypipe up` keeps.
        schedule: the schedule that is being served.
        upcoming: the next times that it runs.
        told: the last notice, and whom it reached.
        in_use: the registered model, and which version of it is in use; None where nothing was registered.
        power: which difference of two models the test split can decide; None before split has run.
    """

    workspace: str
    stages: list[StageStatus]
    raw_version: str | None
    raw_changes: str
    schema_changes: list[str] = []
    running: lease.Lease | None = None
    killed: lease.Lease | None = None
    last_run: RunResult | None = None
    last_retraining: Outcome | None = None
    unrecorded: list[str] = []
    server: str | None = None
    background: Background | None = None
    schedule: ScheduleRecord | None = None
    upcoming: list[str] = []
    told: Told | None = None
    in_use: InUse | None = None
    power: Power | None = None


def read_status(root: Path) -> Status:
    """Return the status of a workspace; takes no lock for longer than DVC needs to hash."""
    held, locked = lease.read_lease(root), lease.is_locked(root)
    lives = held is not None and (is_recent(root / lease.LEASE) if held.foreign else locked and held.alive)
    running = held if lives else None
    killed = held if held is not None and not lives and (held.foreign or not (locked or held.alive)) else None
    record = server.recorded_server(root)
    document = _read_document(root)
    return Status(
        workspace=str(root),
        stages=_running_stages(root, running) if running else _resting_stages(root),
        raw_version=raw_version(root),
        raw_changes=_raw_changes(root),
        schema_changes=_schema_changes(root, document),
        running=running,
        killed=killed,
        last_run=read_record(root / LAST_RUN, RunResult),
        last_retraining=read_outcome(root),
        unrecorded=[*describe_waiting(root), *describe_untold(root)],
        server=record.url if record else None,
        background=find_background(root),
        schedule=active_schedule(root),
        upcoming=upcoming(root),
        told=read_record(root / TOLD, Told),
        in_use=read_in_use(root, document),
        power=read_power(root, document),
    )


def _running_stages(root: Path, running: lease.Lease) -> list[StageStatus]:
    progress = read_record(root / PROGRESS, Progress)
    stages: list[StageStatus] = []
    for stage in stage_names(root):
        state = running.stages.get(stage)
        if state == "Running":
            known = progress is not None and progress.stage == stage
            detail = f"{progress.unit} {progress.done} of {progress.total}".strip() if progress and known else ""
            stages.append(StageStatus(stage, "running", detail))
        elif state is None:
            stages.append(StageStatus(stage, "waiting"))
        else:
            stages.append(StageStatus(stage, "failed" if state == "Failed" else "up to date", state.lower()))
    return stages


def _resting_stages(root: Path) -> list[StageStatus]:
    try:
        found = stage_versions(root)
    except BusyError:
        return [StageStatus(stage, "unknown", "another DVC command is at work") for stage in stage_names(root)]
    stages: list[StageStatus] = []
    stale: str | None = None
    for stage, version in found.items():
        status = _describe(root, stage, version)
        if status.state == "up to date" and stale is not None:
            status = StageStatus(stage, "up to date", f"unless {stale} comes out differently")
        elif stale is None and status.state != "up to date":
            stale = stage
        stages.append(status)
    return stages


def _describe(root: Path, stage: str, version: StageVersion) -> StageStatus:
    if version.clean:
        return StageStatus(stage, "up to date")
    if not version.known:
        return StageStatus(stage, "missing", "not run yet")
    state = "missing" if version.missing else "stale"
    code = _changed_code(root, stage, version)
    if code:
        detail = f"only keypipe's own code changed: {', '.join(code)}; `keypipe accept` keeps the outputs"
        return StageStatus(stage, "stale", detail)
    return StageStatus(stage, state, "; ".join(version.changes))


def _changed_code(root: Path, stage: str, version: StageVersion) -> Sequence[str]:
    """Return the code that changed, where nothing else did; a parameter that holds its new default is none."""
    if not any(is_code(change.partition(": ")[2]) for change in version.changes):
        return ()
    if code := only_code_changed(version.changes):
        return code
    from tasks.commands.accept import same_param

    found = find_differences(root, stage, same_param)
    return found.code if found.only_code else ()


def _raw_changes(root: Path) -> str:
    try:
        changes = raw_changes(root)
    except PoseError as error:
        return str(error)
    if changes is None:
        return "not versioned yet"
    named = [f"{count} {name}" for count, name in zip(changes, ("new", "changed", "deleted"), strict=True) if count]
    return ", ".join(named) or "unchanged"


def _read_document(root: Path) -> CommentedMap | None:
    """Read ``params.yaml`` once for all who ask, since it takes long; None where each of them says what is wrong."""
    try:
        return read_params(root)
    except PoseError:
        return None


def _schema_changes(root: Path, document: CommentedMap | None) -> list[str]:
    try:
        return schema_changes(root, load_schema(document) if document else None)
    except PoseError as error:
        return str(error).splitlines()


def show_status(status: Status) -> None:
    """Print a status as a table and a few lines."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    rows: list[list[str]] = []
    colours = {"up to date": "green", "running": "cyan", "failed": "red"}
    for stage in status.stages:
        colour = colours.get(stage.state, "yellow")
        rows.append([stage.stage, f"[{colour}]{stage.state}[/]", escape(stage.detail)])
    print_table(console, ("stage", "state", "detail"), rows)
    version = f"version {status.raw_version[:8]}, " if status.raw_version else ""
    console.print(f"raw data   {version}{status.raw_changes}")
    for number, change in enumerate(status.schema_changes):
        console.print(f"{'' if number else 'schema':<11}{change}", markup=False)
    if status.running:
        console.print(f"running    {status.running.describe()}")
    if status.killed:
        place = f", in {status.killed.stage}" if status.killed.stage else ""
        stopped = f" {status.killed.stopped}" if status.killed.stopped else ""
        head = "stopped" if stopped else "killed"
        console.print(f"{head:<10} {status.killed.describe()}{stopped}{place}", markup=False, soft_wrap=True)
        console.print("           the next `keypipe run` clears up after it; a training goes on where it was stopped")
    if status.last_run:
        last = status.last_run
        console.print(f"last run   {last.state.lower()}, {datetime.fromisoformat(last.finished):%Y-%m-%d %H:%M}")
        if last.message:
            console.print(f"           {last.message.splitlines()[0]}", markup=False)
    _show_models(console, status)
    for line in status.unrecorded:
        console.print(f"unrecorded {line}", markup=False)
    _show_services(console, status)


def _show_services(console: Console, status: Status) -> None:
    """Print who was not told of the last retraining, and what is being served."""
    for delivery in status.told.deliveries if status.told else ():
        if not delivery.arrived:
            console.print(f"told       {delivery.describe()}", markup=False)
    if status.background is None or not status.background.alive:
        console.print(f"server     {status.server or 'none; `keypipe up` starts one'}")
    for heading, line in describe(status.background) if status.background else ():
        console.print(f"{heading:<11}{line}", markup=False, soft_wrap=True)
    if status.schedule:
        console.print(f"schedule   {status.schedule.describe()}", markup=False)
        if status.upcoming:
            console.print(f"           next: {', '.join(status.upcoming)}", markup=False)
    else:
        console.print('schedule   none; `keypipe schedule --cron "0 3 * * *"` retrains every night')


def _show_models(console: Console, status: Status) -> None:
    if status.power:
        console.print(f"gate       {status.power.text}", markup=False)
    for heading, line in describe_in_use(status.in_use, status.raw_version) if status.in_use else ():
        console.print(f"{heading:<11}{line}", markup=False)
    if status.last_retraining:
        last = status.last_retraining
        when = datetime.fromisoformat(last.finished)
        console.print(f"retraining {last.kind}, {when:%Y-%m-%d %H:%M}: {last.title}", markup=False)
        console.print(f"           {last.reason.splitlines()[0]}", markup=False)
