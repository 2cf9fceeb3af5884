"""``keypipe schedule``: serves the training flow as a Prefect deployment.

The command keeps a server (when the user has none) and a runner, each in a process tree that ends with it. The
runner is this module run as a program.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from flows.services import server
from flows.services.schedule_record import SCHEDULE, ScheduleRecord, active_schedule
from flows.system.locks import LockedError, held_lock
from flows.system.process import Tree
from flows.system.state_files import write_record
from keypipe.errors import ConfigError, PoseError
from tasks.tracking.client import tracking_uri
from tasks.tracking.machine import start_mark
from tasks.workspace.places import STATE

LOCK = STATE / "schedule.lock"
RUNNER_GRACE_SECONDS = 30.0
"""More than a stage gets: the runner waits for the run, which waits for its stage."""


def deployment_name(root: Path) -> str:
    """Return a name that tells clones apart: the folder's, and a hash of its path."""
    path = root.resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def check_schedule(cron: str, timezone: str | None) -> None:
    """Check a cron line and a timezone.

    Raises:
        ConfigError: one of them is none.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    if timezone is not None:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(f"--timezone {timezone}: no such timezone; such as Europe/Berlin or UTC") from error
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        raise ConfigError(f'--cron "{cron}": no cron schedule; such as "0 3 * * *" (every night at three)') from error


def serve(root: Path, cron: str, timezone: str | None, say: server.Say) -> None:
    """Serve the schedule until the process is told to end.

    Raises:
        PoseError: a wrong schedule, a wrong address of MLflow, a server that does not answer, or a schedule that is
            being served already.
    """
    server.configure(root)
    check_schedule(cron, timezone)
    tracking_uri(root)  # refused now, and not in the first night
    with ExitStack() as stack:
        _only_one(root, stack)
        url, keep = _connect(root, stack, say)
        record = ScheduleRecord(
            pid=os.getpid(),
            started=start_mark(os.getpid()) or time.time(),
            cron=cron,
            timezone=timezone,
            deployment=f"keypipe-training/{deployment_name(root)}",
            url=url,
        )
        write_record(root / SCHEDULE, record)
        stack.callback((root / SCHEDULE).unlink, missing_ok=True)
        runner = Tree(
            _runner_command(root, cron, timezone), cwd=root, env=_runner_environment(url), grace=RUNNER_GRACE_SECONDS
        )
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
            raise PoseError(f"the Prefect server at {own} does not answer; start it, or unset PREFECT_API_URL")
        return own, lambda: None
    found = server.recorded_server(root)
    if found is None:
        say("starting the Prefect server")
        url = stack.enter_context(server.running_server(root, temporary=False, port=server.preferred_port()))
        stack.enter_context(server.recorded(root, url, "keypipe schedule"))
        return url, lambda: None

    def keep() -> None:
        # `keypipe ui` owns the server; when it ends, the schedule needs one of its own at the same address.
        nonlocal found
        if found is not None and start_mark(found.pid) is None and not server.answers(found.url):
            port = urlparse(found.url).port
            say("the server of `keypipe ui` has ended; starting one")
            url = stack.enter_context(server.running_server(root, temporary=False, port=port))
            stack.enter_context(server.recorded(root, url, "keypipe schedule"))
            found = None

    return found.url, keep


def _only_one(root: Path, stack: ExitStack) -> None:
    try:
        stack.enter_context(held_lock(root / LOCK))
    except LockedError as error:
        record = active_schedule(root)
        who = record.describe() if record else "another keypipe schedule"
        raise PoseError(f"this workspace is being served already: {who}") from error


def _runner_command(root: Path, cron: str, timezone: str | None) -> list[str]:
    return [sys.executable, "-P", __file__, str(root), cron, *([timezone] if timezone else [])]


def _runner_environment(url: str) -> dict[str, str]:
    repository = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [repository, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "PREFECT_API_URL": url,
    }


async def run_runner(root: Path, cron: str, timezone: str | None) -> None:
    """Register the deployment and run what falls due, one run at a time."""
    from prefect.runner import Runner
    from prefect.schedules import Cron

    from flows.pipeline.flow import training_flow

    name = deployment_name(root)
    missed = await _drop_missed_runs(name)
    runner = Runner(name=name, limit=1, pause_on_shutdown=False)
    deployment = await runner.aadd_flow(
        training_flow,
        name=name,
        schedule=Cron(cron, timezone=timezone) if timezone else Cron(cron),
        parameters={"root": str(root)},
        description=f"keypipe in {root}",
        tags=["keypipe"],
    )
    if missed:
        await _catch_up(deployment, missed)
    print(f'serving keypipe-training/{name} at "{cron}"; Ctrl-C stops it, and the schedule stays on')  # noqa: T201
    await runner.start()


async def _drop_missed_runs(name: str) -> int:
    """Delete the runs that fell due while nobody served the schedule; returns how many there were."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    from flows.services.late_runs import due_filter

    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):
            deployment = await client.read_deployment_by_name(f"keypipe-training/{name}")
            late = await client.read_flow_runs(flow_run_filter=due_filter(deployment.id), limit=200)
            for run in late:
                await client.delete_flow_run(run.id)
            return len(late)
    return 0


async def _catch_up(deployment_id: Any, missed: int) -> None:
    """Have one run stand for all that were missed."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        run = await client.create_flow_run_from_deployment(deployment_id, tags=["catch-up"])
    print(f"missed runs: {missed}; one run ({run.name}) makes up for them")  # noqa: T201


if __name__ == "__main__":
    asyncio.run(run_runner(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
