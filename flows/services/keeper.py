"""Keeps Prefect's and MLflow's servers of a workspace up: ``python keeper.py WORKSPACE WANTED``.

``keypipe up`` starts it in a session of its own; ``keypipe down`` ends it, and with it all that it has started. It
imports Prefect or MLflow only where their settings or database have to be asked, so it stays small.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))  # the folder that holds the package `flows`

import msgspec

from flows.services import background, mlflow_server, server
from flows.services.background import ELSEWHERE, FAILED, STARTING, UP, Background, Service, Wanted
from flows.system.locks import LockedError, held_lock
from flows.system.state_files import read_record, write_record
from keypipe.addresses import hide_password
from keypipe.errors import PoseError

POLL_SECONDS = 1.0
TRIES = 5
"""How often in a row a server is started again; one that stayed up for a minute has all of them again."""
STEADY_SECONDS = 60.0


class Running(NamedTuple):
    """A server that answers.

    Attributes:
        url: its address, without a path.
        lives: tells whether it is still there.
        owner: whose it is, where it is not the keeper's own.
    """

    url: str
    lives: Callable[[], bool]
    owner: str = ""


Run = Callable[[int], AbstractContextManager[Running]]
"""Runs a server at a port while a block runs, or finds somebody else's; raises PoseError where it does not come up."""


class Kept:
    """A server that is kept up.

    Attributes:
        service: what others are told of it.
    """

    def __init__(self, service: Service, run: Run, asked: int | None, usual: int, say: server.Say) -> None:
        self.service = service
        self._run = run
        self._say = say
        self._asked = asked
        self._port = asked or server.preferred_port(usual)
        self._block = ExitStack()
        self._running: Running | None = None
        self._since = self._again_at = time.monotonic()
        self._failures = 0

    def start(self) -> None:
        """Start it and wait until it answers; on another port where somebody took this one, and nobody asked for it.

        Raises:
            PoseError: it does not come up.
        """
        try:
            self._running = self._block.enter_context(self._run(self._port))
        except PoseError:
            if self._asked is not None or server.is_free(self._port):
                raise
            self._port = server.free_port()
            self._running = self._block.enter_context(self._run(self._port))
        self._since = time.monotonic()
        self.service.url, self.service.detail = self._running.url, self._running.owner
        self.service.state = ELSEWHERE if self._running.owner else UP
        if self._running.owner and self._asked is None:  # where it is started when that one ends
            self._port = urlsplit(self._running.url).port or self._port

    def end(self) -> None:
        """End it."""
        self._running = None
        self._block.close()

    def look(self) -> bool:
        """Start it again where it has ended by itself; returns whether there is something to tell."""
        now = time.monotonic()
        if self._running is not None:
            if self._running.lives():
                return False
            owner = self._running.owner
            self._say(f"{self.service.name} {owner} has ended" if owner else f"{self.service.name} has ended by itself")
            self._failures = 0 if now - self._since > STEADY_SECONDS else self._failures
            self.end()
            self.service.state, self._again_at = STARTING, now + 2.0**self._failures
            return True
        if self.service.state == FAILED or now < self._again_at:
            return False
        self._failures += 1
        try:
            self.start()
        except PoseError as error:
            self._say(str(error))
            self.service.detail = str(error).splitlines()[0]
            self.service.state = FAILED if self._failures >= TRIES else STARTING
            self._again_at = time.monotonic() + 2.0**self._failures
            return True
        self.service.restarts += self.service.state == UP
        self._say(f"{self.service.name} is {self.service.state} again, {self.service.url}")
        return True


@contextmanager
def run_prefect(root: Path, port: int) -> Iterator[Running]:
    """Run Prefect's server, unless the user has one, or another command of this workspace keeps one."""
    own = server.find_configured_url()
    if own is not None:
        shown = hide_password(own).rstrip("/").removesuffix("/api")
        _check_answers(own, "PREFECT_API_URL")
        yield Running(shown, lambda: True, "the one that Prefect's settings name")
        return
    with run_own_prefect(root, "keypipe up", say, port) as running:
        yield running


