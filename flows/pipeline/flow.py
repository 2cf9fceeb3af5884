"""The training flow: raw data versioned, then every stage in the order of ``dvc.yaml``."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from prefect import flow, get_run_logger, task
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Completed, Failed

from flows.pipeline import lease, provenance
from flows.pipeline.plan import check_start
from flows.pipeline.run_result import (
    LAST_RUN,
    RunResult,
    StageResult,
    flow_run_name,
    read_headline,
    summarise,
    time_now,
)
from flows.pipeline.stages import task as stage_task
from flows.pipeline.stages.shown import show_pictures, show_results, show_training
from flows.services.board import Board, opened
from flows.services.late_runs import SUPERSEDED_NAME, due_filter, read_last_ended
from flows.services.presence import Presence, Unsettled, is_cut_off, note_end, tell_ends, watched
from flows.system.state_files import read_record, write_record
from keypipe.addresses import hide_password
from keypipe.errors import PoseError
from tasks.progress import tell_in_lines
from tasks.retraining.settings import read_settings
from tasks.tracking.client import first_line
from tasks.tracking.outbox import describe_waiting
from tasks.versions.raw import RawVersion, version_raw
from tasks.workspace.places import RAW
from tasks.workspace.program import USER_ERROR

FLOW_NAME = "keypipe-training"
RAW_TASK = "version raw data"
BUG = 1


@task(name=RAW_TASK, task_run_name=RAW_TASK)
def version_raw_data(root: str) -> RawVersion:
    """Version ``data/raw`` and return DVC's name for its content."""
    log = get_run_logger()
    version = stage_task.while_busy(lambda: version_raw(Path(root), tell_in_lines(str(RAW), log.info)))
    what = "a new version" if version.changed else "unchanged"
    log.info("%s: %s, %d files, %s", RAW, what, version.files, version.md5)
    return version


@flow(name=FLOW_NAME, flow_run_name=flow_run_name, validate_parameters=False)
def training_flow(root: str, until: str | None = None, force: Sequence[str] = ()) -> Any:
    """Bring the pipeline up to date.

    Args:
        root: the workspace.
        until: the last stage to run; default: all of them.
        force: stages to run even when nothing changed.

    Returns:
        A state whose data is a ``RunResult`` as plain JSON values.
    """
    workspace = Path(root).resolve()
    run = _new_result()
    # What Prefect and DVC have imported stays; looking at it again and again takes longer than walking the raw data.
    gc.freeze()
    with watched(run.flow_run_id or None, _api_url()) as presence, opened() as board:
        try:
            if not _run(workspace, until, force, run, presence, board):
                return Cancelled(name=SUPERSEDED_NAME, message="a later run of the same schedule is due")
        except PoseError as error:
            run.state, run.message, run.exit_code = "Failed", str(error), USER_ERROR
        except lease.RunCancelled as error:
            run.state, run.message, run.exit_code = "Cancelled", str(error), BUG
        left = presence.leave()
        if left:
            board.give_up()
        if left and run.flow_run_id:
            note_end(workspace, Unsettled(run.flow_run_id, run.state.upper(), run.message))
        run.finished = time_now()
        run.unrecorded = [*describe_waiting(workspace), *presence.describe()]
        write_record(workspace / LAST_RUN, run)
    return _to_state(run)


def run_to_state(root: Path, run: Callable[[], Any]) -> Any:
    """Run the training flow.

    Args:
        root: the workspace.
        run: runs it; returns its state.

    Returns:
        The flow's state; of one that ended without its server, what its record says, which Prefect does not know.
    """
    before = read_record(root / LAST_RUN, RunResult)
    try:
        return run()
    except Exception as error:
        if is_cut_off() and isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None  # what the engine could not tell is no reason for the end
        found = read_record(root / LAST_RUN, RunResult)
        if not is_cut_off() or found is None or found == before:  # an earlier run's says nothing of this one
            raise
        return _to_state(found)


