"""Scratch of processes beside each other: nobody's files are touched, and what the dead leave is removed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.workspace.program import replacing
from tasks.workspace.scratch import remove_abandoned, scratch_folder, scratch_path
from tests.imports import ROOT

WORKER = """
import sys
from pathlib import Path
from tasks.workspace.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "work") as folder:
    (folder / "file").write_text("of the other")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def worker(root: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Have another process use its scratch until it reads a line or is killed."""
    command = [sys.executable, "-c", WORKER, str(root)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, Path(process.stdout.readline().removesuffix("\n"))
        finally:
            process.kill()


def test_a_stage_that_starts_leaves_the_scratch_of_others_alone(tmp_path: Path) -> None:
    """As when a doctor looks at images and a run starts a stage."""
    with worker(tmp_path) as (_, folder):
        remove_abandoned(tmp_path)
        with scratch_folder(tmp_path, "work") as mine:
            assert mine != folder
            assert not list(mine.iterdir())
        assert (folder / "file").read_text() == "of the other"


def test_a_process_that_ends_leaves_nothing(tmp_path: Path) -> None:
    with worker(tmp_path) as (process, folder):
        process.communicate("\n")
        assert process.returncode == 0
    assert not folder.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, number: int) -> None:
    with worker(tmp_path) as (process, folder):
        process.send_signal(number)
        process.wait()
    assert (folder / "file").exists()
    remove_abandoned(tmp_path)
    assert not folder.parent.exists()


def test_what_an_earlier_version_left_is_removed(tmp_path: Path) -> None:
    old = tmp_path / ".keypipe/tmp"
    (old / "export").mkdir(parents=True)
    (old / "data-coco-keypoints.json").write_text("{}")
    mine = scratch_path(tmp_path, "new")
    assert {path.name for path in old.iterdir()} == {mine.parent.name}


def test_a_scratch_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    import shutil

    scratch_path(tmp_path, "first")
    shutil.rmtree(tmp_path / ".keypipe")
    with scratch_folder(tmp_path, "second") as folder:
        assert folder.is_dir()


def test_two_that_replace_a_folder_at_once_leave_one_of_them_whole(tmp_path: Path) -> None:
    """As two doctors do that write their page."""
    code = (
        "import sys; from pathlib import Path; from tasks.workspace.program import replacing\n"
        "for number in range(200):\n"
        "    with replacing(Path(sys.argv[1]), Path('out')) as new:\n"
        "        new.mkdir(); [(new / name).write_text(sys.argv[2]) for name in 'ab']\n"
    )
    commands = [[sys.executable, "-c", code, str(tmp_path), name] for name in ("one", "two", "three")]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for command in commands]
    assert [process.communicate()[1] for process in processes] == [b"", b"", b""]
    assert len({(tmp_path / "out" / name).read_text() for name in "ab"}) == 1


def test_after_an_error_the_output_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path, Path("out")) as new:
        new.write_text("new" * (1 // 0))
    assert (tmp_path / "out").read_text() == "old"
