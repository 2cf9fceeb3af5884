"""Disks that are full or read-only, files that vanish while they are read: one line says so, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_kills import hash_folder
from tests.workspace import environment, make_workspace, run_stage, run_stages

OUTPUTS = {
    "convert": ("data/coco", "reports/convert"),
    "split": ("data/dataset/annotations", "data/dataset/manifest.csv", "reports/split"),
}


class Disk:
    """A small disk of its own, with a workspace on it whose data are about to be converted and split anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "workspace"

    def fill(self, but: int) -> None:
        """Leave no more than so many bytes."""
        free = shutil.disk_usage(self.folder).free
        with (self.folder / "ballast").open("wb") as ballast:
            ballast.write(bytes(max(free - but, 0)))

    def free(self) -> None:
        """Give the room back."""
        (self.folder / "ballast").unlink()

    def remount(self, how: str) -> None:
        """Make it read-only (``ro``) or writable (``rw``)."""
        subprocess.run(["mount", "-o", f"remount,{how}", self.folder], check=True)


@pytest.fixture(scope="module")
def workspace_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("disks") / "workspace", n_images=12)
    run_stages(root, "convert", "split")
    return root


@pytest.fixture
def disk(workspace_once: Path, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs the right to mount a small disk: {made.stderr.strip()}")
    try:
        shutil.copytree(workspace_once, folder / "workspace", symlinks=True)
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def change_data(root: Path) -> None:
    for path in sorted((root / "data/raw").rglob("*.json"))[:2]:
        path.unlink()


def state(root: Path, stage: str) -> list[str]:
    return [hash_folder(root / name) for name in OUTPUTS[stage]]


@pytest.mark.parametrize("stage", OUTPUTS)
@pytest.mark.parametrize("room", [0, 6_000])
def test_a_full_disk_leaves_what_was_there_and_is_said(disk: Disk, stage: str, room: int, tmp_path: Path) -> None:
    change_data(disk.root)
    if stage == "split":
        run_stages(disk.root, "convert")
    shutil.copytree(disk.root, tmp_path / "undisturbed", symlinks=True)
    run_stages(tmp_path / "undisturbed", stage)
    before = state(disk.root, stage)
    disk.fill(but=room)
    done = run_stage(disk.root, stage, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(disk.root, stage) == before
    disk.free()
    run_stages(disk.root, stage)
    assert state(disk.root, stage) == state(tmp_path / "undisturbed", stage) != before


@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_read_only_disk_is_said_before_anything_is_done(disk: Disk, stage: str) -> None:
    before = state(disk.root, stage)
    disk.remount("ro")
    done = run_stage(disk.root, stage)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "read-only" in done.stderr
    assert "Traceback" not in done.stderr
    disk.remount("rw")
    assert state(disk.root, stage) == before


VANISH = """\
import os, sys
import keypipe.annotations.folder as folder

listed, victim = folder.look_through, sys.argv[1]

def list_and_lose(*arguments, **options):
    found = listed(*arguments, **options)
    os.unlink(victim)
    return found

folder.look_through = list_and_lose
from tasks import convert
from tasks.workspace.program import run_program
run_program("convert", convert.main)
"""


@pytest.mark.parametrize("suffix", [".json", ".jpg"])
def test_a_file_that_vanishes_after_it_was_listed_is_said(workspace_once: Path, tmp_path: Path, suffix: str) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(workspace_once, root, symlinks=True)
    before = state(root, "convert")
    # One that the cache does not know, or it would not be read at all.
    victim = min((root / "data/raw").rglob(f"*{suffix}"))
    os.utime(victim, (1, 1))
    done = subprocess.run(
        [sys.executable, "-c", VANISH, victim], cwd=root, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert victim.name in done.stderr
    assert "Traceback" not in done.stderr
    assert state(root, "convert") == before
    if suffix == ".json":
        victim.with_suffix(".jpg").unlink(missing_ok=True)
    else:
        victim.with_suffix(".json").unlink()
    run_stages(root, "convert")
