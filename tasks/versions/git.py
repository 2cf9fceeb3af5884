"""Git, asked through its own program."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from keypipe.errors import PoseError


class GitError(PoseError):
    """Git is not there, or refuses; the message is git's own."""


class ForeignRepositoryError(GitError):
    """The repository belongs to another user, and git does not open it."""


def read_bytes(root: Path, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> bytes:
    """Return what git prints.

    Args:
        root: folder to run it in.
        arguments: the command and its arguments.
        env: variables beside those of this process.
        stdin: what it reads.

    Raises:
        ForeignRepositoryError: the repository belongs to another user.
        GitError: it is not there, or ends with an error.
    """
    program = shutil.which("git")
    if program is None:
        raise GitError("git is not installed")
    done = subprocess.run(
        [program, "-C", str(root), *arguments],
        env={**os.environ, "LANGUAGE": "en", **(env or {})},
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        if "dubious ownership" in said[0]:  # its last line is the command that helps
            raise ForeignRepositoryError(
                f"{root}: belongs to another user, and git does not open it; if you trust it: {said[-1].strip()}"
            )
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
    """Tell whether a folder lies in a working tree of git.

    Raises:
        ForeignRepositoryError: it does, and belongs to another user.
    """
    try:
        return read(root, "rev-parse", "--is-inside-work-tree").strip() == "true"
    except ForeignRepositoryError:
        raise
    except GitError:
        return False


def prefix(root: Path) -> str:
    """Return the workspace's path inside its repository: "" at the top, else ``folder/``."""
    return (ask(root, "rev-parse", "--show-prefix") or "").removesuffix("\n")
