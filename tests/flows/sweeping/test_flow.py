"""What a sweep does with a trial whose end is no failure of its training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspace import environment, make_workspace

PROGRAM = """
import sys
from pathlib import Path
from types import SimpleNamespace

from flows.services import server

root = Path(sys.argv[1])
server.configure(root)
with server.connected(root, print):
    from prefect import flow
    from flows.sweeping.flow import _Sweep

    class Full(_Sweep):
        def __init__(self, away):
            self._presence = SimpleNamespace(away=away)

        def _run(self, tree, trial, values):
            print("training", self._presence.away)
            raise OSError(28, "No space left on device")

    @flow
    def sweeping():
        for away in (True, False):
            try:
                Full(away)._run_as_task(Path("tree"), SimpleNamespace(number=1), {})
            except OSError as error:
                print("told:", error.strerror)

    sweeping()
"""


@pytest.mark.slow
def test_a_full_disk_is_told_and_nothing_is_trained_again(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "farm", n_images=0)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, root], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("training", "told"))]
    told = "told: No space left on device"
    assert lines == ["training True", told, "training False", told], done.stdout + done.stderr
