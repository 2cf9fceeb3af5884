"""``keypipe schedule`` over a real Prefect server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.pipeline import lease
from flows.scheduling.schedule import Connection, MovedError, deployment_name
from flows.services import keeper, server
from flows.services.keeper import Kept, Running
from flows.services.schedule_record import SCHEDULE, SERVED, Served
from flows.services.timetable import Timetable
from flows.system.process import Tree
from flows.system.state_files import read_record, write_record
from keypipe.errors import PoseError
from tests.flows.toy import Toy, wait_until
from tests.patience import PATIENCE


def test_two_clones_have_different_names(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "keypipe", tmp_path / "b" / "keypipe"
    assert deployment_name(first) != deployment_name(second)
    assert deployment_name(first).startswith("keypipe-")


class Schedule:
    """A ``keypipe schedule`` in a process of its own, and the deployment it serves."""

    def __init__(self, toy: Toy, *when: str, **env: str) -> None:
        self.toy = toy
        command = ("schedule", "--flow", "training", *when)
        started = datetime.now(UTC)
        self.process: subprocess.Popen[str] = toy.start(*command, **env)
        wait_until(lambda: self.has_polled(started), "the schedule to be served")

    def has_polled(self, since: datetime) -> bool:
        from prefect.exceptions import ObjectNotFound

        try:
            polled = deployment(self.toy).last_polled
        except ObjectNotFound:
            return False
        return polled is not None and polled > since

    def stop(self) -> str:
        """End it as a service manager does."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 143, output
        wait_until(lambda: not self.toy.processes(), f"{self.toy.processes()} to be gone", 15)
        return output


def deployment(toy: Toy) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(f"keypipe-training/{deployment_name(toy.root)}")


