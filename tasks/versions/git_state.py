"""Where the workspace stands in git: its commit, and what is here that no commit of the user's holds."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tasks.versions import git
from tasks.versions.raw import raw_version, read_md5
from tasks.versions.stages.acceptance import ACCEPTED
from tasks.versions.stages.state import all_outputs
from tasks.workspace.places import RAW, RAW_FILE


class GitState(msgspec.Struct, frozen=True):
    """Which commit the workspace stands on.

    Attributes:
        commit: full hash; None outside git or before the first commit.
        dirty: code, params or data are here that no commit holds.
        changes: the paths that make it so.
    """

    commit: str | None
    dirty: bool
    changes: tuple[str, ...] = ()


CODE = {".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".in", ".html", ".j2"}
"""Suffixes of code and params; text such as a README does not change a result."""


def git_state(root: Path) -> GitState:
    """Return the commit, and whether code, params or data are here that no commit holds.

    What DVC and keypipe write themselves (``dvc.lock``, ``.dvc/``, ``accepted.yaml``) and the outputs of stages follow
    from the rest and do not count; the raw data count as soon as the commit names others.
    """
    commit = git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD")
    options = ("--porcelain", "-z", "--untracked-files=all", "--", ".")
    status = git.ask(root, "-c", "core.quotePath=false", "status", *options)
    if commit is None or status is None:
        return GitState(None, dirty=status is not None)
    # git gives paths from the top of the repository, in which the workspace may be a folder
    top = git.prefix(root)
    paths = [path.removeprefix(top) for path in _parse_status(status)]
    own = (".dvc/", str(ACCEPTED))
    changed = [path for path in paths if Path(path).suffix in CODE and not path.startswith(own)]
    outputs = [output.path for outputs in all_outputs(root).values() for output in outputs]
    changed = [path for path in changed if not any(_is_within(path, output) for output in outputs)]
    committed = git.ask(root, "show", f"HEAD:./{RAW_FILE.as_posix()}")
    if raw_version(root) != (read_md5(committed) if committed else None):
        changed.append(RAW.as_posix())
    return GitState(commit.strip(), bool(changed), tuple(sorted(changed)))


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _parse_status(text: str) -> list[str]:
    """Return the paths of ``git status --porcelain -z``; of a rename the new one."""
    paths: list[str] = []
    parts = iter(text.split("\0"))
    for part in parts:
        if not part:
            continue
        paths.append(part[3:])
        if part[0] in "RC":
            next(parts, None)
    return paths
