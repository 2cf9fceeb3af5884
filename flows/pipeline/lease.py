"""One DVC writer for a workspace at a time, and a record of it that the next one clears up after.

A run holds a lock on ``.keypipe/lock``, which the system lets go of when the process ends in whatever way, and
writes itself down in ``.keypipe/lease.json`` (while it waits: in ``.keypipe/waiting/``). Prefect and MLflow learn
nothing of a process that was killed; whoever starts next finds its record and ends what it left behind in both.

Where several machines share the folder, whether a process lives is told by its signs of life: the file system may let
go of a lock late, or know none between machines.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

import msgspec

from flows.system.locks import held_lock, is_held
from flows.system.process import end_marked
from flows.system.signs import giving_signs, is_silent, touch
from flows.system.state_files import read_record, write_record
from keypipe.errors import PoseError
from tasks.tracking.machine import is_alive, start_mark
from tasks.workspace.places import STATE

LEASE_VARIABLE = "KEYPIPE_LEASE"
"""Environment variable that marks every process of a run, and through it every MLflow run."""

LOCK = STATE / "lock"
_PATIENCE = 2
_FOREIGN_NOTE_SECONDS = 3600.0
"""So long after its last sign of life a run of another machine that waited counts as dead."""
LEASE = STATE / "lease.json"
WAITING = STATE / "waiting"

Say = Callable[[str], None]

log = logging.getLogger(__name__)


class RunCancelled(BaseException):
    """The run was cancelled in Prefect; no error, and nothing to retry."""


class Lease(msgspec.Struct):
    """A run that holds the workspace, or waits for it.

    Attributes:
        id: mark of the run; the value of ``KEYPIPE_LEASE`` in its processes.
        host: name of its machine.
        pid: its process.
        started: mark of the start of that process; with the pid its identity.
        since: when the run began, ISO 8601 with offset.
        flow_run_id: of Prefect.
        flow_run_name: of Prefect.
        api_url: the Prefect API that knows it.
        session: session id of the stage's processes while one runs.
        stage: the stage that is running.
        stages: state of each stage so far, in order.
        stopped: who ended it before its end, such as the user; empty as long as nobody has, and after a kill.
    """

    id: str
    host: str
    pid: int
    started: str | float
    since: str
    flow_run_id: str = ""
    flow_run_name: str = ""
    api_url: str = ""
    session: int | None = None
    stage: str | None = None
    stages: dict[str, str] = {}
    stopped: str = ""

    @property
    def foreign(self) -> bool:
        """Whether it is of another machine, or of this one under another name."""
        return self.host != socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether its process still runs; of another machine the record alone does not tell."""
        return self.foreign or is_alive(self.pid, self.started)

    def describe(self) -> str:
        """Return who holds the workspace, for a message."""
        name = f"run {self.flow_run_name}" if self.flow_run_name else "another run"
        place = f" on {self.host}" if self.foreign else ""
        since = datetime.fromisoformat(self.since).astimezone()
        date = "" if since.date() == datetime.now().astimezone().date() else f"{since:%Y-%m-%d} "
        return f"{name}{place}, pid {self.pid} since {date}{since:%H:%M}"


class Held:
    """The lease of this process, kept up to date as the run goes on."""

    def __init__(self, root: Path, lease: Lease) -> None:
        self.root = root
        self.lease = lease

    def update(self, *, session: int | None = None, stage: str | None = None) -> None:
        """Write down the stage that runs and its processes."""
        self.lease.session = session
        self.lease.stage = stage
        write_record(self.root / LEASE, self.lease)

    def stop(self, why: str) -> None:
        """Write down that somebody ends the run, for whoever asks what became of it."""
        self.lease.stopped = why
        write_record(self.root / LEASE, self.lease)

    def record(self, stage: str, state: str) -> None:
        """Write down the state of one stage."""
        self.lease.stages[stage] = state
        write_record(self.root / LEASE, self.lease)


def new_lease(flow_run_id: str = "", flow_run_name: str = "", api_url: str = "") -> Lease:
    """Return a lease for this process."""
    return Lease(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=start_mark(os.getpid()) or time.time(),
        since=datetime.now().astimezone().isoformat(timespec="seconds"),
        flow_run_id=flow_run_id,
        flow_run_name=flow_run_name,
        api_url=api_url,
    )


def read_lease(root: Path) -> Lease | None:
    """Return the lease of the run that holds the workspace, or of one that died holding it."""
    return read_record(root / LEASE, Lease)


