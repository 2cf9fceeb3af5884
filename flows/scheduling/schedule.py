"""``keypipe schedule``: serves the retraining flow, or the training flow alone, as a Prefect deployment.

The command keeps a server (when the user has none) and a runner, each in a process tree that ends with it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import msgspec

from flows.pipeline import lease
from flows.scheduling.runner import FLOWS, RunnerTask
from flows.services import server
from flows.services.background import FAILED, STARTING, Service
from flows.services.keeper import Kept, run_own_prefect
from flows.services.schedule_record import SCHEDULE, ScheduleRecord, active_schedule, deployment_name
from flows.services.timetable import Timetable
from flows.system.locks import LockedError, held_lock
from flows.system.process import Tree
from flows.system.state_files import write_record
from keypipe.addresses import hide_password
from keypipe.errors import PoseError
from tasks.tracking.client import tracking_uri
from tasks.tracking.machine import start_mark
from tasks.workspace.places import STATE

LOCK = STATE / "schedule.lock"
RUNNER = Path(__file__).with_name("runner.py")
RUNNER_GRACE_SECONDS = 30.0
"""More than a stage gets: the runner waits for the run, which waits for its stage."""


def serve(root: Path, timetable: Timetable, flow: str, say: server.Say) -> None:
    """Serve the schedule until the process is told to end; ``server.configure`` has been called.

    Args:
        root: the workspace.
        timetable: when it runs.
        flow: what runs, a key of ``FLOWS``.
        say: gets messages for the user.

    Raises:
        PoseError: a wrong parameter, a wrong address of MLflow, a server that does not answer, or a schedule that is
            being served already.
    """
    tracking_uri(root)  # refused now, and not in the first night
    with ExitStack() as stack:
        _only_one(root, stack)
        connection = _connect(root, stack, say)
        record = ScheduleRecord(
            pid=os.getpid(),
            started=start_mark(os.getpid()) or time.time(),
            timetable=timetable,
            deployment=f"{FLOWS[flow].name}/{deployment_name(root)}",
            url="",
        )
        stack.callback((root / SCHEDULE).unlink, missing_ok=True)
        given = RunnerTask(str(root), flow, deployment_name(root), timetable)
        command = [sys.executable, "-P", str(RUNNER), msgspec.json.encode(given).decode()]
        code = None
        while code is None:
            url = connection.url
            write_record(root / SCHEDULE, msgspec.structs.replace(record, url=hide_password(url)))
            code = _run(command, root, connection, say)
    raise PoseError(f"the runner ended with exit code {code}; its last lines are above")


def _run(command: Sequence[str], root: Path, connection: Connection, say: server.Say) -> int | None:
    """Run the runner to its end; returns its exit code, or None where the server moved or was away, and is back."""
    runner = Tree(command, cwd=root, env=_runner_environment(connection.url), grace=RUNNER_GRACE_SECONDS)
    try:
        for line in runner.lines(partial(connection.keep, connection.url)):
            say(line)
        code = runner.wait()
        return None if connection.comes_back() else code
    except MovedError:
        say(f"Prefect's server is at {connection.url} by now; the schedule is registered there")
        return None
    finally:
        runner.end()


class MovedError(Exception):
    """The server is at another address than the one that the runner was given."""


class Connection:
    """The server of a schedule.

    Attributes:
        url: address of its API.
    """

    def __init__(self, root: Path, url: str, kept: Kept | None, say: server.Say) -> None:
        self.url = url
        self._root = root
        self._kept = kept
        self._say = say
        self._told = False

    def keep(self, registered: str) -> None:
        """Look after it, about once a second; the user's own is left to the user.

        Args:
            registered: the address that the runner was given.

        Raises:
            PoseError: it was started again some times, in vain.
            MovedError: it is at another address, and no run is going on that would have to end.
        """
        if self._kept is None:
            return
        self._kept.look()
        service = self._kept.service
        if service.state == FAILED:
            raise PoseError(f"Prefect's server has ended and does not start again: {service.detail}")
        if service.state != STARTING:
            self.url = f"{service.url}/api"
        if self.url != registered:
            holder = lease.read_lease(self._root)
            if holder is None or not holder.alive:
                raise MovedError
            if not self._told:
                self._say(f"Prefect's server is at {self.url} by now; {holder.describe()}, ends first")
            self._told = True

    def comes_back(self) -> bool:
        """Wait for a server that is away, without which a runner ends sooner or later; False where it answers.

        Raises:
            PoseError: it was started again some times, in vain.
        """
        if self._kept is None or server.answers(self.url):
            return False
        while not server.answers(self.url):
            with suppress(MovedError):
                self.keep(self.url)
            time.sleep(1.0)
        return True


def _connect(root: Path, stack: ExitStack, say: server.Say) -> Connection:
    """Find or start the server."""
    own = server.configured_url()
    if own is not None:
        if not server.answers(own):
            shown = hide_password(own)
            raise PoseError(f"the Prefect server at {shown} does not answer; start it, or unset PREFECT_API_URL")
        return Connection(root, own, None, say)
    run = partial(run_own_prefect, root, "keypipe schedule", say)
    kept = Kept(Service("Prefect", log=server.LOG.as_posix()), run, None, server.PORT, say)
    stack.callback(kept.end)
    kept.start()
    return Connection(root, f"{kept.service.url}/api", kept, say)


def _only_one(root: Path, stack: ExitStack) -> None:
    try:
        stack.enter_context(held_lock(root / LOCK))
    except LockedError as error:
        record = active_schedule(root)
        who = record.describe() if record else "another keypipe schedule"
        raise PoseError(f"this workspace is being served already: {who}") from error


def _runner_environment(url: str) -> dict[str, str]:
    repository = str(Path(__file__).resolve().parents[2])
    shown = hide_password(url)
    pages = {"PREFECT_UI_URL": shown.rstrip("/").removesuffix("/api")} if shown != url else {}
    return {
        **os.environ,
        **pages,
        "PYTHONPATH": os.pathsep.join(filter(None, [repository, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "PREFECT_API_URL": url,
    }
