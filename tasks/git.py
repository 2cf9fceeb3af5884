"""Git, asked through its own program: where the workspace stands, and what no commit of the user's holds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from keypipe.errors import PoseError
from tasks import versions


class GitError(PoseError):
    """Git is not there, or refuses; the message is git's own."""


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


def read_bytes(root: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
    """Return what git prints.

    Args:
        root: folder to run it in.
        arguments: the command and its arguments.
        env: variables beside those of this process.
        stdin: what it reads.

    Raises:
        GitError: it is not there, or ends with an error.
    """
    program = shutil.which("git")
    if program is None:
        raise GitError("git is not installed")
    done = subprocess.run(
        [program, "-C", str(root), *arguments],
        env={**os.environ, **(env or {})},
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise GitError(f"git {arguments[0]}: {said[-1]}")
    return done.stdout


def read(root: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Return what git prints, as text; see ``read_bytes``."""
    return read_bytes(root, *arguments, env=env, stdin=os.fsencode(stdin)).decode("utf-8", "surrogateescape")


def ask(root: Path, *arguments: str) -> str | None:
    """Return what git prints, or None when it fails or is not there."""
    try:
        return read(root, *arguments)
    except GitError:
        return None


def is_repository(root: Path) -> bool:
    """Tell whether a folder lies in a working tree of git."""
    return (ask(root, "rev-parse", "--is-inside-work-tree") or "").strip() == "true"


def prefix(root: Path) -> str:
    """Return the workspace's path inside its repository: "" at the top, else ``folder/``."""
    return (ask(root, "rev-parse", "--show-prefix") or "").removesuffix("\n")


def git_state(root: Path) -> GitState:
    """Return the commit, and whether code, params or data are here that no commit holds.

    DVC's own files (``dvc.lock``, ``.dvc/``) and the outputs of stages follow from the rest and do not count; the raw
    data count as soon as the commit names others.
    """
    commit = ask(root, "rev-parse", "--verify", "--quiet", "HEAD")
    status = ask(root, "-c", "core.quotePath=false", "status", "--porcelain", "-z", "--untracked-files=all", "--", ".")
    if commit is None or status is None:
        return GitState(None, dirty=status is not None)
    # git gives paths from the top of the repository, in which the workspace may be a folder
    top = prefix(root)
    paths = [path.removeprefix(top) for path in _parse_status(status)]
    changed = [path for path in paths if Path(path).suffix in CODE and not path.startswith(".dvc/")]
    outputs = [output.path for outputs in versions.all_outputs(root).values() for output in outputs]
    changed = [path for path in changed if not any(_is_within(path, output) for output in outputs)]
    committed = ask(root, "show", f"HEAD:./{versions.RAW_FILE.as_posix()}")
    if versions.raw_version(root) != (versions.read_md5(committed) if committed else None):
        changed.append(versions.RAW.as_posix())
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