@contextmanager
def run_own_prefect(root: Path, command: str, say: server.Say, port: int) -> Iterator[Running]:
    """Run Prefect's server of the workspace, unless another command keeps one; ``command`` is how others know it."""
    with server.joined_server(root, command, say, port) as (record, tree):
        url = record.url.removesuffix("/api")
        if tree is not None:
            yield Running(url, lambda: tree.running)
        else:
            yield Running(url, lambda: server.is_kept(root, record), f"of `{record.command}`, pid {record.pid}")


def _check_answers(url: str, setting: str) -> None:
    """Refuse an address of this machine where nobody listens, such as one that was exported for a server of before."""
    if urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"} and not server.answers(url):
        raise PoseError(
            f"{setting} names {hide_password(url)}, and nothing answers there; start that server, or unset {setting}:"
            " then `keypipe up` starts one"
        )


@contextmanager
def run_mlflow(root: Path, port: int) -> Iterator[Running]:
    """Run MLflow's server for the workspace's database, unless the trainings are on another one."""
    elsewhere = mlflow_server.remote_address(root)
    if elsewhere is not None:
        _check_answers(elsewhere, "MLFLOW_TRACKING_URI")
        yield Running(hide_password(elsewhere).rstrip("/"), lambda: True, "the one that MLFLOW_TRACKING_URI names")
        return
    with mlflow_server.running_server(root, port) as (tree, url):
        yield Running(url, lambda: tree.running)


def keep(root: Path, wanted: Wanted) -> None:
    """Start both servers and keep them up until the process is told to end, or its record is gone.

    Raises:
        PoseError: one of them does not come up at the start.
    """
    services = [
        Service("Prefect", log=server.LOG.as_posix()),
        Service("MLflow", log=mlflow_server.LOG.as_posix()),
    ]
    record = background.own_record(services)
    runs: list[tuple[Run, int | None, int]] = [
        (partial(run_prefect, root), wanted.prefect_port, server.PORT),
        (partial(run_mlflow, root), wanted.mlflow_port, mlflow_server.PORT),
    ]
    with ExitStack() as stack:
        stack.callback(_forget, root, record)
        write_record(root / background.RECORD, record)
        kept: list[Kept] = []
        for service, (run, asked, usual) in zip(services, runs, strict=True):
            one = Kept(service, run, asked, usual, say)
            stack.callback(one.end)
            one.start()
            kept.append(one)
            write_record(root / background.RECORD, record)
        say("both are up")
        while _is_mine(root, record):
            time.sleep(POLL_SECONDS)
            changed = [one.look() for one in kept]
            if any(changed) and _is_mine(root, record):
                write_record(root / background.RECORD, record)
        say("its record is gone")


def _is_mine(root: Path, record: Background) -> bool:
    """Tell whether the record is still there: with ``.keypipe`` removed, nobody would find these servers again."""
    found = read_record(root / background.RECORD, Background)
    return found is not None and found.pid == record.pid


def _forget(root: Path, record: Background) -> None:
    if _is_mine(root, record):
        with suppress(OSError):
            (root / background.RECORD).unlink(missing_ok=True)


def say(text: str) -> None:
    """Write a line into the log."""
    sys.stdout.write(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {text}\n")
    sys.stdout.flush()


def main(root: Path, wanted: Wanted) -> None:
    """Keep the servers up; only one process of a workspace does."""

    def end(*_: object) -> NoReturn:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.configure(root)
    server.START_SECONDS = wanted.seconds
    try:
        with held_lock(root / background.LOCK):
            keep(root, wanted)
    except LockedError:
        sys.exit("keypipe: another `keypipe up` of this workspace is just starting them; try again")
    except PoseError as error:
        sys.exit(f"keypipe: {error}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Wanted))
