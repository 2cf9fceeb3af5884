"""Working trees of git beside the workspace."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.versions.trees import remove_tree, tree_commit


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    return subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "damage",
    [lambda place: None, lambda place: (place / ".git").unlink(), shutil.rmtree],
    ids=["whole", "no tree of git's", "gone"],
)
def test_a_tree_goes_whatever_a_kill_left_of_it_and_peoples_own_stay_known(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    root, own = tmp_path / "farm", tmp_path / "own"
    place = root / ".keypipe/sweeps/rates/tree0"
    git(tmp_path, "init", "--quiet", str(root))
    git(root, "commit", "--quiet", "--allow-empty", "--message", "first")
    git(root, "worktree", "add", "--quiet", "--detach", str(own))
    own.rename(tmp_path / "elsewhere")  # as on a disk that is not mounted just now
    git(root, "worktree", "add", "--quiet", "--detach", str(place))
    assert tree_commit(place) == git(root, "rev-parse", "HEAD").strip()
    damage(place)
    remove_tree(root, place)
    assert not place.exists()
    assert tree_commit(place) == ""
    listed = git(root, "worktree", "list", "--porcelain")
    assert "tree0" not in listed
    assert str(own) in listed
