"""What ``keypipe up`` keeps in the background: its record, as other commands see it, and how it is started and ended.

One process of its own for each workspace, the keeper (keeper.py), starts Prefect's and MLflow's servers, watches them
and starts again what ends by itself. They live below it, so ending it ends them; nobody else's process is ever ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import msgspec

from flows.services import server
from flows.system.locks import held_lock
from flows.system.state_files import read_record
from keypipe.errors import PoseError
from tasks.tracking.machine import is_alive, start_mark
from tasks.workspace.places import STATE

RECORD = STATE / "up.json"
LOG = STATE / "up.log"
LOCK = STATE / "up.lock"
"""Held by the keeper as long as it lives, so that a workspace has one at most."""
TURN = STATE / "up-turn.lock"
"""Held by ``up`` and ``down``, which take turns."""
KEEPER = Path(__file__).with_name("keeper.py")
NAMES = ("Prefect", "MLflow")
END_SECONDS = 30.0
"""From SIGTERM to SIGKILL of the keeper; the servers themselves get 5 s."""

STARTING, UP, FAILED, ELSEWHERE = "starting", "up", "failed", "elsewhere"


class Service(msgspec.Struct):
    """One of the two servers.

    Attributes:
        name: of ``NAMES``.
        state: ``starting``, ``up``, ``failed`` (given up), or ``elsewhere``: somebody else's, which is used as it is.
        url: address of its pages, without a path.
        detail: whose it is, or why it failed.
        log: file in the workspace that it prints into.
        restarts: how often it ended by itself and was started again.
    """

    name: str
    state: str = STARTING
    url: str = ""
    detail: str = ""
    log: str = ""
    restarts: int = 0


class Background(msgspec.Struct):
    """What is kept in the background.

    Attributes:
        pid: the keeper.
        started: mark of the start of that process.
        since: when it was started.
        services: Prefect and MLflow.
    """

    pid: int
    started: str | float
    since: datetime
    services: list[Service]

    @property
    def alive(self) -> bool:
        """Whether the keeper runs."""
        return is_alive(self.pid, self.started)

    def service(self, name: str) -> Service:
        """Return one of the services."""
        return next(service for service in self.services if service.name == name)

    def is_in(self, *states: str) -> bool:
        """Tell whether any service is in one of some states."""
        return any(service.state in states for service in self.services)


class Wanted(msgspec.Struct, frozen=True):
    """What ``keypipe up`` asks of the keeper.

    Attributes:
        prefect_port: of 127.0.0.1; None: the usual one, or another if it is taken.
        mlflow_port: the same of MLflow.
        seconds: that each server may take to start.
    """

    prefect_port: int | None = None
    mlflow_port: int | None = None
    seconds: float = server.START_SECONDS


def find_background(root: Path) -> Background | None:
    """Return what was started and not ended by ``keypipe down``; its keeper may have been killed since."""
    return read_record(root / RECORD, Background)


def bring_up(root: Path, wanted: Wanted, say: server.Say) -> tuple[Background, bool]:
    """Have both servers up in the background.

    Args:
        root: the workspace.
        wanted: ports, and how long a start may take.
        say: gets messages for the user.

    Returns:
        What is kept, and whether it was started just now.

    Raises:
        PoseError: a port is taken, or a server does not come up; nothing is left behind then.
    """
    (root / STATE).mkdir(exist_ok=True)
    with held_lock(root / TURN, lambda: None):
        found = find_background(root)
        if found is not None and found.alive and not found.is_in(FAILED):
            _check_ports_are_its_own(found, wanted)
            return found, False
        take_down(root, _turn_is_ours=True)
        _check_ports_are_free(wanted)
        say("starting Prefect and MLflow (some seconds)")
        return _start(root, wanted, say), True


def _check_ports_are_its_own(found: Background, wanted: Wanted) -> None:
    for name, port in zip(NAMES, (wanted.prefect_port, wanted.mlflow_port), strict=True):
        service = found.service(name)
        if port is not None and service.state != ELSEWHERE and not service.url.endswith(f":{port}"):
            raise PoseError(f"{name} is up already, at {service.url}; `keypipe down` ends it, then take another port")


def _check_ports_are_free(wanted: Wanted) -> None:
    for name, port in zip(NAMES, (wanted.prefect_port, wanted.mlflow_port), strict=True):
        if port is not None and not server.is_free(port):
            raise PoseError(
                f"port {port} of 127.0.0.1, asked for {name}, is taken by another program; name another one, or none"
                " for one that is free"
            )
    if wanted.prefect_port is not None and wanted.prefect_port == wanted.mlflow_port:
        raise PoseError(f"port {wanted.prefect_port} cannot be both Prefect's and MLflow's; name two")


def _start(root: Path, wanted: Wanted, say: server.Say) -> Background:
    with (root / LOG).open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-P", str(KEEPER), str(root), msgspec.json.encode(wanted).decode()],
            cwd=root,
            env=os.environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    told: set[str] = set()
    try:
        while keeper.poll() is None:
            found = find_background(root)
            if found is not None and found.pid == keeper.pid:
                for service in found.services:
                    if service.state != STARTING and service.name not in told:
                        told.add(service.name)
                        say(f"{service.name} is {service.state}")
                if not found.is_in(STARTING):
                    return found
            time.sleep(0.1)
    except BaseException:  # Ctrl-C: what has not come up is not left half-way
        keeper.terminate()
        keeper.wait()
        raise
    said = (root / LOG).read_text(encoding="utf-8", errors="replace").strip()
    raise PoseError(said.rpartition("keypipe: ")[2] or f"the keeper ended with exit code {keeper.returncode}")


def take_down(root: Path, *, _turn_is_ours: bool = False) -> Background | None:
    """End what ``keypipe up`` has started, and nothing else.

    Returns:
        What ran until now; None if nothing did.

    Raises:
        PoseError: it belongs to another user.
    """
    if not _turn_is_ours:
        if not (root / STATE).exists():
            return None
        with held_lock(root / TURN, lambda: None):
            return take_down(root, _turn_is_ours=True)
    found = find_background(root)
    ran = found is not None and found.alive
    if found is not None and ran:
        _end(found)
    (root / RECORD).unlink(missing_ok=True)  # of a keeper that was killed
    return found if ran else None


def _end(found: Background) -> None:
    """End the keeper, and with it what lives below it."""
    try:
        os.kill(found.pid, signal.SIGTERM)
        deadline = time.monotonic() + END_SECONDS
        while found.alive:
            if time.monotonic() > deadline:
                os.kill(found.pid, signal.SIGKILL)  # the servers' watchers notice, and end them
            time.sleep(0.05)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise PoseError(f"the servers (pid {found.pid}) were started by another user, who can end them") from error


def own_record(services: list[Service]) -> Background:
    """Return the record of this process as the keeper."""
    mark = start_mark(os.getpid()) or time.time()
    return Background(os.getpid(), mark, datetime.now().astimezone(), services)


def describe(found: Background) -> list[tuple[str, str]]:
    """Return what is kept in the background, as pairs of a heading and a line."""
    if not found.alive:
        return [("services", "ended without `keypipe down`, such as by a restart of the machine; `keypipe up` again")]
    return [(service.name.lower(), _describe(service, found.since)) for service in found.services]


def _describe(service: Service, since: datetime) -> str:
    text = f"{service.url or 'no address yet'}, {service.state}"
    if service.state == UP:
        text += f" since {since:%Y-%m-%d %H:%M}" if server.answers_at(service.url) else ", but does not answer"
    text += f", restarted {service.restarts} times" if service.restarts else ""
    text += f": {service.detail}" if service.detail else ""
    return f"{text}; its log is {service.log}" if service.state in (FAILED, STARTING) else text
