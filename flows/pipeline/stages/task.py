"""The Prefect task that runs one stage by reproducing its DVC stage in a process of its own."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import get_run_logger, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.states import Completed
from prefect.utilities.annotations import quote

from flows.pipeline.last_good import last_good_outputs
from flows.pipeline.lease import LEASE_VARIABLE, Held, RunCancelled, end_tracked_runs
from flows.pipeline.stages.process import run_stage_process
from flows.pipeline.stages.shown import progress_teller
from flows.services.board import Board
from flows.services.presence import Presence
from flows.services.server import RESULTS
from flows.system.process import Tree, program_environment
from keypipe.errors import PoseError
from tasks.versions.raw import RawVersion
from tasks.versions.repository import BusyError
from tasks.versions.stages.acceptance import only_code_changed
from tasks.versions.stages.repro import Outcome
from tasks.versions.stages.state import stage_version
from tasks.workspace.places import TRAINING
from tasks.workspace.program import failure_path, read_failure
from tasks.workspace.scratch import remove

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

RETRIES = 2
BUSY_POLL_SECONDS = 2.0


class StageInputError(PoseError):
    """The input of a stage is at fault: running it again would not help."""


class StageError(Exception):
    """A stage ended with an error of its own, which its log shows; running it again would not help."""


class StageCrashError(Exception):
    """A stage's process was ended from outside, as by the system when memory runs out."""


