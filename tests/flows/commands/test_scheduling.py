"""``keypipe schedule`` over a real Prefect server."""

from __future__ import annotations

import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.commands.scheduling import check_schedule, deployment_name
from keypipe.errors import ConfigError
from tests.flows.toy import PATIENCE, Toy, wait_until


def test_two_clones_have_different_names(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "keypipe", tmp_path / "b" / "keypipe"
    assert deployment_name(first) != deployment_name(second)
    assert deployment_name(first).startswith("keypipe-")


@pytest.mark.parametrize(
    ("cron", "timezone", "message"),
    [
        ("0 25 * * *", None, '--cron "0 25 '),
        ("every night", None, "--cron"),
        ("0 3 * * *", "Europe/Atlantis", "--timezone Europe/Atlantis"),
        ("0 3 * * *", "../etc/passwd", "--timezone"),
    ],
)
def test_a_schedule_that_is_none_is_one_line(cron: str, timezone: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_schedule(cron, timezone)
    assert len(str(caught.value).splitlines()) == 1


class Schedule:
    """A ``keypipe schedule`` in a process of its own, and the deployment it serves."""

    def __init__(self, toy: Toy, cron: str, **env: str) -> None:
        self.toy = toy
        command = ("schedule", "--cron", cron, "--timezone", "Europe/Berlin")
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


def miss_runs(toy: Toy, count: int) -> None:
    """Put runs that were due an hour ago."""
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    with get_client(sync_client=True) as client:
        for minutes in range(count):
            due = datetime.now(UTC) - timedelta(hours=1, minutes=minutes)
            client.create_flow_run_from_deployment(deployment(toy).id, state=Scheduled(scheduled_time=due))


def test_stopping_leaves_it_on_and_missed_runs_become_one(ran: Toy) -> None:
    yearly = "0 0 1 1 *"
    Schedule(ran, yearly).stop()
    assert deployment(ran).paused is False
    assert [schedule.active for schedule in deployment(ran).schedules] == [True]
    assert deployment(ran).schedules[0].schedule.timezone == "Europe/Berlin"

    miss_runs(ran, 3)
    schedule = Schedule(ran, yearly)
    twin = ran.keypipe("schedule", "--cron", yearly, code=2)
    assert "served already" in twin
    wait_until(lambda: [run for run in flow_runs(ran) if run.state.is_final()], "the missed run to be made up for")
    output = schedule.stop()
    (made_up,) = flow_runs(ran)
    assert made_up.state.message == "5 cached"
    assert "missed runs: 3" in output
    assert deployment(ran).paused is False


def test_the_schedule_fires_and_stops_a_run_with_itself(ran: Toy) -> None:
    ran.edit(label="calf")
    schedule = Schedule(ran, "* * * * * */20", TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "a run to be at train")
    schedule.stop()
    assert "calf" not in ran.text("models/best.pt")
    assert ran.flow().states == ["Cached", "Cached", "Ran", "Ran", "Ran"]
    assert ran.api.open_runs(ran.root) == []


@pytest.mark.slow
def test_a_run_steps_back_behind_a_later_one_of_its_schedule(ran: Toy) -> None:
    ran.edit(label="calf")
    schedule = Schedule(ran, "* * * * * */10", TOY_SLEEP_TRAIN="25")
    wait_until(lambda: any(run.state.name == "Superseded" for run in flow_runs(ran)), "a run to be superseded")
    schedule.stop()
    done = [run for run in flow_runs(ran) if run.state.is_completed()]
    assert 1 <= len(done) <= 2


@pytest.mark.faults
def test_a_killed_schedule_leaves_no_process(ran: Toy) -> None:
    ran.edit(label="calf")
    schedule = Schedule(ran, "* * * * * */20", TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe" / "asleep-train").exists, "a run to be at train")
    schedule.process.kill()
    schedule.process.communicate(timeout=PATIENCE)
    wait_until(lambda: not ran.processes(), f"{ran.processes()} to be gone")
    assert ran.flow().result.exit_code == 0
    assert ran.api.open_runs(ran.root) == []
