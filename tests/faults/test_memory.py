"""Memory that ends in a training: half the batch is tried, once, said and recorded, and what comes out repeats."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.engine.weights import hash_weights
from tests.workspace import environment, make_workspace, run_stage, run_stages, set_params

SHORT = """\
import os, resource, sys
import numpy as np
import torch
from pathlib import Path
from tasks.engine.settings import configure
configure(Path.cwd(), 1)
from tasks.engine.training import trainer

how, epochs, most = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
take = trainer.Trainer.preprocess_batch

def preprocess_batch(self, batch):
    if len(batch["img"]) > most and str(self.epoch + 1) in epochs and self._batch >= 1:
        if how == "cuda":  # as its allocator says it
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        if how == "limit":  # what the process has, and no more
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, resource.getrlimit(resource.RLIMIT_AS)[1]))
            try:
                torch.empty(2**31, dtype=torch.uint8) if most % 2 else np.empty(2**31, np.uint8)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if how == "system":
            kept = [bytes(2**24) for _ in range(10**6)]
    return take(self, batch)

trainer.Trainer.preprocess_batch = preprocess_batch
from tasks import train
from tasks.workspace.program import run_program
run_program("train", train.main)
"""
"""Trains where memory ends in the second batch of some epochs, if it holds more than so many images."""


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("memory") / "workspace", **{"train.preflight": False})
    run_stages(root, "convert", "split")
    return root


@pytest.fixture
def root(divided: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(divided, tmp_path / "workspace", symlinks=True))


def train_short(root: Path, how: str, epochs: str, most: int, *before: str) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", SHORT, how, epochs, str(most)]
    return subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)


def result(root: Path) -> tuple[str, str, Any]:
    """Return what came of a training: its best and last weights, and the figures of its epochs."""
    models = root / "models"
    return hash_weights(models / "best.pt"), hash_weights(models / "last.pt"), (models / "epochs.json").read_bytes()


def read_summary(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "models/train.json").read_text()))


def find_tag(root: Path, name: str) -> list[str]:
    """Return the values of a tag of the one run that has ended well, from MLflow's database."""
    query = "SELECT value FROM tags JOIN runs USING (run_uuid) WHERE status = 'FINISHED' AND key = ? AND run_uuid = ?"
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return [value for (value,) in database.execute(query, (name, read_summary(root)["run_id"]))]


def check_it_is_said_and_recorded(root: Path, done: subprocess.CompletedProcess[str], told: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    note = f"memory did not hold train.batch: it was trained with a batch of {told}"
    assert f"warning: {note}" in done.stdout
    assert note in read_summary(root)["warnings"]
    assert find_tag(root, "keypipe.batches") == [told]
    assert not (root / ".keypipe/train").exists()


@pytest.mark.parametrize(
    ("how", "most"),
    [
        ("limit", 4),
        pytest.param("limit", 5, marks=pytest.mark.faults),
        pytest.param("cuda", 4, marks=pytest.mark.faults),
    ],
    ids=["numpy under a limit", "torch under a limit", "cuda"],
)
def test_a_batch_that_memory_does_not_hold_is_halved_and_all_starts_over_with_it(
    root: Path, tmp_path: Path, how: str, most: int
) -> None:
    done = train_short(root, how, "1", most)
    said = {"cuda": r"CUDA out of memory.*", "limit": r".*llocate.*"}[how]
    assert re.search(rf"warning: memory ended in epoch 1 with a batch of 8 \({said}\); going on with 4\n", done.stdout)
    check_it_is_said_and_recorded(root, done, "4 from epoch 1")
    assert read_summary(root)["batches"] == [[1, 4]]
    asked_for = shutil.copytree(root, tmp_path / "asked for", symlinks=True)
    set_params(asked_for, **{"train.batch": 4})
    run_stages(asked_for, "train")
    assert result(asked_for) == result(root), "not what a training with that batch learns"
    assert "batches" not in (asked_for / "models/train.json").read_text() or read_summary(asked_for)["batches"] == []


@pytest.mark.faults
def test_in_a_later_epoch_it_goes_on_from_the_last_whole_one_and_what_is_recorded_repeats_it(
    root: Path, tmp_path: Path
) -> None:
    set_params(root, **{"train.epochs": 4})
    again = shutil.copytree(root, tmp_path / "again", symlinks=True)
    done = train_short(root, "cuda", "3", 4)
    assert "warning: memory ended in epoch 3 with a batch of 8" in done.stdout
    check_it_is_said_and_recorded(root, done, "8 from epoch 1, 4 from epoch 3")
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("epoch ")] == [
        f"{n}/4" for n in (1, 2, 3, 4)
    ]
    batches = " ".join(f"{epoch}:{size}" for epoch, size in read_summary(root)["batches"])
    assert batches == "1:8 3:4"
    repeated = run_stage(again, "train", KEYPIPE_BATCHES=batches)
    assert repeated.returncode == 0, repeated.stdout + repeated.stderr
    assert result(again) == result(root)
    assert read_summary(again)["batches"] == read_summary(root)["batches"]


@pytest.mark.faults
def test_memory_that_ends_again_is_one_line_that_says_what_to_do(root: Path) -> None:
    done = train_short(root, "cuda", "1,2", 0)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.count("going on with 4") == 1
    assert "memory ended in epoch 1 with a batch of 4 (CUDA out of memory" in done.stderr
    assert "half the batch had been tried already; lower train.batch" in done.stderr
    assert "Traceback" not in done.stderr
    assert run_stage(root, "train").returncode == 0, "the half is kept for the next try, which has the memory"
    assert read_summary(root)["batches"] == [[1, 4]]


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of 3 GB, with a swap of nothing."""
    for place, limits in (
        (Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")),
        (Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max")),
    ):
        folder = place / f"keypipe-{uuid4().hex[:8]}"
        try:
            folder.mkdir()
            (folder / limits[0]).write_text(str(3 * 2**30))
        except OSError:
            if folder.is_dir():
                folder.rmdir()
            continue
        swap = folder / limits[1]
        if swap.exists():
            swap.write_text("0" if limits[1].endswith("max") else str(3 * 2**30))
        yield folder
        folder.rmdir()
        return
    pytest.skip("needs the right to make a control group")


@pytest.mark.faults
def test_a_training_that_the_system_ends_for_want_of_memory_goes_on_with_half_the_batch(
    root: Path, group: Path
) -> None:
    within = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    done = train_short(root, "system", "2", 4, *within)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    done = train_short(root, "system", "2", 4, *within)
    assert "memory ended in epoch 2 with a batch of 8 (the system ended the process); going on with 4" in done.stdout
    check_it_is_said_and_recorded(root, done, "8 from epoch 1, 4 from epoch 2")


@pytest.mark.faults
def test_a_training_that_somebody_kills_keeps_its_batch(root: Path) -> None:
    hook = SHORT.replace('if how == "cuda":', 'if how == "kill": os.kill(os.getpid(), 9)\n        if how == "cuda":')
    command = [sys.executable, "-c", hook, "kill", "2", "4"]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    run_stages(root, "train")
    assert read_summary(root)["batches"] == []
