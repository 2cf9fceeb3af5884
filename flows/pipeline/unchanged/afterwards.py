"""Runs with nothing to do, told to Prefect after the person at the terminal has their answer.

Each is written down, in ``.keypipe/unchanged-runs``, until Prefect knows it; a process of its own tells all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import msgspec

from flows.pipeline.run_result import RunResult
from flows.system.state_files import read_record, write_record
from tasks.versions.stages.unchanged import Unchanged
from tasks.workspace.places import STATE

FOLDER = STATE / "unchanged-runs"
LOG = STATE / "unchanged-runs.log"
TELLER = Path(__file__).with_name("afterwards_program.py")
PATIENCE_SECONDS = 60.0
"""A run that is not told after this time is one that somebody should know of."""


class Untold(msgspec.Struct):
    """A run with nothing to do.

    Attributes:
        run: what it came to.
        found: what DVC said.
        until: its last stage, where one was named.
        flow_run_id: Prefect's, once there is one.
    """

    run: RunResult
    found: Unchanged
    until: str | None = None
    flow_run_id: str = ""


def tell(root: Path, untold: Untold) -> None:
    """Write a run down and have a process tell it, and all others that wait, to the Prefect server in use."""
    write_record(root / FOLDER / f"{uuid.uuid4().hex}.json", untold)
    with (root / LOG).open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", str(TELLER), str(root)],
            cwd=Path.cwd(),  # where Prefect looks for settings
            env=os.environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def list_untold(root: Path) -> list[tuple[Path, Untold]]:
    """Return the runs that wait to be told, oldest first, and their files."""
    paths = sorted((root / FOLDER).glob("*.json"), key=lambda path: path.stat().st_mtime)
    return [(path, untold) for path in paths if (untold := read_record(path, Untold)) is not None]


def describe_untold(root: Path) -> list[str]:
    """Return what Prefect was not told in good time."""
    late = [path for path in (root / FOLDER).glob("*.json") if time.time() - path.stat().st_mtime > PATIENCE_SECONDS]
    runs = f"{len(late)} {'run' if len(late) == 1 else 'runs'} in which nothing was to do"
    return [f"Prefect was not told of {runs}; the next one tells it, and {LOG} says why"] if late else []
