"""Disks that fill up under the stages that compute, and under the databases of MLflow and Prefect."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.test_disks import Disk
from tests.faults.test_kills import hash_folder
from tests.flows.toy import Toy, wait_until
from tests.imports import ROOT
from tests.patience import PATIENCE
from tests.workspace import environment, make_workspace, run_stage, run_stages, set_params

OUTPUTS = {
    "train": ("models",),
    "validate": ("reports/validate", "metrics"),
    "export": ("exports", "reports/export", "metrics/export.json"),
}


@pytest.fixture(scope="module")
def divided_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("disks") / "workspace", **{"train.preflight": False})
    run_stages(root, "convert", "split")
    return root


@pytest.fixture(scope="module")
def ended_once(divided_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ended") / "workspace"
    shutil.copytree(divided_once, root, symlinks=True)
    run_stages(root, "train", "validate", "export")
    return root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs the right to mount a small disk: {made.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def state(root: Path, stage: str) -> list[str]:
    return [hash_folder(root / name) for name in OUTPUTS[stage]]


def check_it_is_said(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert any(text in done.stderr.lower() for text in said), done.stderr
    assert "Traceback" not in done.stderr


def test_a_training_under_a_limit_of_the_size_of_files_is_said_and_leaves_the_model(
    divided_once: Path, tmp_path: Path
) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(divided_once, root, symlinks=True)
    set_params(root, **{"train.epochs": 1})
    (root / "models").mkdir()
    (root / "models/best.pt").write_bytes(b"of a training before")
    before = state(root, "train")
    limited = ["sh", "-c", 'ulimit -f 8192 && exec "$@"', "sh", sys.executable, "-m", "tasks.train"]
    done = subprocess.run(limited, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    check_it_is_said(done, "file too large", "could not be written")
    assert state(root, "train") == before
    run_stages(root, "train")
    assert state(root, "train") != before


@pytest.mark.faults
@pytest.mark.parametrize(
    ("stage", "room"),
    [("train", 300_000), ("train", 16 << 20), ("validate", 20_000), ("validate", 400_000), ("export", 6 << 20)],
)
def test_a_disk_that_fills_up_under_a_stage_leaves_what_was_there_and_is_said(
    ended_once: Path, disk: Disk, stage: str, room: int
) -> None:
    shutil.copytree(ended_once, disk.root, symlinks=True)
    set_params(disk.root, **{"train.epochs": 3, "validate.conf": 0.2})
    before = state(disk.root, stage)
    disk.fill(but=room)
    done = run_stage(disk.root, stage, PYTHONDONTWRITEBYTECODE="1")
    check_it_is_said(done, "no space left on device", "could not be written")
    assert state(disk.root, stage) == before
    disk.free()
    run_stages(disk.root, stage)
    if stage != "export":  # whose parameters are the same
        assert state(disk.root, stage) != before


@pytest.mark.faults
@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_read_only_disk_is_said_by_every_stage_before_anything_is_done(
    ended_once: Path, disk: Disk, stage: str
) -> None:
    shutil.copytree(ended_once, disk.root, symlinks=True)
    before = state(disk.root, stage)
    disk.remount("ro")
    check_it_is_said(run_stage(disk.root, stage), "read-only")
    disk.remount("rw")
    assert state(disk.root, stage) == before


# ------------------------------------------------------------------------------------ databases

RECORDS = """
import sys
from pathlib import Path
from tasks.tracking import runs
from tests.tasks.tracking.sending.test_delivery import begin, make_record
root = Path(sys.argv[1])
live = begin(root)
print(live.run_id, flush=True)
with runs.ending(live):
    live.log_metrics({"train/pose_loss": 3.0}, 1)
    input()
    for epoch in range(2, 200):
        live.log_metrics({"train/pose_loss": 1 / epoch, **{f"val/figure_{n}": 1.0 for n in range(50)}}, epoch)
print("ended well", flush=True)
"""


@pytest.mark.faults
def test_what_a_full_disk_keeps_from_mlflows_database_is_recorded_once_when_there_is_room(
    disk: Disk, tmp_path: Path
) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{disk.folder}/mlflow.db")

    def run(code: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(root)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    process = run(RECORDS)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    disk.fill(but=0)
    said, _ = process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "ended well" in said
    assert "MLflow was not told all of this run" in said
    disk.free()
    deliver = "import sys; from pathlib import Path; from tasks.tracking.sending.delivery import deliver_all"
    said, _ = (again := run(f"{deliver}; deliver_all(Path(sys.argv[1]))")).communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    with closing(sqlite3.connect(disk.folder / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT step, count(*) FROM metrics WHERE run_uuid = ? AND key = ? GROUP BY step ORDER BY step"
        rows = database.execute(query, (run_id, "train/pose_loss")).fetchall()
        assert rows == [(epoch, 1) for epoch in range(1, 200)]
        assert database.execute("SELECT status FROM runs WHERE run_uuid = ?", (run_id,)).fetchone() == ("FINISHED",)


@pytest.mark.faults
def test_a_run_ends_though_the_disk_of_prefects_database_is_full(ran: Toy, disk: Disk) -> None:
    database = disk.folder / "prefect.db"
    (ran.root / ".keypipe/prefect.db").unlink(missing_ok=True)
    (ran.root / ".keypipe/prefect.db").symlink_to(database)
    ran.edit(label="calf")
    process = ran.start("run", own_server=True, TOY_SLEEP_TRAIN="6")
    wait_until((ran.root / ".keypipe/asleep-train").exists, "train to be at work")
    assert database.exists()
    disk.fill(but=0)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "calf" in ran.text("exports/best.onnx")
    disk.free()
    with closing(sqlite3.connect(database)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = ran.start("run", own_server=True)
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert output.count("Cached") >= 5
    assert os.environ.get("PREFECT_API_URL"), "the session's own server is another"