def is_crash(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Retry condition: a crash may not come again, every other failure would."""
    return isinstance(state.data, StageCrashError) or isinstance(getattr(state.data, "result", None), StageCrashError)


def cache_key(_context: Any, inputs: dict[str, Any]) -> str | None:
    """Return the key under which Prefect remembers a stage: workspace, stage and DVC's fingerprint."""
    if inputs["fingerprint"] is None:
        return None
    parts = (str(Path(inputs["root"]).resolve()), inputs["stage"], inputs["fingerprint"])
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def run_stage(
    root: str,
    stage: str,
    fingerprint: str | None,  # noqa: ARG001 - the cache key
    clean: bool,
    force: bool = False,
    raw: RawVersion | None = None,
) -> State[Any]:
    """Bring one stage up to date: nothing, a restore from DVC's cache, or a run.

    Args:
        root: the workspace.
        stage: its name.
        fingerprint: DVC's, over all that the result follows from; the cache key.
        clean: DVC has just been asked, and had nothing to do; asking walks through all raw data.
        force: run it even when nothing changed.
        raw: the raw data, where the run has just versioned them.

    Returns:
        A completed state: ``Cached`` where DVC has nothing to do, ``Restored`` where it brought outputs back without
        running, ``Completed`` after a run.
    """
    workspace = Path(root)
    if clean and not force:
        return Completed(name="Cached", message="up to date; nothing to do", data="Cached")
    with last_good_outputs(workspace, stage):
        did = _reproduce(workspace, stage, force, raw)
    if stage == "train":
        remove(workspace / TRAINING)  # what it needs to go on: dvc.lock has its results
    return {
        "nothing": Completed(name="Cached", message="up to date; nothing to do", data="Cached"),
        "restored": Completed(name="Restored", message="outputs brought back from DVC's cache", data="Restored"),
    }.get(did, Completed(message=f"{stage} ran", data="Ran"))


_run_stage: Any = task(
    cache_policy=CacheKeyFnPolicy(cache_key_fn=cache_key),
    persist_result=True,
    result_serializer="json",
    retries=RETRIES,
    retry_condition_fn=is_crash,
)(run_stage)

_held: Held | None = None
_presence: Presence | None = None
_board: Board | None = None

T = TypeVar("T")


def while_busy(ask: Callable[[], T]) -> T:
    """Ask DVC again and again while another DVC command, such as a ``dvc repro`` by hand, holds what is asked for."""
    told = False
    while True:
        try:
            return ask()
        except BusyError as error:
            if not told:
                get_run_logger().info("waiting: %s", " ".join(str(error).split()))
            told = True
            time.sleep(BUSY_POLL_SECONDS)


@contextmanager
def keeping_lease(held: Held, presence: Presence, board: Board) -> Iterator[None]:
    """Have the stages that run inside the block write themselves into the run's lease, and end when it is cancelled.

    They show on the board how far they are.
    """
    global _held, _presence, _board  # noqa: PLW0603 - a Prefect task has no other way to what is no parameter
    _held, _presence, _board = held, presence, board
    try:
        yield
    finally:
        _held = _presence = _board = None


def stage_state(
    root: Path, stage: str, *, force: bool = False, raw: RawVersion | None = None, after: State[Any] | None = None
) -> State[Any]:
    """Run the Prefect task of a stage, natively cached by DVC's fingerprint, and return its state.

    The key alone would lie over a deleted output and over an edit taken back, so Prefect's cache is offered only
    where ``dvc status`` finds nothing changed.

    Args:
        root: the workspace.
        stage: its name.
        force: run it even when nothing changed.
        raw: the raw data, where the run has just versioned them; otherwise they are looked at.
        after: state of the task before, on which this one hangs in Prefect's graph.
    """
    version = while_busy(lambda: stage_version(root, stage, raw))
    code = only_code_changed(version.changes) if stage == "train" and version.known else []
    if code:
        told = "%s: only keypipe's own code changed (%s); Ctrl-C and `keypipe accept` keep its outputs"
        get_run_logger().warning(told, stage, ", ".join(code))
    return enter_stage(root, stage, version.fingerprint, clean=version.clean, force=force, raw=raw, after=after)


def enter_stage(
    root: Path,
    stage: str,
    fingerprint: str | None,
    *,
    clean: bool,
    force: bool = False,
    raw: RawVersion | None = None,
    after: State[Any] | None = None,
) -> State[Any]:
    """Run the Prefect task of a stage whose version is known; see ``stage_state`` and ``run_stage``."""
    this = _run_stage.with_options(
        name=stage,
        task_run_name=stage,
        description=f"DVC stage `{stage}`: python -m tasks.{stage}",
        refresh_cache=force or not clean,
        result_storage=(root / RESULTS).resolve(),
    )
    # Quoted, the raw data are no edge of the graph, which would be a star.
    given = (str(root), stage, fingerprint, clean, force, quote(raw))
    state: State[Any] = this(*given, return_state=True, wait_for=[after] if after is not None else None)
    return state


def _reproduce(root: Path, stage: str, force: bool, raw: RawVersion | None) -> str:
    """Reproduce the stage in a process of its own; what DVC did, or an exception that says why not."""
    log = get_run_logger()
    failure_path(root, stage).unlink(missing_ok=True)
    outcome = while_busy(lambda: _run_process(root, stage, force, raw, log.info))
    if outcome.did != "failed":
        return outcome.did
    failure = read_failure(root, stage)
    if failure is not None:
        raise StageInputError(f"{failure.stage}: {failure.message}")
    if outcome.status is not None and is_signal(outcome.status):
        if _held is not None:
            end_tracked_runs(root, _held.lease.id, log.warning)
        raise StageCrashError(f"{stage}: its process was ended by {signal_name(outcome.status)}")
    raise StageError(f"{stage}: {outcome.message}; the log above has the details")


def _run_process(root: Path, stage: str, force: bool, raw: RawVersion | None, say: Callable[[str], None]) -> Outcome:
    def started(tree: Tree) -> None:
        if _held is not None:
            _held.update(session=tree.session, stage=stage)

    tell = progress_teller(root, _board) if _board is not None else lambda: None

    def poll() -> None:
        _check_cancelled()
        tell()

    outcome = run_stage_process(root, stage, stage_environment(), say, force=force, raw=raw, started=started, poll=poll)
    if _held is not None:
        _held.update(stage=stage)
    return outcome


def stage_environment() -> dict[str, str]:
    """Return the environment of a stage's process."""
    lease = {LEASE_VARIABLE: _held.lease.id} if _held is not None else {}
    return program_environment() | lease


def is_signal(status: int) -> bool:
    """Tell whether an exit status stands for a signal, straight (-9) or as a shell passes it on (137)."""
    return status < 0 or status > 128


def signal_name(status: int) -> str:
    """Return the name of the signal that an exit status stands for."""
    number = -status if status < 0 else status - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _check_cancelled() -> None:
    """Stop the run where it was cancelled in Prefect."""
    if _presence is not None and _presence.cancelled:
        raise RunCancelled("the run was cancelled in Prefect")