def flow_runs(toy: Toy) -> list[Any]:
    """Runs of the deployment that are due or done."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

    only = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment(toy).id]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=only, limit=200)
    return [run for run in runs if run.expected_start_time <= datetime.now(UTC)]


def finished(toy: Toy) -> list[Any]:
    return [run for run in flow_runs(toy) if run.state.is_completed()]


def miss_runs(toy: Toy, count: int) -> None:
    """Put runs that were due an hour ago."""
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    with get_client(sync_client=True) as client:
        for minutes in range(count):
            due = datetime.now(UTC) - timedelta(hours=1, minutes=minutes)
            client.create_flow_run_from_deployment(deployment(toy).id, state=Scheduled(scheduled_time=due))


def test_stopping_leaves_it_on_and_missed_runs_become_one(ran: Toy) -> None:
    yearly = ("--cron", "0 0 1 1 *", "--timezone", "Europe/Berlin")
    Schedule(ran, *yearly).stop()
    assert deployment(ran).paused is False
    assert [schedule.active for schedule in deployment(ran).schedules] == [True]
    assert deployment(ran).schedules[0].schedule.timezone == "Europe/Berlin"

    miss_runs(ran, 3)
    address = ran.api.url.replace("://", "://ann:correct-horse@")
    schedule = Schedule(ran, *yearly, PREFECT_API_URL=address)
    assert json.loads((ran.root / SCHEDULE).read_text())["url"] == ran.api.url
    twin = ran.keypipe("schedule", *yearly, code=2)
    assert "served already" in twin
    wait_until(lambda: [run for run in flow_runs(ran) if run.state.is_final()], "the missed run to be made up for")
    output = schedule.stop()
    (made_up,) = flow_runs(ran)
    assert made_up.state.message == "5 cached"
    assert "missed runs: 3" in output
    assert deployment(ran).paused is False


def test_the_schedule_fires_and_stops_a_run_with_itself(ran: Toy) -> None:
    ran.edit(label="calf")
    schedule = Schedule(ran, "--cron", "* * * * * */20", TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "a run to be at train")
    schedule.stop()
    assert "calf" not in ran.text("models/best.pt")
    assert ran.flow().states == ["Cached", "Cached", "Ran", "Ran", "Ran"]
    assert ran.api.open_runs(ran.root) == []


@pytest.mark.slow
def test_a_run_steps_back_behind_a_later_one_of_its_schedule(ran: Toy) -> None:
    ran.edit(label="calf")
    schedule = Schedule(ran, "--cron", "* * * * * */10", TOY_SLEEP_TRAIN="25")
    # The first may be the one that steps back: on a busy machine the next is due before its process has started.
    wait_until(lambda: {"Superseded", "Completed"} <= {run.state.name for run in flow_runs(ran)}, "one of each")
    schedule.stop()
    done = [run for run in flow_runs(ran) if run.state.is_completed()]
    assert 1 <= len(done) <= 2


@pytest.mark.faults
def test_a_killed_schedule_leaves_no_process(ran: Toy) -> None:
    ran.edit(label="calf")
    schedule = Schedule(ran, "--cron", "* * * * * */20", TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "a run to be at train")
    schedule.process.kill()
    schedule.process.communicate(timeout=PATIENCE)
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    assert ran.flow().result.exit_code == 0
    assert ran.api.open_runs(ran.root) == []


def test_times_closer_together_than_a_start_takes_do_not_keep_each_other_from_running(ran: Toy) -> None:
    schedule = Schedule(ran, "--cron", "* * * * * *")
    wait_until(lambda: finished(ran), "a run to come to its end")
    schedule.stop()


def test_a_change_that_comes_to_rest_runs_once(ran: Toy) -> None:
    whole = (ran.root / "data/raw/1.json").read_text()
    schedule = Schedule(ran, "--on-change", "--quiet", "2s")
    wait_until(lambda: finished(ran), "the first look at the data")
    (ran.root / "data/raw/1.json").write_text(whole[:-3])  # labelme is writing
    for label in ("calf", "bull", "heifer"):
        ran.edit(label=label)
    (ran.root / "data/raw/1.json").write_text(whole)
    wait_until(lambda: len(finished(ran)) == 2, "the change to be looked at")
    output = schedule.stop()
    assert "heifer" in ran.text("models/best.pt")
    assert len(flow_runs(ran)) == 2, output
    assert deployment(ran).schedules == []

    ran.edit(label="ox")  # while nobody watches
    schedule = Schedule(ran, "--on-change", "--quiet", "2s")
    wait_until(lambda: len(finished(ran)) == 3, "the change of before to be looked at")
    schedule.stop()
    assert "ox" in ran.text("models/best.pt")


def test_a_time_that_nobody_served_is_made_up_for_once(ran: Toy) -> None:
    minutely = ("--cron", "* * * * *")
    schedule = Schedule(ran, *minutely)
    wait_until((ran.root / SERVED).exists, "the first sign of life")
    schedule.stop()
    served = read_record(ran.root / SERVED, Served)
    assert served is not None
    assert len(served.upcoming) == 3
    before = len(flow_runs(ran))
    # as if the machine had been off for five minutes, with Prefect's own times lost as well
    write_record(ran.root / SERVED, msgspec.structs.replace(served, until=served.until - timedelta(minutes=5)))
    schedule = Schedule(ran, "--cron", "0 0 1 1 *")
    wait_until(lambda: len(finished(ran)) > before, "the missed time to be made up for")
    output = schedule.stop()
    assert "one run" in output
    made_up = [run for run in flow_runs(ran) if "catch-up" in run.tags]
    assert len(made_up) == 1


def test_a_time_within_the_start_is_not_lost(ran: Toy) -> None:
    """Prefect makes no run for a time that lies between the deployment's making and its own next look at it."""
    began = datetime.now(UTC) - timedelta(minutes=5)
    hourly = Timetable(crons=(f"{(began + timedelta(minutes=2)).minute} * * * *",))
    schedule = Schedule(ran, "--cron", "0 0 1 1 *")
    schedule.stop()

    async def settle() -> None:
        from prefect.client.orchestration import get_client

        from flows.scheduling.runner import Keeper

        async with get_client() as client:
            name = f"keypipe-training/{deployment_name(ran.root)}"
            keeper = Keeper(client, ran.root, name, deployment(ran).id, hourly, began)
            assert await keeper.settle()
            assert await keeper.settle()  # what was made up for is not missed again

    asyncio.run(settle())
    made_up = [run for run in flow_runs(ran) if "catch-up" in run.tags]
    assert len(made_up) == 1


