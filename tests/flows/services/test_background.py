"""``keypipe up`` and ``keypipe down``: two servers in the background, and nothing else ended or left behind.

Prefect is the session's server in most tests, as one that the user has; so only MLflow has to start.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from flows.commands.status import read_status
from flows.services import background, keeper, server
from flows.services.background import Background, Service
from flows.services.schedule_record import active_schedule
from flows.system.state_files import write_record
from keypipe.errors import PoseError
from tasks.tracking.machine import start_mark
from tests.flows.toy import Toy, wait_until

WAIT = 600
"""Seconds that a server may take to start on a busy machine."""


def up(toy: Toy, *arguments: str, code: int = 0, own_server: bool = False) -> str:
    process = toy.start("up", "--timeout", str(WAIT), *arguments, own_server=own_server)
    output, _ = process.communicate(timeout=2 * WAIT)
    assert process.returncode == code, output
    return output


@pytest.fixture
def lifted(fresh: Toy) -> Iterator[Toy]:
    """A workspace whose MLflow is up."""
    up(fresh)
    yield fresh
    fresh.keypipe("down")


def kept(toy: Toy) -> Background:
    found = background.find_background(toy.root)
    assert found is not None
    return found


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return reply.status == 200
    except OSError:
        return False


def test_up_twice_is_up_once_and_down_ends_it(fresh: Toy) -> None:
    toy = fresh
    both = [toy.start("up", "--timeout", str(WAIT)) for _ in range(2)]
    said = [process.communicate(timeout=2 * WAIT)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("up already" in text for text in said) == 1, said
    keepers = [line for line in toy.processes() if "keeper.py" in line]
    assert len(keepers) == 1
    mlflow = kept(toy).service("MLflow")
    assert answers(mlflow.url)
    assert toy.api.url.removesuffix("/api") in said[0], "the user's own Prefect is used as it is"
    status = toy.keypipe("status")
    assert f"mlflow     {mlflow.url}, up since" in status
    assert json.loads(toy.keypipe("status", "--json"))["background"]["services"][1]["state"] == "up"

    assert toy.keypipe("down").startswith("ended MLflow")
    wait_until(lambda: not toy.processes(), f"{toy.processes()} to be gone")
    assert server.answers(toy.api.url)
    assert not (toy.root / background.RECORD).exists()
    assert "nothing that `keypipe up` has started is running" in toy.keypipe("down")


@pytest.mark.parametrize("setting", ["PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_an_address_of_a_server_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv(setting, f"http://ann:secret@127.0.0.1:{server.free_port()}")
    start = {"PREFECT_API_URL": keeper.run_prefect, "MLFLOW_TRACKING_URI": keeper.run_mlflow}[setting]
    with pytest.raises(PoseError, match=f"{setting} names .*nothing answers there") as caught, start(tmp_path, 0):
        raise AssertionError
    assert "secret" not in str(caught.value)


def test_what_ends_by_itself_is_started_again_at_its_address(lifted: Toy) -> None:
    url = kept(lifted).service("MLflow").url
    port = url.rpartition(":")[2]
    (serving, *_) = [line for line in lifted.processes() if "uvicorn" in line and f"--port {port}" in line]
    os.kill(int(serving.split()[0]), signal.SIGKILL)
    wait_until(lambda: kept(lifted).service("MLflow").restarts == 1, "it to be started again", WAIT)
    mlflow = kept(lifted).service("MLflow")
    assert (mlflow.state, mlflow.url) == ("up", url)
    assert answers(url)
    assert "restarted 1 times" in lifted.keypipe("status")
    assert "MLflow has ended by itself" in (lifted.root / background.LOG).read_text()


def test_a_killed_keeper_takes_its_servers_with_it_and_is_told(lifted: Toy) -> None:
    os.kill(kept(lifted).pid, signal.SIGKILL)
    wait_until(lambda: not lifted.processes(), f"{lifted.processes()} to be gone")
    assert "ended without `keypipe down`" in lifted.keypipe("status")
    assert "nothing that `keypipe up` has started is running" in lifted.keypipe("down")
    assert "services" not in lifted.keypipe("status")


def test_its_servers_end_when_the_folder_of_its_record_is_removed(lifted: Toy) -> None:
    (lifted.root / background.RECORD).unlink()
    wait_until(lambda: not lifted.processes(), f"{lifted.processes()} to be gone")


def test_ui_opens_what_is_up_and_ends(lifted: Toy, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    url = kept(lifted).service("MLflow").url
    output = lifted.keypipe("ui", "--open", BROWSER=f"{browser} %s")
    assert url in output
    wait_until((tmp_path / "opened").exists, "a page to be opened")
    assert (tmp_path / "opened").read_text().split() == [lifted.api.url.removesuffix("/api"), url]
    assert "Ctrl-C" not in output
    (tmp_path / "opened").unlink()
    lifted.keypipe("ui", BROWSER=f"{browser} %s")  # no terminal
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("mark", ["of an earlier boot-1", 1.0])
def test_a_number_that_another_process_has_by_now_is_left_alone(fresh: Toy, mark: str | float) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        try:
            record = Background(
                stranger.pid, mark, datetime.now().astimezone(), [Service("Prefect"), Service("MLflow")]
            )
            write_record(fresh.root / background.RECORD, record)
            assert "nothing that `keypipe up` has started is running" in fresh.keypipe("down")
            assert stranger.poll() is None
            assert not (fresh.root / background.RECORD).exists()
        finally:
            stranger.kill()


def test_the_server_of_another_command_stays(fresh: Toy) -> None:
    mine = server.ServerRecord(fresh.api.url, os.getpid(), start_mark(os.getpid()) or 0.0, "keypipe schedule")
    write_record(fresh.root / server.RECORD, mine)
    output = fresh.keypipe("down")
    assert f"is of `keypipe schedule` (pid {os.getpid()}) and stays" in output
    assert server.answers(fresh.api.url)
    assert server.recorded_server(fresh.root) == mine


def test_a_port_that_is_taken(fresh: Toy) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        output = up(fresh, "--mlflow-port", port, code=2)
        assert f"keypipe: port {port} of 127.0.0.1, asked for MLflow, is taken by another program" in output
        assert not fresh.processes()
    output = up(fresh, "--mlflow-port", port, "--prefect-port", port, code=2)
    assert "cannot be both" in output


def test_a_server_that_does_not_come_up_leaves_nothing_behind(fresh: Toy) -> None:
    (fresh.root / "mlflow.db").write_text("no database, and no file of nought bytes either")
    output = up(fresh, code=2)
    assert "keypipe: the server at http://127.0.0.1:" in output
    assert "file is not a database" in output
    wait_until(lambda: not fresh.processes(), f"{fresh.processes()} to be gone")
    assert not (fresh.root / background.RECORD).exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_commands_use_both_without_settings(fresh: Toy) -> None:
    toy = fresh
    output = up(toy, own_server=True)
    prefect, mlflow = (service.url for service in kept(toy).services)
    assert f"export PREFECT_API_URL={prefect}/api MLFLOW_TRACKING_URI={mlflow}" in output
    run = toy.start("run", own_server=True)
    said, _ = run.communicate(timeout=WAIT)
    assert run.returncode == 0, said
    assert "temporary" not in said
    with server.pointed_to(f"{prefect}/api"):
        assert [one.name for one in toy.api._flow_runs(toy.root)], "the run is on the server that is up"
    assert toy.keypipe("down").startswith("ended Prefect and MLflow")
    wait_until(lambda: not toy.processes(), f"{toy.processes()} to be gone")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_is_up_and_a_schedule_take_over_each_others_server(fresh: Toy) -> None:
    toy = fresh
    schedule = toy.start("schedule", "--cron", "0 3 1 1 *", "--flow", "training", own_server=True)
    assert schedule.stdout is not None
    threading.Thread(target=schedule.stdout.read, daemon=True).start()  # or a full pipe would stop it
    wait_until(lambda: read_status(toy.root).schedule is not None, "the schedule to be served", WAIT)
    found = server.recorded_server(toy.root)
    assert found is not None
    up(toy, own_server=True)
    prefect = kept(toy).service("Prefect")
    assert (prefect.state, f"{prefect.url}/api") == ("elsewhere", found.url)
    schedule.send_signal(signal.SIGINT)
    schedule.wait(timeout=WAIT)
    wait_until(lambda: kept(toy).service("Prefect").state == "up", "a server of its own", WAIT)
    assert kept(toy).service("Prefect").url == prefect.url, "at the same address"

    schedule = toy.start("schedule", "--cron", "0 3 1 1 *", "--flow", "training", own_server=True)
    assert schedule.stdout is not None
    said: list[str] = []
    threading.Thread(target=lambda: said.extend(schedule.stdout or ()), daemon=True).start()
    wait_until(lambda: read_status(toy.root).schedule is not None, "the schedule to be served", WAIT)
    # Its runner may be just registering, and end without the server: it is started again when there is one.
    assert toy.keypipe("down").startswith("ended Prefect and MLflow")
    wait_until(lambda: owner(toy) == "keypipe schedule" or schedule.poll() is not None, "its own server", WAIT)
    assert schedule.poll() is None, said
    assert server.answers(found.url), "at the same address"
    schedule.send_signal(signal.SIGINT)
    schedule.wait(timeout=WAIT)
    wait_until(lambda: not toy.processes(), f"{toy.processes()} to be gone")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_schedule_goes_on_when_the_server_of_up_dies_moves_or_is_given_up(fresh: Toy) -> None:
    toy = fresh
    up(toy, own_server=True)
    schedule = toy.start("schedule", "--cron", "0 3 1 1 *", "--flow", "training", own_server=True)
    assert schedule.stdout is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(schedule.stdout or ()), daemon=True)
    reader.start()
    served = "serving keypipe-training/"
    wait_until(lambda: served in "".join(said), "the schedule to be served", WAIT)
    first = kill_server(toy)
    wait_until(lambda: server.recorded_server(toy.root) is not None, "a server again", WAIT)
    assert server.recorded_server(toy.root).url == first.url, "at the same address"  # type: ignore[union-attr]

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kill_server(toy)
        other.bind(("127.0.0.1", int(first.url.removesuffix("/api").rpartition(":")[2])))
        other.listen()
        wait_until(lambda: server.recorded_server(toy.root) is not None, "a server again", WAIT)
        found = server.recorded_server(toy.root)
        assert found is not None
        assert found.url != first.url
        told = f"Prefect's server is at {found.url} by now; the schedule is registered there"
        wait_until(lambda: told in "".join(said), "the schedule to move", WAIT)
        wait_until(lambda: "".join(said).count(served) == 2, "it to be served there", WAIT)
        assert active_schedule(toy.root).url == found.url  # type: ignore[union-attr]

    database = toy.root / server.DATABASE
    kill_server(toy)
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    database.write_text("no database, and no file of nought bytes either")
    code = schedule.wait(timeout=WAIT)
    reader.join()
    assert code == 2, said
    (line,) = [line for line in said if line.startswith("keypipe: ")]
    assert line.startswith("keypipe: Prefect's server has ended and does not start again: the server at "), said
    assert active_schedule(toy.root) is None
    assert toy.keypipe("down").startswith("ended ")
    wait_until(lambda: not toy.processes(), f"{toy.processes()} to be gone")


def kill_server(toy: Toy) -> server.ServerRecord:
    """Kill Prefect's server of the workspace, whoever keeps it; returns how it was recorded."""
    record = server.recorded_server(toy.root)
    assert record is not None
    port = record.url.removesuffix("/api").rpartition(":")[2]
    lines = [line for line in toy.processes() if f"--port {port}" in line and "watch.py" not in line]
    for line in lines:
        os.kill(int(line.split()[0]), signal.SIGKILL)
    assert lines
    wait_until(lambda: server.is_free(int(port)), "its port to be free")
    return record


