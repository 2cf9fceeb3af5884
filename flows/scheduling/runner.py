"""The runner of ``keypipe schedule``, a program of its own: registers the deployment and runs what falls due.

A time that nobody served is made up for once, whatever the reason: the schedule was stopped, its process or the machine
was killed, or it was just being started again. While it starts, Prefect has thrown the old times away and has not made
the new ones yet, so that it is looked at afterwards which times had no run.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flows.pipeline import lease
from flows.scheduling.raw_watch import RawWatch
from flows.services.schedule_record import SERVED, Served, format_time
from flows.services.timetable import Timetable
from flows.system.state_files import read_record, write_record
from tasks.workspace.places import RAW

SIGN_SECONDS = 5.0
"""From one sign of life to the next."""
LOOK_SECONDS = 1.0
"""From one look at the raw data, and at the clock, to the next."""
_LOOK_SHARE = 50.0
"""Looking takes a fiftieth of the time at most, however many files there are."""
SETTLING_SECONDS = 120.0
"""For how long after the start the first time of the server is waited for; it makes none that are months away."""
SHOWN = 3


class ServedFlow(NamedTuple):
    """A flow that a schedule can run: where it is, and Prefect's name of it."""

    module: str
    function: str
    name: str


FLOWS = {
    "retraining": ServedFlow("flows.retraining.flow", "retraining_flow", "keypipe-retraining"),
    "drift": ServedFlow("flows.drift.flow", "drift_flow", "keypipe-drift"),
    "training": ServedFlow("flows.pipeline.flow", "training_flow", "keypipe-training"),
}


class RunnerTask(msgspec.Struct, frozen=True):
    """What the runner is told on its command line, as JSON.

    Attributes:
        root: the workspace.
        flow: a key of ``FLOWS``.
        name: of the deployment.
        timetable: when it runs.
    """

    root: str
    flow: str
    name: str
    timetable: Timetable


async def run_runner(given: RunnerTask) -> None:
    """Register the deployment and run what falls due, one run at a time."""
    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    root, timetable, flow = Path(given.root), given.timetable, FLOWS[given.flow]
    began = datetime.now(UTC)
    async with get_client() as client:
        await retire(client, [f"{other.name}/{given.name}" for other in FLOWS.values() if other != flow])
        missed = await take_missed(client, root, f"{flow.name}/{given.name}", began)
        runner = Runner(name=given.name, limit=1, pause_on_shutdown=False)
        deployment = await runner.aadd_flow(
            getattr(import_module(flow.module), flow.function),
            name=given.name,
            schedules=timetable.to_prefect(),
            parameters={"root": given.root},
            description=f"keypipe in {given.root}",
            tags=["keypipe"],
        )
        keeper = Keeper(client, root, f"{flow.name}/{given.name}", deployment, timetable, began)
        if missed:
            await keeper.make_up(missed)
        _say(f"serving {flow.name}/{given.name} {timetable.describe()}; Ctrl-C stops it, and the schedule stays on")
        times = await timetable.times(datetime.now(UTC), most=SHOWN)
        if times:
            _say(f"next: {', '.join(format_time(time, timetable.timezone) for time in times)}")
        beside = [asyncio.create_task(keeper.keep())]
        if given.flow == "retraining":
            beside.append(asyncio.create_task(serve_answers(given)))
            await asyncio.sleep(0)  # it comes first, so that it is the other runner that ends on SIGTERM
        try:
            await runner.start()
        finally:
            for task in beside:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def serve_answers(given: RunnerTask) -> None:
    """Serve what people answer with in Prefect's UI, by a runner of its own: it waits for no training."""
    from prefect.runner import Runner

    from flows.retraining.answer import approval_flow

    runner = Runner(name=given.name, limit=1, pause_on_shutdown=False)
    try:
        await runner.aadd_flow(
            approval_flow,
            name=given.name,
            parameters={"root": given.root},
            description="Run it to answer for the version that waits for a person's word: approve or reject.",
            tags=["keypipe"],
        )
        await runner.start()
    except Exception as error:  # noqa: BLE001 - the schedule goes on without it
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        _say(f"answers in Prefect's UI are not served ({text}); `keypipe approve` and `keypipe reject` do the same")


async def retire(client: Any, names: Iterable[str]) -> None:
    """Keep other deployments of this workspace from making runs that nobody serves."""
    from prefect.exceptions import ObjectNotFound

    for name in names:
        with contextlib.suppress(ObjectNotFound):
            deployment = await client.read_deployment_by_name(name)
            for run in await _read_runs(client, deployment.id, states=("SCHEDULED",)):
                await client.delete_flow_run(run.id)
            await client.pause_deployment(deployment.id)


