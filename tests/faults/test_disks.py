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


LOSE = """\
import os, sys
from pathlib import Path
import keypipe.images.pixels
from tasks.commands import doctor

how, *victims = sys.argv[1:]
look = doctor.diagnose

def change(*arguments, **options):
    for victim in victims:
        os.unlink(victim) if how == "vanish" else Path(victim).write_bytes(Path(victim).read_bytes()[:700])
    return look(*arguments, **options)

doctor.diagnose = change
sys.argv[1:] = ["doctor"]
from flows.cli import main
main(Path.cwd())
"""
"""Looks at a folder of which somebody moves or saves files when the annotations are read, and the images are not."""


@pytest.mark.parametrize("how", ["vanish", pytest.param("half saved", marks=pytest.mark.faults)])
@pytest.mark.parametrize("which", ["labelled image", "image without labels", "annotations"])
def test_the_doctor_looks_on_though_files_vanish_or_are_saved_while_it_reads(
    workspace_once: Path, tmp_path: Path, how: str, which: str
) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(workspace_once, root, symlinks=True)
    labels = sorted((root / "data/raw").rglob("*.json"))
    labels[1].unlink()
    victim = {
        "labelled image": labels[0].with_suffix(".jpg"),
        "image without labels": labels[1].with_suffix(".jpg"),
        "annotations": labels[0],
    }[which]
    assert victim.exists()
    command = [sys.executable, "-c", LOSE, how, str(victim)]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    gone = f"{victim.relative_to(root)}: is gone; somebody works on the raw data just now"
    assert gone in done.stderr or "annotation files, " in done.stdout, done.stdout + done.stderr
    command = [sys.executable, "-m", "keypipe", "doctor"]
    again = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert "annotation files, " in again.stdout, again.stdout + again.stderr


READS = """\
import os, sys
import keypipe.images.pixels as pixels
stage, victim = sys.argv[1:]
look = pixels._look_at_all

def change(*arguments, **options):
    with open(victim, "r+b") as file:
        file.truncate(700)
    return look(*arguments, **options)

pixels._look_at_all = change
from tasks import split
from tasks.workspace.program import run_program
run_program("split", split.main)
"""


def test_an_image_that_is_saved_while_split_hashes_it_is_said_and_the_outputs_stay(
    workspace_once: Path, tmp_path: Path
) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(workspace_once, root, symlinks=True)
    before = state(root, "split")[0]
    shutil.rmtree(root / ".keypipe", ignore_errors=True)
    (root / "data/dataset/manifest.csv").unlink()
    victim = min((root / "data/raw").rglob("*.jpg"))
    command = [sys.executable, "-c", READS, "split", str(victim)]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"1 images differ from what was converted, such as {victim.relative_to(root)}; run convert" in done.stderr
    assert state(root, "split")[0] == before


SAVES = """\
import sys
import keypipe.annotations.folder as folder

listed, victim = folder.look_through, sys.argv[1]

def list_and_save(*arguments, **options):
    found = listed(*arguments, **options)
    with open(victim, "r+b") as file:  # labelme opens the file for writing, and has written half
        file.truncate(len(file.read()) // 2)
    return found

folder.look_through = list_and_save
from tasks import convert
from tasks.workspace.program import run_program
run_program("convert", convert.main)
"""


@pytest.mark.parametrize("suffix", [".json", pytest.param(".jpg", marks=pytest.mark.faults)])
def test_a_file_that_is_half_saved_while_convert_reads_it_is_a_fault_that_names_it(
    workspace_once: Path, tmp_path: Path, suffix: str
) -> None:
    root = tmp_path / "workspace"
    shutil.copytree(workspace_once, root, symlinks=True)
    before = state(root, "convert")
    victim = min((root / "data/raw").rglob(f"*{suffix}"))
    whole = victim.read_bytes()
    os.utime(victim, (1, 1))
    done = subprocess.run(
        [sys.executable, "-c", SAVES, victim], cwd=root, env=environment(), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    if suffix == ".json":
        assert done.returncode == 2, done.stdout + done.stderr
        assert victim.name in done.stderr
        assert state(root, "convert") == before
    victim.write_bytes(whole)
    run_stages(root, "convert")
    assert state(root, "convert")[0] == before[0]