def test_a_server_that_was_given_up_or_has_moved_is_not_kept(tmp_path: Path) -> None:
    """The command that kept it lives on, as `keypipe up` does for the sake of MLflow."""
    with server.recorded(tmp_path, "http://127.0.0.1:9/api", "keypipe up") as record:
        assert server.is_kept(tmp_path, record)
        with server.recorded(tmp_path, "http://127.0.0.1:10/api", "keypipe up"):
            assert not server.is_kept(tmp_path, record)
    assert not server.is_kept(tmp_path, record)
    ended = server.ServerRecord("http://127.0.0.1:9/api", os.getpid(), 1.0, "keypipe schedule")
    write_record(tmp_path / server.RECORD, ended)
    assert not server.is_kept(tmp_path, ended)


def owner(toy: Toy) -> str:
    """Return the command that keeps the workspace's server."""
    record = server.recorded_server(toy.root)
    return record.command if record else ""


LISTENING = """
import socket, time
with socket.socket() as one:
    one.bind(("127.0.0.1", 0))
    one.listen()
    print(one.getsockname()[1], flush=True)
    time.sleep(600)
"""


def test_a_server_that_has_the_port_is_not_taken_for_the_one_that_was_started(tmp_path: Path) -> None:
    """Two workspaces that come up at once choose the same port; the second finds the first one's pages there."""
    command, log = [sys.executable, "-c", LISTENING], Path("log")
    with server.running_tree(tmp_path, command, os.environ, log) as tree, socket.socket() as other:
        wait_until(lambda: (tmp_path / log).read_text().strip(), "a port")
        assert tree.listens(int((tmp_path / log).read_text()))
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert not tree.listens(other.getsockname()[1])
