"""``keypipe schedule``: serves the retraining flow, or the training flow alone, as a Prefect deployment.

The command keeps a server (when the user has none) and a runner, each in a process tree that ends with it.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlparse

import msgspec

from flows.scheduling.runner import FLOWS, RunnerTask
from flows.services import server
from flows.services.schedule_record import SCHEDULE, ScheduleRecord, active_schedule, deployment_name
from flows.services.timetable import Timetable
from flows.system.locks import LockedError, held_lock
from flows.system.process import Tree
from flows.system.state_files import write_record
from keypipe.errors import PoseError
from tasks.tracking.client import hide_password, tracking_uri
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
        url, keep = _connect(root, stack, say)
        record = ScheduleRecord(
            pid=os.getpid(),
            started=start_mark(os.getpid()) or time.time(),
            timetable=timetable,
            deployment=f"{FLOWS[flow].name}/{deployment_name(root)}",
            url=hide_password(url),
        )
        write_record(root / SCHEDULE, record)
        stack.callback((root / SCHEDULE).unlink, missing_ok=True)
        given = RunnerTask(str(root), flow, deployment_name(root), timetable)
        command = [sys.executable, "-P", str(RUNNER), msgspec.json.encode(given).decode()]
        runner = Tree(command, cwd=root, env=_runner_environment(url), grace=RUNNER_GRACE_SECONDS)
        stack.callback(runner.end)
        for line in runner.lines(keep):
            say(line)
        code = runner.wait()
    raise PoseError(f"the runner ended with exit code {code}; its last lines are above")


def _connect(root: Path, stack: ExitStack, say: server.Say) -> tuple[str, server.Keeper]:
    """Find or start the server; also return what has to be called now and then to keep it."""
    own = server.configured_url()
    if own is not None:
        if not server.answers(own):
            shown = hide_password(own)
            raise PoseError(f"the Prefect server at {shown} does not answer; start it, or unset PREFECT_API_URL")
        return own, lambda: None
    found, _ = stack.enter_context(server.joined_server(root, "keypipe schedule", say))

    def keep() -> None:
        # Another command owns the server; when it ends, the schedule needs one of its own at the same address.
        nonlocal found
        if found.pid != os.getpid() and not server.is_kept(found):
            say(f"the server of `{found.command}` has ended")
            port = urlparse(found.url).port
            found, _ = stack.enter_context(server.joined_server(root, "keypipe schedule", say, port))

    return found.url, keep


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
