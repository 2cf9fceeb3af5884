"""SIGKILL inside of what SQLite writes, for MLflow and for Prefect: between a journal, a page and their sync."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.flows.toy import Toy, wait_until
from tests.imports import ROOT
from tests.patience import PATIENCE
from tests.workspace import environment

CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink"
"""System calls by which SQLite writes."""

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]


def trace(database: Path, *options: str) -> list[str]:
    """Return the command that watches what a program, which follows, or a process does to a database."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    places = [part for suffix in ("", "-wal", "-journal") for part in ("-P", f"{database}{suffix}")]
    return ["strace", "--follow-forks", "--quiet=all", *places, "-e", f"trace={CALLS}", *options]


def kill_at(call: int) -> list[str]:
    """Return the options by which the so many-th of the calls ends the process."""
    return ["-o", "/dev/null", "-e", f"inject={CALLS}:signal=SIGKILL:when={call}"]


def check_sound(database: Path) -> None:
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)


RECORDS = """
import sys
from pathlib import Path
from tasks.tracking import runs
from tests.tasks.tracking.sending.test_delivery import make_record
live = runs.start_training(Path(sys.argv[1]), make_record())
with runs.ending(live):
    for epoch in range(1, 9):
        live.log_metrics({"train/pose_loss": 1 / epoch}, epoch)
        print(epoch, flush=True)  # it is written down now
        live.reach()
"""
DELIVERS = """
import sys
from pathlib import Path
from tasks.tracking.sending.delivery import deliver_all
deliver_all(Path(sys.argv[1]))
"""


def run(code: str, root: Path, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*within, sys.executable, "-c", code, str(root)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose database has its tables."""
    root = tmp_path_factory.mktemp("recorded") / "workspace"
    root.mkdir()
    done = run(RECORDS, root)
    assert done.returncode == 0, done.stderr
    return root


def test_a_kill_within_a_write_to_mlflows_database_loses_no_figure_and_doubles_none(
    recorded: Path, tmp_path: Path
) -> None:
    counted = shutil.copytree(recorded, tmp_path / "counted")
    done = run(RECORDS, counted, trace(counted / "mlflow.db", "-o", str(tmp_path / "calls")))
    assert done.returncode == 0, done.stderr
    calls = len((tmp_path / "calls").read_text().splitlines())
    assert calls > 20
    killed = 0
    for call in random.Random(0).sample(range(1, calls), 10):
        root = shutil.copytree(recorded, tmp_path / f"call{call}")
        known = set(runs_of(root))
        done = run(RECORDS, root, [*trace(root / "mlflow.db", *kill_at(call))])
        killed += done.returncode == -signal.SIGKILL
        told = [int(line) for line in done.stdout.splitlines() if line.isdigit()]
        check_sound(root / "mlflow.db")
        done = run(DELIVERS, root)
        assert done.returncode == 0, done.stderr
        check_sound(root / "mlflow.db")
        new = set(runs_of(root)) - known
        assert len(new) <= 1, f"call {call}"
        steps = Counter(step for run_id in new for step in steps_of(root, run_id))
        assert set(steps.values()) <= {1}, f"call {call}: {steps}"
        assert set(told) <= set(steps), f"call {call}: of {told} there are {sorted(steps)}"
        shutil.rmtree(root)
    assert killed >= 5, f"{killed} of 10"


def runs_of(root: Path) -> list[str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return [run_id for (run_id,) in database.execute("SELECT run_uuid FROM runs")]


def steps_of(root: Path, run_id: str) -> list[int]:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        query = "SELECT step FROM metrics WHERE run_uuid = ? AND key = 'train/pose_loss'"
        return [step for (step,) in database.execute(query, (run_id,))]


def find_server(toy: Toy) -> psutil.Process | None:
    """Return the process that has the workspace's own database of Prefect open."""
    database = str(toy.root / ".keypipe/prefect.db")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(file.path == database for file in process.open_files()):
                return process
    return None


@pytest.mark.parametrize("call", random.Random(1).sample(range(1, 120), 3))
def test_a_kill_of_prefects_server_within_a_write_to_its_database_keeps_no_run_from_its_end(
    ran: Toy, call: int
) -> None:
    ran.edit(label="calf")
    process = ran.start("run", own_server=True, TOY_SLEEP_TRAIN="8")
    wait_until((ran.root / ".keypipe/asleep-train").exists, "train to be at work")
    wait_until(lambda: find_server(ran), "the server")
    server = find_server(ran)
    assert server is not None
    database = ran.root / ".keypipe/prefect.db"
    watch = subprocess.Popen([*trace(database, *kill_at(call)), "-p", str(server.pid)])
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "calf" in ran.text("exports/best.onnx")
    assert watch.wait(PATIENCE) is not None
    check_sound(database)
    again = ran.start("run", own_server=True)
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert output.count("Cached") >= 5
