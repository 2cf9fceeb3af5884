"""Runs a command in a process tree of its own that never outlives this process."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

GRACE_SECONDS = 10.0
"""From SIGTERM to SIGKILL."""

WATCH = Path(__file__).with_name("watch.py")


class Tree:
    """A command and all its descendants, under a watcher that ends them when this process does.

    Attributes:
        session: id of the session that all of them belong to; the watcher's pid.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        grace: float = GRACE_SECONDS,
        output: IO[bytes] | None = None,
    ) -> None:
        """Start the command.

        Args:
            command: program and arguments.
            cwd: its working folder.
            env: its whole environment.
            grace: seconds from SIGTERM to SIGKILL when it is ended.
            output: file that gets what it prints; by default a pipe that ``lines`` reads.
        """
        self._grace = grace
        # -P: the watcher's folder is the flows package, whose modules must not hide others.
        watch = [sys.executable, "-P", str(WATCH), "--grace", str(grace), "--", *command]
        self._watcher = subprocess.Popen(
            watch,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.session = self._watcher.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._watcher.poll() is None

    def listens(self, port: int) -> bool:
        """Tell whether one of its processes takes connections at a port."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.session).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    found = process.net_connections("tcp")
                    if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found):
                        return True
        return False

    def lines(self, poll: Callable[[], None] = lambda: None, interval: float = 1.0) -> Iterator[str]:
        """Yield what it prints, line by line, until it ends.

        Args:
            poll: called about every ``interval`` seconds; what it raises ends the iteration.
            interval: seconds.
        """
        assert self._watcher.stdout is not None
        yield from read_lines(self._watcher.stdout, poll, interval, lambda: not self.running)

    def wait(self) -> int:
        """Wait for the end and return the command's exit code, 128 + n for signal n."""
        code = self._watcher.wait()
        self._close()
        if code < 0:
            # The watcher itself was killed: nobody else ends what it watched.
            end_session(self.session)
        return code

    def end(self) -> None:
        """End the whole tree: SIGTERM, and SIGKILL after the grace time."""
        with undisturbed():
            with contextlib.suppress(OSError):
                assert self._watcher.stdin is not None
                self._watcher.stdin.close()
            deadline = time.monotonic() + self._grace + 5
            while self.running and time.monotonic() < deadline:
                self._drain()
                time.sleep(0.02)
            if self.running:
                self._watcher.kill()
            self.wait()

    def _drain(self) -> None:
        """Throw away what it still prints, or a full pipe would keep it from ending."""
        if (out := self._watcher.stdout) is not None:
            os.set_blocking(out.fileno(), False)
            with contextlib.suppress(BlockingIOError, OSError):
                os.read(out.fileno(), 1 << 16)

    def _close(self) -> None:
        for pipe in (self._watcher.stdin, self._watcher.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put SIGINT and SIGTERM off until the block has ended, so that clearing up is not broken off half-way.

    A runner that stops sends a second SIGTERM, and people press Ctrl-C twice.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])


def read_lines(
    pipe: IO[bytes],
    poll: Callable[[], None],
    interval: float,
    ended: Callable[[], bool],
) -> Iterator[str]:
    r"""Yield lines as they come, split at ``\n`` and at the ``\r`` of progress bars, without the empty ones."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            ready = selector.select(interval)
            poll()
            if not ready:
                if ended():
                    break
                continue
            chunk = os.read(pipe.fileno(), 1 << 16)
            if not chunk:
                break
            *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
            yield from filter(None, map(clean_line, whole))
    if last := clean_line(rest):
        yield last


ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def clean_line(line: bytes) -> str:
    """Return a line as text without terminal colours and trailing blanks."""
    return ESCAPE.sub("", line.decode("utf-8", "replace")).rstrip()


UNTRACKED = {
    "DO_NOT_TRACK": "true",  # Prefect takes "1" as well, MLflow this word alone
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's, from 1.29 on, of every import
}
"""By what no program that keypipe starts reports how it is used; what the user has set of it stays."""


def program_environment() -> dict[str, str]:
    """Return the environment in which DVC and the stages run on the interpreter that runs this."""
    return {
        **UNTRACKED,
        **os.environ,
        # `python` in dvc.yaml is looked up here
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "KEYPIPE_RUN": "1",
        "PYTHONUNBUFFERED": "1",
    }


def end_session(session: int) -> None:
    """Kill every process of a session whose leader is gone."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session:
                process.kill()


def end_marked(variable: str, value: str) -> int:
    """Kill every process whose environment has ``variable=value`` and return how many there were.

    An inherited mark is a surer sign than a process number, which the system gives away again.
    """
    ended = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                ended += 1
    return ended