def _run(root: Path, until: str | None, force: Sequence[str], run: RunResult, presence: Presence, board: Board) -> bool:
    """Version the raw data and go through the stages, holding the workspace; False where a later run is due instead."""
    with _holding(root, run, get_run_logger().info) as held:
        if is_superseded():
            return False
        plan = check_start(root, until, force)
        provenance.deliver_records(root)
        tell_ends(root)
        versioned: Any = version_raw_data(str(root), return_state=True)
        raw: RawVersion = versioned.result()
        run.raw_version = raw.md5
        files = provenance.read_files(root) if "train" in plan else None
        with stage_task.keeping_lease(held, presence, board):
            _run_stages(root, plan, set(force), raw, run, held, versioned)
        _show(root, run, board)
        provenance.keep_snapshot(root, run, files)
    return True


def _show(root: Path, run: RunResult, board: Board) -> None:
    """Show what came of the run on its page; whatever keeps that from being done, the run has its results."""
    try:
        done = {result.stage: result for result in run.stages if result.state != "Failed"}
        if "validate" in done:
            show_results(root, board, done["validate"].headline)
            pictures = read_settings(root).pictures
            show_pictures(root, board, pictures.in_prefect(_api_url()), pictures.keep_days)
        if run.training:
            show_training(root, board, run.training)
    except Exception as error:  # noqa: BLE001
        get_run_logger().warning("the run's page does not show all of its results: %s", first_line(error))


def _to_state(run: RunResult) -> Any:
    data = msgspec.to_builtins(run)
    if run.state == "Completed":
        return Completed(message=summarise(run.stages), data=data)
    if run.state == "Cancelled":
        return Cancelled(message=run.message, data=data)
    return Failed(message=run.message, data=data)


def _run_stages(
    root: Path, plan: list[str], force: set[str], raw: RawVersion, run: RunResult, held: lease.Held, state: Any
) -> None:
    """Run the stages in order, each after the state of the one before; after one that fails the rest is skipped."""
    for position, stage in enumerate(plan):
        started = time.monotonic()
        held.record(stage, "Running")
        state = stage_task.stage_state(root, stage, force=stage in force, raw=raw, after=state)
        result = StageResult(stage, _result_name(state), time.monotonic() - started)
        run.stages.append(result)
        held.record(stage, result.state)
        if result.state == "Failed":
            run.stages += [StageResult(name, "Skipped") for name in plan[position + 1 :]]
            run.state, run.message, run.exit_code = "Failed", *_explain(state)
            return
        held.update()
        result.headline = read_headline(root, stage)
        if stage == "train":
            run.training = provenance.record_training(root)


def _result_name(state: Any) -> str:
    if not state.is_completed():
        return "Failed"
    return str(state.name) if state.name in {"Cached", "Restored"} else "Ran"


def _explain(state: Any) -> tuple[str, int]:
    """Return the message of a failed task and the exit code it stands for."""
    error = state.result(raise_on_failure=False)
    return str(error) or str(state.message), USER_ERROR if isinstance(error, PoseError) else BUG


def is_superseded() -> bool:
    """Tell whether this run was scheduled and a later one of the same schedule is due as well.

    After a long training, or a long wait, the last of the runs that fell due meanwhile does the work of all. Where the
    run before has stepped back already, this one does not.
    """
    from prefect.client.orchestration import get_client

    context = FlowRunContext.get()
    flow_run = context.flow_run if context else None
    if flow_run is None or flow_run.deployment_id is None or not flow_run.auto_scheduled or is_cut_off():
        return False
    with get_client(sync_client=True) as client:
        if not client.read_flow_runs(flow_run_filter=due_filter(flow_run.deployment_id), limit=1):
            return False
        last = read_last_ended(client, flow_run.deployment_id)
        # Where times lie closer together than a process takes to start, all would step back, and nothing ever run.
        return last is None or last.state_name != SUPERSEDED_NAME


@contextmanager
def _holding(root: Path, run: RunResult, say: lease.Say) -> Iterator[lease.Held]:
    own = lease.new_lease(run.flow_run_id, run.name, hide_password(_api_url()))
    with lease.hold(root, own, say) as held:
        yield held


def _api_url() -> str:
    from prefect.settings import get_current_settings

    return str(get_current_settings().api.url or "")


def _new_result() -> RunResult:
    context = FlowRunContext.get()
    # Without its server a training is no run of its own: what is there is that of the retraining.
    flow_run = context.flow_run if context and not is_cut_off() else None
    return RunResult(str(flow_run.name) if flow_run else "", str(flow_run.id) if flow_run else "", time_now())