async def take_missed(client: Any, root: Path, deployment: str, began: datetime) -> int:
    """Return how many runs were missed or cut short by now, and clear them away in Prefect."""
    from prefect.exceptions import ObjectNotFound

    try:
        known = (await client.read_deployment_by_name(deployment)).id
    except ObjectNotFound:
        known = None
    taken: set[Any] = set()
    done: set[datetime] = set()
    if known is not None:
        holder = lease.read_lease(root)
        for run in await _read_runs(client, known):
            if run.state.is_scheduled() and run.expected_start_time <= began:
                await client.delete_flow_run(run.id)
                taken.add(run.id)
            elif run.state.is_final() or (holder is not None and holder.alive and holder.flow_run_id == str(run.id)):
                done.add(run.expected_start_time)
            elif not run.state.is_scheduled():
                await _crash(client, run)
                taken.add(run.id)
    served = read_record(root / SERVED, Served)
    times = []
    if served is not None and served.deployment == deployment:
        times = [time for time in await served.timetable.times(served.until, began) if time not in done]
    return max(len(taken), len(times))


async def _crash(client: Any, run: Any) -> None:
    from prefect.states import Crashed

    await client.set_flow_run_state(run.id, Crashed(message="the schedule that served it is gone"), force=True)


async def _read_runs(client: Any, deployment: Any, states: tuple[str, ...] = (), **more: Any) -> list[Any]:
    """Return runs of a deployment, the latest first."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterDeploymentId,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    of_state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType(state) for state in states]))
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]), state=of_state if states else None
    )
    return list(
        await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=200, **more
        )
    )


class Keeper:
    """What goes on beside the runner: signs of life, times that had no run, changes of the raw data."""

    def __init__(
        self, client: Any, root: Path, name: str, deployment: Any, timetable: Timetable, began: datetime
    ) -> None:
        self._client = client
        self._root = root
        self._name = name
        self._deployment = deployment
        self._timetable = timetable
        self._began = self._made_up = began
        self._watch = RawWatch(root, timetable.quiet_s, _say) if timetable.on_change else None
        self._settled = False
        self._signed = float("-inf")
        self._next_look = 0.0
        self._complained = ""

    async def make_up(self, missed: int) -> None:
        """Have one run stand for all that were missed."""
        self._made_up = datetime.now(UTC)
        run = await self._client.create_flow_run_from_deployment(self._deployment, tags=["keypipe", "catch-up"])
        _say(f"missed runs: {missed}; one run ({run.name}) makes up for them")

    async def keep(self) -> None:
        """Go on until it is cancelled."""
        while True:
            try:
                await self._step()
                self._complained = ""
            except Exception as error:  # noqa: BLE001 - the server may be away; it is tried again
                text = f"{type(error).__name__}: {error}".splitlines()[0]
                if text != self._complained:
                    _say(f"the schedule cannot be looked after: {text}; trying again")
                    self._complained = text
            await asyncio.sleep(LOOK_SECONDS)

    async def _step(self) -> None:
        if not self._settled:
            self._settled = await self.settle()
        if self._settled and time.monotonic() - self._signed >= SIGN_SECONDS:
            now = datetime.now(UTC)
            await self._leave_to_the_last(now)
            upcoming = await self._timetable.times(now, most=SHOWN)
            write_record(self._root / SERVED, Served(self._name, self._timetable, now, tuple(upcoming)))
            self._signed = time.monotonic()
        if self._watch is not None and time.monotonic() >= self._next_look:
            began = time.monotonic()
            changed = await asyncio.to_thread(self._watch.look, began)
            self._next_look = began + _LOOK_SHARE * (time.monotonic() - began)
            if changed:
                await self._tell_change(self._watch)

    async def _leave_to_the_last(self, now: datetime) -> None:
        """Leave the work of all times that fell due meanwhile to the last of them, without a process for each."""
        from prefect.states import Cancelled

        from flows.services.late_runs import SUPERSEDED_NAME

        due = [
            run
            for run in await _read_runs(self._client, self._deployment, states=("SCHEDULED",))
            if run.auto_scheduled and run.expected_start_time <= now
        ]
        for run in due[1:]:
            state: Any = Cancelled(name=SUPERSEDED_NAME, message="a later run of the same schedule is due")
            await self._client.set_flow_run_state(run.id, state)

    async def settle(self) -> bool:
        """Make up for times that fell into the start; False as long as the server has made no later one."""
        now = datetime.now(UTC)
        if not self._timetable.crons and self._timetable.every_s is None:
            return True
        made = [
            run.expected_start_time
            for run in await _read_runs(self._client, self._deployment)
            if run.auto_scheduled and run.expected_start_time > self._began
        ]
        if not made and (now - self._began).total_seconds() < SETTLING_SECONDS:
            return False
        until = min([now, *(time - timedelta(milliseconds=1) for time in made)])
        lost = await self._timetable.times(self._made_up, until) if until > self._made_up else []
        if lost:
            await self.make_up(len(lost))
        return True

    async def _tell_change(self, watch: RawWatch) -> None:
        """Have a run look at the changed raw data, unless one is about to start."""
        now = datetime.now(UTC)
        waiting = await _read_runs(self._client, self._deployment, states=("SCHEDULED", "PENDING"))
        if any(run.expected_start_time <= now for run in waiting):
            _say(f"{RAW} has changed; the run that is about to start sees it")
        else:
            run = await self._client.create_flow_run_from_deployment(self._deployment, tags=["keypipe", "on-change"])
            _say(f"{RAW} has changed; {run.name} looks at it")
        watch.tell()


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(run_runner(msgspec.json.decode(sys.argv[1], type=RunnerTask)))
