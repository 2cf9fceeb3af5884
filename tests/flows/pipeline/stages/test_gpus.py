"""Runs of a machine take turns on its GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.pipeline.stages import gpus
from flows.pipeline.stages.gpus import choose_gpus, find_gpus, holding_gpus
from flows.system.locks import is_held
from tests.flows.toy import wait_until
from tests.imports import ROOT

GPUS = ["GPU-aa11", "GPU-bb22", "GPU-cc33"]


@pytest.mark.parametrize(
    ("device", "visible", "chosen"),
    [
        (None, None, ["GPU-aa11"]),
        (1, None, ["GPU-bb22"]),
        ("0,2", None, ["GPU-aa11", "GPU-cc33"]),
        ("cuda:1", None, ["GPU-bb22"]),
        ("cuda", None, ["GPU-aa11"]),
        ("cpu", None, []),
        ("mps", None, []),
        (None, "2,0", ["GPU-cc33"]),
        (1, "GPU-cc,GPU-bb", ["GPU-bb22"]),
        (None, "", []),
        (7, None, []),
    ],
)
def test_which_gpus_a_stage_uses(device: str | int | None, visible: str | None, chosen: list[str]) -> None:
    assert choose_gpus(device, visible, GPUS) == chosen


def test_the_driver_is_asked_and_one_that_fails_means_none(tmp_path: Path) -> None:
    assert find_gpus({"PATH": str(tmp_path)}) == []
    write_driver(tmp_path, "printf 'GPU-aa11\\nGPU-bb22\\n'")
    assert find_gpus({"PATH": f"{tmp_path}:/bin:/usr/bin"}) == ["GPU-aa11", "GPU-bb22"]
    write_driver(tmp_path, "echo 'NVIDIA-SMI has failed'; exit 9")
    assert find_gpus({"PATH": f"{tmp_path}:/bin:/usr/bin"}) == []


def write_driver(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


HOLDER = """
import os, sys, time
from pathlib import Path
from flows.pipeline.stages import gpus
gpus.FOLDER = Path(sys.argv[2])
with gpus.holding_gpus(Path(sys.argv[1]), "train", os.environ, print, lambda: None):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_workspace_waits_until_the_holder_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_driver(tmp_path, "printf 'GPU-aa11\\n'")
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    locks = tmp_path / "locks"
    monkeypatch.setattr(gpus, "FOLDER", locks)
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(locks)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(locks / "GPU-aa11.lock")
        assert (locks / "GPU-aa11.lock").stat().st_mode & 0o777 == 0o666
        said: list[str] = []
        polls: list[int] = []

        def kill_after_a_while() -> None:
            polls.append(1)
            if len(polls) == 2:
                holder.kill()

        with holding_gpus(tmp_path, "convert", env, said.append, lambda: None):
            assert said == []  # needs no GPU
        with holding_gpus(tmp_path, "train", env, said.append, kill_after_a_while):
            assert said == ["train: waiting for GPU-aa11, which another run of this machine holds"]
    wait_until(lambda: not is_held(locks / "GPU-aa11.lock"), "the lock to be let go")


def test_who_is_cancelled_waits_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_driver(tmp_path, "printf 'GPU-aa11\\n'")
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    monkeypatch.setattr(gpus, "FOLDER", tmp_path / "locks")
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(tmp_path / "locks")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        def cancel() -> None:
            raise InterruptedError

        with (
            pytest.raises(InterruptedError),
            holding_gpus(tmp_path, "train", env, lambda _line: None, cancel),
        ):
            pass
        holder.kill()
