"""What a run was made of is kept in git, and nothing of the user's is touched for it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.versions import snapshots
from tasks.versions.stages import lockfile
from tasks.versions.stages.state import stage_fingerprint
from tasks.versions.store import opened_commit
from tests.flows.toy import Toy, dvc, run
from tests.workspace import git


def state(root: Path) -> dict[str, Any]:
    """All of git that belongs to the user."""
    refs = [line for line in git(root, "show-ref", "--head").splitlines() if "refs/keypipe" not in line]
    status = git(root, "status", "--porcelain", "--untracked-files=all")  # may refresh the index: asked for first
    return {
        "status": status,
        "index": (root / ".git/index").read_bytes(),
        "head": (root / ".git/HEAD").read_text(),
        "refs": refs,
        "stash": git(root, "stash", "list"),
        "files": sorted(path.relative_to(root / ".git").as_posix() for path in (root / ".git").glob("*")),
    }


def kept(root: Path, commit: str) -> set[str]:
    return set(git(root, "ls-tree", "-r", "--name-only", commit).splitlines())


@pytest.fixture
def work(ran: Toy) -> Path:
    """A workspace with work of every kind in progress."""
    root = ran.root
    git(root, "add", ".")
    git(root, "commit", "-qm", "start")
    (root / "stashed.txt").write_text("for later")
    git(root, "stash", "push", "--quiet", "--include-untracked")
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "# unstaged\n")
    (root / "staged.py").write_text("half")
    git(root, "add", "staged.py")
    (root / "staged.py").write_text("whole")
    (root / "forced.log").write_text("ignored, and added all the same")
    (root / ".gitignore").write_text((root / ".gitignore").read_text() + "*.log\n")
    git(root, "add", "--force", "forced.log")
    (root / "ignored.log").write_text("ignored")
    (root / "tasks" / "split.py").unlink()
    (root / "notes 奶牛.txt").write_text("untracked")
    (root / "link").symlink_to("params.yaml")
    (root / "local.yaml").write_text("threads: 1\n")
    subprocess.run(["git", "init", "-q", str(root / "inner")], check=True)
    (root / "inner" / "file").write_text("of another repository")
    return root


def test_the_users_git_is_not_touched(work: Path) -> None:
    before = state(work)
    tags = snapshots.take(work, "run1", "fingerprint")
    assert state(work) == before
    assert snapshots.settle(work) is None  # the workspace's training is another one
    assert state(work) == before
    assert git(work, "rev-parse", "refs/keypipe/run1").strip() == tags[snapshots.TAG]


def test_a_snapshot_holds_the_files_as_they_are(work: Path) -> None:
    commit = snapshots.take(work, "run1", "fingerprint")[snapshots.TAG]
    names = kept(work, commit)
    assert {"params.yaml", "staged.py", "forced.log", "link", "dvc.lock", "data/raw.dvc", "local.yaml"} <= names
    assert not {"ignored.log", "tasks/split.py", "stashed.txt", "models/best.pt"} & names
    assert not any(name.startswith(("inner", "data/raw/")) for name in names)
    assert snapshots.read_file(work, commit, "notes 奶牛.txt") == b"untracked"
    assert snapshots.read_file(work, commit, "staged.py") == b"whole"
    assert snapshots.read_file(work, commit, "params.yaml") == (work / "params.yaml").read_bytes()
    assert snapshots.read_file(work, commit, "nothing") is None
    assert git(work, "rev-parse", f"{commit}^") == git(work, "rev-parse", "HEAD")


def test_what_came_of_a_training_is_laid_over_what_it_started_from(ran: Toy) -> None:
    root = ran.root
    fingerprint = stage_fingerprint(root, "train")
    (root / "dvc.lock").rename(root / "lock")
    begun = snapshots.take(root, "run1", fingerprint)[snapshots.TAG]
    (root / "lock").rename(root / "dvc.lock")
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "# for the next one\n")
    (root / "metrics/validate.json").write_text("{}")

    settled = snapshots.settle(root)
    assert settled is not None
    assert (settled.run_id, settled.complete, settled.fingerprint) == ("run1", True, fingerprint)
    assert "next one" not in str(snapshots.read_file(root, settled.commit, "params.yaml"))
    assert snapshots.read_file(root, settled.commit, "metrics/validate.json") == b"{}"
    assert snapshots.read_file(root, settled.commit, "dvc.lock") == (root / "dvc.lock").read_bytes()
    assert git(root, "rev-parse", f"{settled.commit}^").strip() == begun
    assert snapshots.settle(root) == settled
    assert snapshots.list_snapshots(root) == [settled]

    snapshots.drop(root, "run1")
    assert snapshots.list_snapshots(root) == []


def test_the_fingerprint_in_the_lock_is_the_one_that_the_stage_had(ran: Toy) -> None:
    lock = ran.text("dvc.lock")
    for stage in ("convert", "split", "train", "validate", "export"):
        assert lockfile.locked_fingerprint(lock, stage) == stage_fingerprint(ran.root, stage)
    assert lockfile.locked_fingerprint(lock, "unknown") is None
    assert lockfile.locked_fingerprint("<<<<<<< HEAD", "train") is None


def test_large_untracked_files_are_left_out_and_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "video.mp4").write_bytes(bytes(snapshots.MAX_FILE_BYTES + 1))
    commit = snapshots.take(work, "run1", "fingerprint")[snapshots.TAG]
    assert "video.mp4" not in kept(work, commit)
    assert "video.mp4 is untracked and too large" in capsys.readouterr().out
    assert snapshots.list_snapshots(work)[0].skipped == ("video.mp4",)


@pytest.mark.parametrize(
    ("sizes", "skipped"),
    [
        ({"a": 10, "b": 0}, ()),
        ({"a": snapshots.MAX_FILE_BYTES, "b": snapshots.MAX_FILE_BYTES + 1}, ("b",)),
        ({f"{number:02}": 4_000_000 for number in range(14)}, ("00", "01")),
    ],
)
def test_what_is_too_large_goes_first(sizes: dict[str, int], skipped: tuple[str, ...]) -> None:
    assert snapshots.choose_skipped(sizes) == skipped


def test_without_git_a_run_says_that_it_keeps_no_snapshot(ran: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    run(["rm", "-rf", ".git"], ran.root)
    run(["sh", "-c", "printf '[core]\\n    no_scm = True\\n' > .dvc/config"], ran.root)
    assert snapshots.take(ran.root, "run1", "fingerprint") == {}
    assert "cannot be reproduced later" in capsys.readouterr().out
    assert snapshots.settle(ran.root) is None
    assert ran.flow().states == ["Cached"] * 5


def test_a_workspace_inside_a_larger_repository(ran: Toy, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    run(["git", "init", "-q"], outer)
    run(["rm", "-rf", ".git"], ran.root)
    ran.root.rename(outer / "inside")
    root = outer / "inside"
    (outer / "outside.txt").write_text("not the workspace's")
    commit = snapshots.take(root, "run1", stage_fingerprint(root, "train"))[snapshots.TAG]
    assert "inside/params.yaml" in kept(outer, commit)
    assert "outside.txt" not in kept(outer, commit)
    assert snapshots.read_file(root, commit, "params.yaml") == (root / "params.yaml").read_bytes()
    settled = snapshots.settle(root)
    assert settled is not None
    with opened_commit(root, settled.commit) as read:
        assert read("models/best.pt") == (root / "models/best.pt").read_bytes()
        assert read("params.yaml") == (root / "params.yaml").read_bytes()
    assert "up to date" in dvc(root, "status")


def test_a_broken_repository_does_not_stop_a_training(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / ".git/refs/keypipe").write_text("in the way")
    assert snapshots.take(work, "run1", "fingerprint") == {}
    assert "no snapshot is kept of this run" in capsys.readouterr().out


def test_a_failed_attempt_at_the_same_training_is_not_taken_for_it(ran: Toy) -> None:
    root = ran.root
    fingerprint = stage_fingerprint(root, "train")
    snapshots.take(root, "failed", fingerprint)
    (root / "models" / "train.json").write_text('{"run_id": "own"}')
    assert snapshots.settle(root) is None
    snapshots.take(root, "own", fingerprint)
    settled = snapshots.settle(root)
    assert settled is not None
    assert settled.run_id == "own"
    assert {snapshot.run_id for snapshot in snapshots.list_snapshots(root) if snapshot.complete} == {"own"}
    # brought here by DVC from elsewhere, and known to this server by another id
    (root / "models" / "train.json").write_text('{"run_id": "of another server"}')
    assert snapshots.of_workspace(root) == settled
