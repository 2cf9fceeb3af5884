"""Prefect's server away in the middle of a run: the run goes on, its lines come as they are printed, and it ends."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flows.services import server
from flows.system.process import Tree
from tests.flows.toy import Toy, wait_until
from tests.patience import PATIENCE

AWAY = "WARNING | prefect.keypipe - Prefect's server does not answer; the run goes on without it"


def strike(tree: Tree, act: Callable[[psutil.Process], None]) -> None:
    for process in psutil.Process(tree.session).children(recursive=True):
        act(process)


@contextmanager
def running_server(root: Path, port: int | None = None) -> Iterator[tuple[Tree, str]]:
    (root / ".keypipe").mkdir(parents=True, exist_ok=True)
    with server.start_server(root, temporary=False, port=port) as (tree, url):
        server.wait_for_page(root / server.LOG, tree, f"{url}/health")
        yield tree, url


class Watched:
    """A run whose lines are taken with the time at which they come."""

    def __init__(self, toy: Toy, stage: str, url: str, seconds: float, *command: str) -> None:
        sleep = {f"TOY_SLEEP_{stage.upper()}": str(seconds), "TOY_TICKS": "1"}
        self.process = toy.start(*(command or ("run",)), PREFECT_API_URL=url, **sleep)
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        asleep = toy.root / ".keypipe" / f"asleep-{stage}"
        wait_until(lambda: asleep.exists() or self.process.poll() is not None, f"{stage} to be at work")
        assert asleep.exists(), self.end()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.time(), line.rstrip()))

    def wait_for(self, part: str, seconds: float = PATIENCE) -> None:
        """Wait for a line that has this part."""
        wait_until(lambda: any(part in line for _, line in self.lines), f"a line with {part!r}", seconds)

    def end(self) -> str:
        """Wait for the end; returns what was printed."""
        self.process.wait(PATIENCE)
        self._reader.join()
        return "\n".join(line for _, line in self.lines)

    def lines_after(self, part: str) -> str:
        """Return what was printed after a line that has this part."""
        lines = [line for _, line in self.lines]
        return "\n".join(lines[next(place for place, line in enumerate(lines) if part in line) :])

    def delays(self) -> list[float]:
        """Return how long each line of the stage was on its way."""
        found = [(came, re.search(r": tick ([\d.]+)$", line)) for came, line in self.lines]
        return [came - float(match[1]) for came, match in found if match]

    def seconds_after(self, part: str) -> float:
        """Return how long the run went on after a line."""
        return self.lines[-1][0] - next(came for came, line in self.lines if part in line)


def wait_for_flow_state(toy: Toy, flow_run_id: str) -> str:
    from uuid import UUID

    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(UUID(flow_run_id)).state_name)


@pytest.mark.parametrize(
    "act", [psutil.Process.kill, pytest.param(psutil.Process.suspend, marks=pytest.mark.faults)], ids=["gone", "frozen"]
)
def test_a_run_goes_on_and_ends_without_its_server(
    ran: Toy, server_root: Path, tmp_path: Path, act: Callable[[psutil.Process], None]
) -> None:
    ran.edit(label="calf")
    folder = tmp_path / "server"
    with running_server(folder) as (tree, url):
        run = Watched(ran, "train", url, 14)
        flow_run_id = re.search(r'"flow_run_id": "([^"]+)"', ran.text(".keypipe/lease.json"))
        assert flow_run_id
        strike(tree, act)
        output = run.end()
        strike(tree, psutil.Process.kill)
    assert run.process.returncode == 0, output
    assert AWAY in output
    assert output.count("Ran ") >= 5, output
    assert "not recorded: Prefect (" in output
    assert "Traceback" not in output
    assert "ERROR" not in output
    assert max(run.delays()) < 2.0
    assert run.seconds_after("Finished in state Completed('export ran')") < 25
    assert "calf" in ran.text("models/best.pt")
    status = ran.keypipe("status")
    assert "last run   completed" in status
    assert "killed" not in status

    with running_server(folder) as (_, url), server.pointed_to(url):
        assert wait_for_flow_state(ran, flow_run_id[1]) == "Running", "nobody has told it yet"
        assert "Cached" in ran.keypipe("run", PREFECT_API_URL=url)
        assert wait_for_flow_state(ran, flow_run_id[1]) == "Completed"
    assert not list((ran.root / ".keypipe" / "unsettled").iterdir())


@pytest.mark.faults
def test_a_server_that_is_slow_for_a_while_is_waited_for(ran: Toy, tmp_path: Path) -> None:
    ran.edit(label="calf")
    with running_server(tmp_path / "server") as (tree, url), server.pointed_to(url):
        run = Watched(ran, "train", url, 5, "run", "--until", "train")
        flow_run_id = re.search(r'"flow_run_id": "([^"]+)"', ran.text(".keypipe/lease.json"))
        assert flow_run_id
        strike(tree, psutil.Process.suspend)
        run.wait_for(AWAY)  # after five to ten seconds, in which the training ends
        time.sleep(10)
        strike(tree, psutil.Process.resume)
        output = run.end()
        assert run.process.returncode == 0, output
        assert "Prefect's server answers again" in output
        assert "a later run tells it the end" not in output
        assert "Finished in state Completed" in run.lines_after("Prefect's server answers again")
        assert wait_for_flow_state(ran, flow_run_id[1]) == "Completed"
    assert not list((ran.root / ".keypipe").glob("unsettled/*"))


@pytest.mark.faults
def test_a_server_that_comes_back_is_told_the_end(ran: Toy, tmp_path: Path) -> None:
    ran.edit(label="calf")
    folder = tmp_path / "server"
    port = server.free_port()
    with running_server(folder, port) as (tree, url):
        run = Watched(ran, "train", url, 45)
        strike(tree, psutil.Process.kill)
    run.wait_for(AWAY)
    with running_server(folder, port), server.pointed_to(url):
        flow_run_id = re.search(r'"flow_run_id": "([^"]+)"', ran.text(".keypipe/lease.json"))
        assert flow_run_id
        output = run.end()
        assert run.process.returncode == 0, output
        assert "Prefect's server answers again" in output
        assert "may be missing there" in output
        assert wait_for_flow_state(ran, flow_run_id[1]) == "Completed"
    assert max(run.delays()) < 2.0


@pytest.mark.faults
def test_a_run_without_its_server_is_stopped_by_ctrl_c(ran: Toy, tmp_path: Path) -> None:
    before = ran.text("models/best.pt")
    ran.edit(label="calf")
    folder = tmp_path / "server"
    with running_server(folder) as (tree, url):
        run = Watched(ran, "train", url, 600)
        strike(tree, psutil.Process.kill)
        run.wait_for(AWAY)
        began = time.monotonic()
        os.kill(run.process.pid, signal.SIGINT)
        output = run.end()
    assert run.process.returncode == 130, output
    assert time.monotonic() - began < 30
    assert ran.text("models/best.pt") == before
