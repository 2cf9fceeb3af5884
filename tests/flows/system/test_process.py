"""Process trees: what they print, how they end, and that nothing of them lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.services.server import settings
from flows.system.process import UNTRACKED, Tree, program_environment, read_lines
from tests.flows.toy import wait_until

FORKER = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal = __import__("signal"); signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(float(sys.argv[2]))
sys.exit(7)
"""


def test_a_tree_ends_with_all_that_has_forked_away(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    tree = Tree([sys.executable, "-c", FORKER, str(note), "600"], cwd=tmp_path, env=dict(os.environ), grace=0.5)
    wait_until(lambda: note.exists() and note.read_text(), "the fork")
    pid = int(note.read_text())
    assert psutil.pid_exists(pid)
    tree.end()
    assert not psutil.pid_exists(pid)


def test_a_tree_tells_the_exit_code_and_leaves_no_fork(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    tree = Tree([sys.executable, "-c", FORKER, str(note), "0.1"], cwd=tmp_path, env=dict(os.environ))
    assert list(tree.lines()) == []
    assert tree.wait() == 7
    assert not psutil.pid_exists(int(note.read_text()))


def test_a_tree_survives_the_death_of_its_watcher_by_nobody(tmp_path: Path) -> None:
    tree = Tree([sys.executable, "-c", "import time; time.sleep(600)"], cwd=tmp_path, env=dict(os.environ))
    wait_until(lambda: psutil.Process(tree.session).children(), "the command")
    (child,) = psutil.Process(tree.session).children()
    os.kill(tree.session, signal.SIGKILL)
    assert tree.wait() == -signal.SIGKILL
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the command to end")


def test_lines_are_split_at_carriage_returns_as_well(tmp_path: Path) -> None:
    code = r"import sys; sys.stdout.write('one\r\n\n  \rtwo\x1b[0m 1%\rtwo 2%\nthree')"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    with process:
        lines = list(read_lines(process.stdout, lambda: None, 0.1, lambda: process.poll() is not None))
    assert lines == ["one", "two 1%", "two 2%", "three"]


def test_no_program_reports_usage_unless_its_user_asks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in UNTRACKED:
        monkeypatch.delenv(name, raising=False)
    for environment in (program_environment(), settings(tmp_path)):  # of stages and DVC, of Prefect and its server
        assert environment.items() >= UNTRACKED.items()
    assert UNTRACKED["DO_NOT_TRACK"] == "true", "MLflow takes no other word"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    assert program_environment()["MLFLOW_DISABLE_TELEMETRY"] == "false"
