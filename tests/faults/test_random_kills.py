"""SIGKILL at seeded random moments in the stages that compute: nothing is half-written, and the end is the same."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from tasks.engine.weights import hash_weights
from tasks.workspace.models import read_record
from tests.faults.test_kills import hash_folder
from tests.workspace import environment, make_workspace, run_stages, set_params

OUTPUTS = {
    "train": ("models",),
    "validate": ("reports/validate", "metrics"),
    "export": ("exports", "reports/export"),
}
MOMENTS = 10

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def ended_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("random") / "workspace", **{"train.preflight": False})
    run_stages(root, "convert", "split", "train", "validate", "export")
    return root


def start(root: Path, stage: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"tasks.{stage}"]
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def came_of(root: Path, stage: str) -> Any:
    """Return what must be the same, however often the stage was killed."""
    if stage == "train":
        models = root / "models"
        return hash_weights(models / "best.pt"), hash_weights(models / "last.pt"), (models / "epochs.json").read_text()
    if stage == "validate":
        return (root / "metrics/validate.json").read_text()
    figures = json.loads((root / "metrics/export.json").read_text())
    return sorted(figures), sorted(path.name for path in (root / "exports").iterdir())


def check_whole(root: Path, stage: str) -> None:
    """Read what a stage has put into place: none of it may be a part of something."""
    if stage == "train":
        read_record(root)
        assert came_of(root, stage)
        return
    json.loads((root / f"metrics/{stage}.json").read_text())
    if (root / f"reports/{stage}").exists():
        json.loads((root / f"reports/{stage}/report.json").read_text())
        assert (root / f"reports/{stage}/report.html").read_text().rstrip().endswith("</html>")
    for path in (root / "exports").glob("*.onnx"):
        onnx.checker.check_model(path)


@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_stage_that_is_killed_at_random_moments_ends_like_one_left_alone(
    ended_once: Path, tmp_path: Path, stage: str
) -> None:
    root, alone = tmp_path / "workspace", tmp_path / "alone"
    shutil.copytree(ended_once, root, symlinks=True)
    set_params(root, **{"train.epochs": 5, "validate.conf": 0.2})
    shutil.copytree(root, alone, symlinks=True)
    began = time.monotonic()
    run_stages(alone, stage)
    seconds = time.monotonic() - began
    before = [hash_folder(root / name) for name in OUTPUTS[stage]]
    draw, killed = random.Random(stage), 0
    for _ in range(MOMENTS):
        process = start(root, stage)
        try:
            # A training goes on where it was: later moments are reached as it is tried again and again.
            process.wait(draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            now = [hash_folder(root / name) for name in OUTPUTS[stage]]
            if "" not in now and now != before:  # away between two renames, or new
                check_whole(root, stage)
    assert killed, "it was never there when it was to be killed"
    run_stages(root, stage)
    assert came_of(root, stage) == came_of(alone, stage)
    assert not list((root / ".keypipe/tmp").glob("*/models*"))
