"""Working trees of git beside the workspace, with its DVC cache: for what is to run on files of another time."""

from __future__ import annotations

from pathlib import Path

from tasks.versions import git
from tasks.versions.store import share_cache
from tasks.workspace.scratch import remove


def add_tree(root: Path, place: Path, commit: str) -> Path:
    """Make a working tree of a commit, in place of what was there.

    Args:
        root: the workspace.
        place: where the tree is to lie.
        commit: git's name of its files.

    Returns:
        The workspace's folder in it; DVC there uses the workspace's cache and remotes.
    """
    remove_tree(root, place)
    git.read(root, "worktree", "add", "--quiet", "--detach", str(place), commit)
    tree = place / git.prefix(root)
    share_cache(tree, root)
    return tree


def remove_tree(root: Path, place: Path) -> None:
    """Remove a working tree, or what a killed process left of one; nothing is done where there is none."""
    git.ask(root, "worktree", "remove", "--force", "--force", str(place))
    remove(place)
    # Once more for what git took for no tree while it lay there; `prune` would forget people's own on other disks too.
    git.ask(root, "worktree", "remove", "--force", "--force", str(place))


def tree_commit(place: Path) -> str:
    """Return the commit that a working tree was made of; "" where there is no tree of its own."""
    if not (place / ".git").exists():
        return ""
    return (git.ask(place, "rev-parse", "HEAD") or "").strip()
