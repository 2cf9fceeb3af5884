"""Several machines on one folder: who holds it, since when, whether it lives, and how to take a dead one's lock away.

A machine is a namespace with a host name and process numbers of its own, where this user may make one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.commands.status import read_status, show_status
from flows.pipeline import lease
from flows.system import signs
from flows.system.state_files import read_record, write_record
from keypipe.errors import PoseError
from tests.flows.toy import Toy, wait_until
from tests.imports import ROOT
from tests.patience import PATIENCE

YESTERDAY = datetime.now().astimezone() - timedelta(days=1)
BARN = f"run brave-cat on barn, pid 7 since {YESTERDAY:%Y-%m-%d %H:%M}"
ADVICE = "(if barn is gone, remove .keypipe/lock and .keypipe/lease.json)"

HOLDS = """
import sys
from pathlib import Path
from flows.system.locks import held_lock
with held_lock(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""
"""Stands for a file server that still holds the lock of a machine that is gone."""


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(signs, "SILENT_SECONDS", 1.0)


def foreign(**extra: Any) -> lease.Lease:
    """Return the lease of a run of another machine, whose process number is one of this one as well."""
    since = YESTERDAY.isoformat(timespec="seconds")
    return lease.Lease("a" * 32, "barn", 7, "another-boot", since, flow_run_name="brave-cat", **extra)


@pytest.mark.usefixtures("_quick")
def test_a_run_of_another_machine_that_died_is_waited_for_a_moment_and_cleared_up(tmp_path: Path) -> None:
    write_record(tmp_path / lease.LEASE, foreign())
    said: list[str] = []
    with lease.hold(tmp_path, own := lease.new_lease(), said.append):
        held = read_record(tmp_path / lease.LEASE, lease.Lease)
        assert held is not None
        assert (held.id, held.host) == (own.id, socket.gethostname())
    assert said == [f"waiting for {BARN} {ADVICE}"]
    assert not (tmp_path / lease.LEASE).exists()


@pytest.mark.usefixtures("_quick")
def test_a_run_of_another_machine_that_lives_keeps_the_workspace_where_locks_do_not_reach(tmp_path: Path) -> None:
    write_record(tmp_path / lease.LEASE, foreign())
    asked = 0

    def poll() -> None:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise KeyboardInterrupt

    with signs.giving_signs(tmp_path / lease.LEASE):
        with (
            pytest.raises(PoseError, match="the workspace is in use: run brave-cat on barn, pid 7 since"),
            lease.claim(tmp_path),
        ):
            pytest.fail("it was another's")
        with pytest.raises(KeyboardInterrupt), lease.hold(tmp_path, lease.new_lease(), print, poll):
            pytest.fail("it was another's")
    assert read_record(tmp_path / lease.LEASE, lease.Lease) == foreign()
    with lease.claim(tmp_path):
        pass


def test_a_lock_that_the_file_system_keeps_for_a_machine_that_is_gone_is_said_and_can_be_taken_away(
    tmp_path: Path,
) -> None:
    """The kernel of a file server gives a lock back when it has given its client up; until then it is held."""
    write_record(tmp_path / lease.LEASE, foreign())
    said: list[str] = []

    def take_away() -> None:
        if said:
            (tmp_path / lease.LOCK).unlink()
            (tmp_path / lease.LEASE).unlink()

    server = subprocess.Popen(
        [sys.executable, "-c", HOLDS, tmp_path / lease.LOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"held\n"
        with (
            pytest.raises(PoseError, match=r"in use: run brave-cat on barn, .* remove \.keypipe/lock and"),
            lease.claim(tmp_path),
        ):
            pytest.fail("it was another's")
        with lease.hold(tmp_path, lease.new_lease(), said.append, take_away):
            assert said == [f"waiting for {BARN} {ADVICE}"]
    finally:
        server.communicate(b"\n")


def test_what_waited_on_a_machine_that_is_gone_is_forgotten_after_an_hour(tmp_path: Path) -> None:
    notes = [tmp_path / lease.WAITING / f"{name}.json" for name in ("gone", "waits")]
    for note in notes:
        write_record(note, foreign())
    hours_ago = time.time() - 2 * 3600
    os.utime(notes[0], (hours_ago, hours_ago))
    with lease.hold(tmp_path, lease.new_lease(), print):
        assert [note.exists() for note in notes] == [False, True]


@pytest.mark.parametrize("lives", [True, False])
def test_status_tells_of_a_run_of_another_machine(ran: Toy, lives: bool, capsys: pytest.CaptureFixture[str]) -> None:
    path = ran.root / lease.LEASE
    write_record(path, foreign(stage="train"))
    if not lives:
        os.utime(path, (1, 1))
    show_status(read_status(ran.root))
    printed = capsys.readouterr().out
    assert (f"running    {BARN}" in printed) == lives
    assert (f"killed     {BARN}, in train" in printed) == (not lives)


# ------------------------------------------------------------------------------------ with namespaces


_NAMESPACES = ("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
ON_BARN = (*_NAMESPACES, "sh", "-c", 'hostname barn; exec "$@"', "sh")
"""Runs a command on a machine of another name, with process numbers of its own."""


def need_namespaces() -> None:
    """Skip a test where this user may make no machine."""
    if (
        shutil.which("unshare") is None
        or subprocess.run([*ON_BARN, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to make namespaces")


@pytest.mark.faults
def test_a_machine_that_dies_in_a_run_is_made_good_by_another(ran: Toy) -> None:
    need_namespaces()
    ran.edit(label="calf")
    process = ran.start("run", within=ON_BARN, TOY_SLEEP_TRAIN="600")
    wait_until((ran.root / ".keypipe/asleep-train").exists, "train to be at work")
    assert json.loads(ran.text(".keypipe/lease.json"))["host"] == "barn"
    second = ran.start("run")
    assert second.stdout is not None
    line = next(line for line in second.stdout if "waiting for" in line)
    assert "on barn, pid " in line
    assert "if barn is gone, remove .keypipe/lock and .keypipe/lease.json" in line
    process.send_signal(signal.SIGKILL)  # and with it all of that machine
    output, _ = second.communicate(timeout=PATIENCE)
    process.communicate(timeout=PATIENCE)
    assert second.returncode == 0, output
    assert "calf" in ran.text("models/best.pt")
    assert not (ran.root / ".keypipe/lease.json").exists()
