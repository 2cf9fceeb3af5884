"""SIGKILL at seeded random moments in a training: nothing is half-written, and it ends with the same bits."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.engine.weights import hash_weights
from tests.faults.test_kills import hash_folder
from tests.workspace import environment, make_workspace, run_stages

MOMENTS = 10


def came_of(root: Path) -> tuple[str, str, str]:
    """Return what must be the same, however often the training was killed."""
    models = root / "models"
    return hash_weights(models / "best.pt"), hash_weights(models / "last.pt"), (models / "epochs.json").read_text()


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_a_training_that_is_killed_at_random_moments_ends_like_one_left_alone(tmp_path: Path) -> None:
    root, alone = tmp_path / "workspace", tmp_path / "alone"
    make_workspace(root, **{"train.preflight": False, "train.epochs": 5})
    run_stages(root, "convert", "split")
    shutil.copytree(root, alone, symlinks=True)
    began = time.monotonic()
    run_stages(alone, "train")
    seconds = time.monotonic() - began
    draw, killed = random.Random(0), 0
    command, nowhere = [sys.executable, "-m", "tasks.train"], subprocess.DEVNULL
    for _ in range(MOMENTS):
        process = subprocess.Popen(command, cwd=root, env=environment(), stdout=nowhere, stderr=nowhere)
        try:
            # It goes on where it was: later moments are reached as it is tried again and again.
            process.wait(draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            if hash_folder(root / "models"):  # in place, and killed after that
                assert came_of(root) == came_of(alone)
    assert killed, "it was never there when it was to be killed"
    run_stages(root, "train")
    assert came_of(root) == came_of(alone)
