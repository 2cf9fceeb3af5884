"""A small program that runs a command and ends its whole process tree when whoever started it is gone.

``python watch.py [--grace SECONDS] -- COMMAND...`` runs COMMAND in a process group of its own. Standard input is a
pipe that the starter holds open: when it closes, because the starter closed it or died (also by SIGKILL), or on
SIGTERM, every process of the tree gets SIGTERM, and after the grace time SIGKILL. The exit code is the command's, or
128 + signal. It stays apart from the package, so that it starts in a few hundredths of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

import psutil

PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_GRACE_SECONDS = 1.0


def main() -> int:
    """Run the command to its end, or to the starter's."""
    grace, command = _parse_arguments(sys.argv[1:])
    _adopt_orphans()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    # A handler that does nothing, since the command would inherit SIG_IGN.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            numbers = os.read(wake_read, 4096)
            code = _reap(child.pid)
            if code is not None:
                _end_tree(LEFTOVER_GRACE_SECONDS)
                return code
            if signal.SIGTERM in numbers:
                break
        if 0 in ready and not os.read(0, 4096):
            break
    _end_tree(grace)
    return 128 + signal.SIGTERM


def _parse_arguments(arguments: list[str]) -> tuple[float, list[str]]:
    cut = arguments.index("--")
    grace = float(arguments[1]) if arguments[:1] == ["--grace"] else 10.0
    return grace, arguments[cut + 1 :]


def _adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that none escapes by forking twice (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(child: int) -> int | None:
    """Collect ended children; the exit code of the command when it is among them."""
    code: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                result = os.waitstatus_to_exitcode(status)
                code = result if result >= 0 else 128 - result
    return code


def _end_tree(grace: float) -> None:
    """SIGTERM to every descendant, SIGKILL to those that are left after the grace time, until none is left."""
    deadline = time.monotonic() + grace
    _reap(0)
    terminated: set[int] = set()
    while tree := _descendants():
        for process in tree:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() >= deadline:
                    process.kill()
                elif process.pid not in terminated:
                    terminated.add(process.pid)
                    process.terminate()
        time.sleep(0.02)
        _reap(0)


def _descendants() -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process().children(recursive=True))
    return []


if __name__ == "__main__":
    sys.exit(main())