@pytest.mark.faults
def test_a_run_that_was_cut_short_by_a_kill_is_made_up_for(ran: Toy) -> None:
    ran.edit(label="calf")
    minutely = ("--cron", "* * * * * */15")
    schedule = Schedule(ran, *minutely, TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "a run to be at train")
    schedule.process.kill()
    schedule.process.communicate(timeout=PATIENCE)
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    schedule = Schedule(ran, "--cron", "0 0 1 1 *")
    wait_until(lambda: finished(ran), "the run to be made up for")
    schedule.stop()
    assert "calf" in ran.text("models/best.pt")
    assert ran.api.open_runs(ran.root) == []


def test_another_flow_of_the_workspace_is_no_longer_scheduled(ran: Toy) -> None:
    from prefect.client.orchestration import get_client

    Schedule(ran, "--cron", "0 0 1 1 *").stop()

    async def retire() -> None:
        from flows.scheduling.runner import retire

        async with get_client() as client:
            await retire(client, [f"keypipe-training/{deployment_name(ran.root)}", "keypipe-retraining/none"])

    asyncio.run(retire())
    assert deployment(ran).paused


class Ports:
    """Runs a small web server where it is told, or nothing once ``broken``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.broken = False
        self.trees: list[Tree] = []

    @contextmanager
    def run(self, port: int) -> Iterator[Running]:
        if self.broken:
            raise PoseError("no more of it")
        command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        with server.running_tree(self.root, command, os.environ, Path("log")) as tree:
            server.wait_for_page(self.root / "log", tree, f"http://127.0.0.1:{port}/")
            self.trees.append(tree)
            yield Running(f"http://127.0.0.1:{port}", lambda: tree.running)


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ports:
    monkeypatch.setattr(keeper, "TRIES", 2)
    return Ports(tmp_path)


def look_until(connection: Connection, raised: type[BaseException]) -> BaseException:
    """Look after a server until that raises something."""
    caught: list[BaseException] = []

    def look() -> bool:
        try:
            connection.keep(registered)
        except raised as error:
            caught.append(error)
        return bool(caught)

    registered = connection.url
    wait_until(look, raised.__name__)
    return caught[0]


def test_a_server_that_moves_is_followed_once_no_run_is_going_on(ports: Ports, tmp_path: Path) -> None:
    said: list[str] = []
    kept = Kept(keeper.Service("Prefect"), ports.run, None, server.free_port(), said.append)
    kept.start()
    try:
        connection = Connection(tmp_path, f"{kept.service.url}/api", kept, said.append)
        before = connection.url
        connection.keep(before)
        with socket.socket() as other, lease.hold(tmp_path, lease.new_lease(flow_run_name="calm-cow"), said.append):
            ports.trees[0].end()
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", int(kept.service.url.rpartition(":")[2])))
            other.listen()

            def moved() -> bool:
                connection.keep(before)
                return connection.url != before

            wait_until(moved, "it to move")
            connection.keep(before)
            (line,) = [line for line in said if "ends first" in line]
            assert line.startswith(f"Prefect's server is at {connection.url} by now; run calm-cow, pid ")
        with pytest.raises(MovedError):
            connection.keep(before)
        connection.keep(connection.url)
    finally:
        kept.end()


def test_a_server_that_does_not_start_again_ends_the_schedule_with_a_message(ports: Ports, tmp_path: Path) -> None:
    kept = Kept(keeper.Service("Prefect"), ports.run, None, server.free_port(), print)
    kept.start()
    try:
        connection = Connection(tmp_path, f"{kept.service.url}/api", kept, print)
        ports.broken = True
        ports.trees[0].end()
        assert "does not start again: no more of it" in str(look_until(connection, PoseError))
    finally:
        kept.end()