@contextmanager
def hold(root: Path, lease: Lease, say: Say, poll: Callable[[], None] = lambda: None) -> Iterator[Held]:
    """Hold the workspace, after waiting for its turn and clearing up after runs that died.

    Args:
        root: the workspace.
        lease: of this process.
        say: gets messages for the user.
        poll: called about once a second while waiting; may raise to give up.

    Yields:
        The lease, to be updated as the run goes on.
    """
    note = root / WAITING / f"{lease.id}.json"
    write_record(note, lease)
    with ExitStack() as stack:
        tell = _tell_who_holds(root, say, poll, note)
        try:
            stack.enter_context(held_lock(root / LOCK, tell))
            while _is_foreign_and_lives(root, tell):
                pass
            clear_up(root, say)
            write_record(root / LEASE, lease)
        finally:
            note.unlink(missing_ok=True)
        held = Held(root, lease)
        stack.enter_context(giving_signs(root / LEASE))
        try:
            yield held
        except (PoseError, RunCancelled):
            (root / LEASE).unlink(missing_ok=True)
            raise
        except KeyboardInterrupt:
            held.stop("by the user")
            raise
        except BaseException as error:
            if not isinstance(error, Exception):  # SIGTERM, whatever Prefect and the command line make of it
                held.stop("by SIGTERM")
            raise
        # Left in place on any other error: a run that could not end properly is cleared up by the next one.
        (root / LEASE).unlink(missing_ok=True)


def _tell_who_holds(root: Path, say: Say, poll: Callable[[], None], note: Path) -> Callable[[], None]:
    """Return what is done again and again while the workspace is another's: say whose, once for each, and poll."""
    told: str | None = None

    def tell() -> None:
        nonlocal told
        text = _describe_holder(root)
        if text != told:
            say(f"waiting for {text}")
            told = text
        touch(note)
        poll()

    return tell


def _describe_holder(root: Path) -> str:
    holder = read_lease(root)
    if holder is None or not holder.alive:
        return "another keypipe command"
    advice = f" (if {holder.host} is gone, remove {LOCK} and {LEASE})" if holder.foreign else ""
    return f"{holder.describe()}{advice}"


def _is_foreign_and_lives(root: Path, tell: Callable[[], None]) -> bool:
    """Tell whether a run of another machine holds the workspace although the lock here is free."""
    holder = read_lease(root)
    return holder is not None and holder.foreign and not is_silent(root / LEASE, tell)


@contextmanager
def claim(root: Path) -> Iterator[None]:
    """Hold the workspace while a command changes what runs read; a run that starts meanwhile waits.

    Nothing is written down: a run that was killed stays known, for the next one to clear up after it.

    Raises:
        PoseError: a run, or another such command, holds the workspace.
    """
    asked = count()

    def give_up() -> None:
        if next(asked) >= _PATIENCE:  # who only looks whether it is held holds it for a moment
            raise PoseError(f"the workspace is in use: {_describe_holder(root)}")

    with held_lock(root / LOCK, give_up):
        if _is_foreign_and_lives(root, lambda: None):
            raise PoseError(f"the workspace is in use: {_describe_holder(root)}")
        yield


def is_locked(root: Path) -> bool:
    """Tell whether some run holds the workspace just now."""
    return is_held(root / LOCK)


def clear_up(root: Path, say: Say) -> None:
    """End in Prefect, in MLflow and on the machine what runs that died have left; the lock must be held."""
    from tasks.versions.repository import bring_back_files, clear_stale_locks

    for path in [root / LEASE, *sorted((root / WAITING).glob("*.json"))]:
        lease = read_record(path, Lease)
        if lease is None or (path.name != LEASE.name and _still_waits(root, lease, path)):
            continue
        _end_run(root, lease, say)
        path.unlink(missing_ok=True)
    clear_stale_locks(root)  # also what no run has left, but another command, or DVC itself
    for name in bring_back_files(root):
        say(f"{name}: brought back as it was before a process was killed that wrote it")


def _still_waits(root: Path, lease: Lease, note: Path) -> bool:
    if not lease.foreign:
        return lease.alive
    touch(root / LOCK)  # so that both times are those of the file system's clock
    return (root / LOCK).stat().st_mtime - note.stat().st_mtime < _FOREIGN_NOTE_SECONDS


def _end_run(root: Path, lease: Lease, say: Say) -> None:
    reason = f"its process (pid {lease.pid}, since {lease.since}) is gone"
    ended = end_marked(LEASE_VARIABLE, lease.id)
    if ended:
        say(f"ended {ended} processes that {lease.flow_run_name or 'a run'} had left behind")
    from tasks.versions.repository import clear_stale_locks

    clear_stale_locks(root)
    if lease.stage is not None:
        from flows.pipeline.last_good import take_up_or_bring_back

        if done := take_up_or_bring_back(root, lease.stage):
            say(f"{lease.stage}: {done}")
    if lease.flow_run_id:
        with _telling(say, "Prefect"):
            from flows.services.server import crash_flow_run

            crash_flow_run(lease.flow_run_id, reason)
    if lease.stages:
        end_tracked_runs(root, lease.id, say)


def end_tracked_runs(root: Path, lease_id: str, say: Say) -> None:
    """End the MLflow runs that the dead processes of a run have left RUNNING."""
    with _telling(say, "MLflow"):
        from tasks.tracking.history import end_dead_runs

        end_dead_runs(root, lease_id)


@contextmanager
def _telling(say: Say, where: str) -> Iterator[None]:
    """Go on when a record cannot be mended: the run that starts now matters more."""
    try:
        yield
    except Exception as error:
        log.debug("clearing up in %s", where, exc_info=True)
        say(f"could not mark a dead run in {where}: {type(error).__name__}: {error}")
