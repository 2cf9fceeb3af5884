"""A prediction server as its users start it: a process of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from tests.imports import ROOT
from tests.patience import PATIENCE


class Served(NamedTuple):
    """A server that listens."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of ``keypipe serve``, of the code of this clone."""
    return [sys.executable, "-m", "keypipe", "serve", *map(str, arguments)]


def surroundings() -> dict[str, str]:
    """Return an environment in which this clone's library is found from any folder, with a cache of its own."""
    caches = Path(tempfile.gettempdir()) / f"keypipe-caches-{os.getpid()}"
    atexit.register(shutil.rmtree, caches, ignore_errors=True)
    return os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(caches / uuid4().hex)}


@contextmanager
def serving(
    folder: Path, *arguments: str | Path, program: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Start a server on a free port, wait until it listens, and end it afterwards.

    Args:
        folder: where it is started; in a workspace it is the command of the clone, elsewhere the package's own.
        arguments: the model and options.
        program: another ``keypipe serve`` than this clone's.
        env: its environment.
    """
    with subprocess.Popen(
        [*(program or command()), *map(str, arguments), "--port", "0"],
        cwd=folder,
        env=surroundings() if env is None else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("serving "), process.communicate()[1]
            yield Served(process, line.split()[-1])
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
