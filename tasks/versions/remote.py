"""What talks with a remote of git or DVC, in a process of its own: a remote that never answers is given up.

As a program it lets DVC talk with its remote: python remote.py ROOT fetch|fetch-files|push, with names on stdin.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from keypipe.errors import DatasetError, PoseError
from tasks.versions.repository import BusyError, opened

GIT_SECONDS = 600.0
"""Time that a remote of git may take, so that one that hangs does not hold the workspace for ever."""
DVC_SECONDS = 6 * 3600.0
"""The same of DVC, whose data are larger: a night."""
_BUSY = 3


class Said(NamedTuple):
    """How a program ended, and what it printed."""

    code: int
    out: bytes
    err: bytes


def run_limited(
    command: Sequence[str], seconds: float, who: str, *, env: Mapping[str, str], stdin: bytes = b""
) -> Said:
    """Run a program that talks with a remote.

    Args:
        command: it.
        seconds: time that it may take.
        who: what it is called in a message.
        env: all of its environment.
        stdin: what it reads.

    Raises:
        PoseError: it takes longer; it and the programs that it started are ended then.
    """
    with subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # git takes its lock files away
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise PoseError(f"{who}: the remote has not answered or ended in {seconds:g} s") from None
    return Said(process.returncode, out, err)


def ask_dvc(root: Path, what: str, names: Iterable[str] = (), seconds: float | None = None) -> None:
    """Let DVC talk with its remote.

    Args:
        root: the workspace.
        what: ``fetch`` brings objects into the cache, ``fetch-files`` those of files of the workspace, ``push`` takes
            what the workspace names to the remote.
        names: md5s of the objects, or paths of the files; of none: all files.
        seconds: time that it may take; None: ``DVC_SECONDS``.

    Raises:
        BusyError: another DVC command is at work.
        DatasetError: the remote does not answer, or refuses.
    """
    repository = str(Path(__file__).resolve().parents[2])
    paths = [repository, *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", str(Path(__file__).resolve()), str(root), what]
    limit = DVC_SECONDS if seconds is None else seconds
    try:
        said = run_limited(
            command, limit, f"dvc {what.partition('-')[0]}", env=env, stdin=msgspec.json.encode(sorted(names))
        )
    except PoseError as error:
        raise DatasetError(str(error)) from None
    if said.code == 0:
        return
    text = said.out.decode("utf-8", "replace").strip() or said.err.decode("utf-8", "replace").strip()[-500:]
    raise BusyError(text) if said.code == _BUSY else DatasetError(f"DVC's remote: {text}")


def main(root: Path, what: str, names: Sequence[str]) -> int:
    """Do it in this process; returns the exit code, having printed why where it is not 0."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc_data.hashfile.hash_info import HashInfo

    try:
        with opened(root) as repo:
            if what == "push":
                repo.push()  # waits for nobody by itself
            elif what == "fetch-files":
                repo.fetch(list(names) or None)
            else:
                repo.cloud.pull({HashInfo("md5", name) for name in names})
    except (LockError, BusyError) as error:
        print(error)  # noqa: T201
        return _BUSY
    except (DvcException, OSError, PoseError) as error:
        print(error or type(error).__name__)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], msgspec.json.decode(sys.stdin.buffer.read(), type=list[str])))
