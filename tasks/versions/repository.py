"""DVC's repository of a workspace: opening it, waiting for its lock, and what it refuses as messages."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keypipe.errors import PoseError
from keypipe.files.atomic import replacing_file, write_text
from tasks.versions import git
from tasks.workspace.access import check_place
from tasks.workspace.places import LOCK, STATE

COPIES = STATE / "being-written"
_READ_TRIES = 5
LOCK_PATIENCE_SECONDS = 60.0
"""DVC holds its repository lock while it hashes, not while a stage runs: a minute is long."""


class BusyError(PoseError):
    """Another DVC command holds the workspace."""


def check_repository(root: Path, moved: Sequence[Path] = ()) -> None:
    """Check, before anything is changed, that a workspace is one that the pipeline can work in.

    Args:
        root: the workspace.
        moved: what will be moved away, relative to it.

    Raises:
        PoseError: no permission to write, no git repository around it, or one of another user.
    """
    check_place(root, moved)
    if git.is_repository(root) or not _needs_git(root):
        return
    raise PoseError(
        f"{root}: no git repository, as in a downloaded copy instead of a clone, and DVC needs one;"
        " `git init` in this folder makes it one"
    )


def _needs_git(root: Path) -> bool:
    """Tell whether DVC works with git here, and git is there to be asked."""
    texts = [path.read_text(encoding="utf-8") for path in (root / ".dvc").glob("config*") if path.is_file()]
    without = any(re.search(r"^\s*no_scm\s*=\s*true", text, re.MULTILINE | re.IGNORECASE) for text in texts)
    return not without and shutil.which("git") is not None


@contextmanager
def opened(root: Path, *, quiet: bool = True) -> Iterator[Any]:
    """Open the workspace's DVC repository and close it again.

    Args:
        root: the workspace.
        quiet: DVC reports errors alone.

    Raises:
        BusyError: another DVC command holds what the block asks for.
        PoseError: DVC is not set up here, or refuses what it finds in the files.
    """
    if not (root / "dvc.yaml").exists():
        raise PoseError(f"{root}: no dvc.yaml here; run from a keypipe workspace (a clone of the repository)")
    if not (root / ".dvc").is_dir():
        raise PoseError(f"{root}: DVC is not set up here; run `dvc init` (or `dvc init --no-scm` outside git)")
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo

    _take_braces_for_text()
    with set_loggers_level(logging.ERROR if quiet else logging.INFO):
        try:
            repo = Repo(str(root))
        except NotDvcRepoError as error:
            raise PoseError(f"{root}: DVC is not set up here; run `dvc init`") from error
        except DvcException as error:
            raise PoseError(f"DVC: {error}") from error
        try:
            yield repo
        except LockError as error:
            raise BusyError(f"another DVC command holds the workspace: {error}") from error
        except DvcException as error:
            # What DVC itself refuses is in the files: dvc.yaml, dvc.lock, params.yaml, .dvc/config, the cache.
            raise PoseError(f"DVC: {error}{_advise(error)}") from error
        finally:
            repo.close()


def _advise(error: Exception) -> str:
    """Return what to do about a lock file that is damaged, as by a kill of `dvc repro`, or half merged."""
    if f"{LOCK}'" not in str(error):
        return ""
    return (
        f"; `git checkout {LOCK}` brings the last committed one back (without one, delete it), and `keypipe run` takes"
        " what was computed since from DVC's cache"
    )


def _take_braces_for_text() -> None:
    """Let DVC's cache lie in a folder whose path has braces in it, which its bar of progress takes for a format."""
    from dvc_data.hashfile import _progress

    if hasattr(_progress.QueryingProgress, "takes_braces_for_text"):
        return

    class Progress(_progress.QueryingProgress):  # type: ignore[misc]
        takes_braces_for_text = True

        def __init__(self, *arguments: Any, name: Any = None, **options: Any) -> None:
            text = None if name is None else str(name).replace("{", "{{").replace("}", "}}")
            super().__init__(*arguments, name=text, **options)

    _progress.QueryingProgress = Progress


@contextmanager
def waiting(repo: Any) -> Iterator[None]:
    """Hold DVC's repository lock, after waiting for another DVC command to let go of it."""
    from dvc.lock import LockError

    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            repo.lock.lock()
            break
        except LockError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    try:
        yield
    finally:
        repo.lock.unlock()


def relative(root: Path, out: Any) -> str:
    """Return the path of one of DVC's outputs or dependencies inside the workspace."""
    return Path(os.path.relpath(out.fs_path, root)).as_posix()


@contextmanager
def written_whole(root: Path, path: Path) -> Iterator[None]:
    """Keep a copy of a file while the block has DVC write it.

    DVC empties a file and then writes it: a kill or a full disk in between leaves half of it, which may even look
    whole. An error brings the copy back at once, and after a kill ``bring_back_files`` does.

    Args:
        root: the workspace.
        path: the file, relative to it; it may be absent.
    """
    copy = root / COPIES / path
    with replacing_file(copy) as temporary:
        temporary.write_bytes((root / path).read_bytes() if (root / path).exists() else b"")
    try:
        yield
    except BaseException:
        bring_back_files(root)
        raise
    copy.unlink()


def bring_back_files(root: Path) -> list[str]:
    """Bring back, as they were before, the files that DVC was writing when its process was killed.

    Returns:
        Which they are, relative to the workspace.
    """
    found: list[str] = []
    for copy in sorted(path for path in (root / COPIES).rglob("*") if path.is_file()):
        path = copy.relative_to(root / COPIES)
        if path.name.startswith("."):  # killed before the copy was whole: the file was not touched yet
            copy.unlink()
            continue
        content = copy.read_bytes()
        if not content:
            (root / path).unlink(missing_ok=True)
        elif not (root / path).exists() or content != (root / path).read_bytes():
            with replacing_file(root / path) as temporary:
                temporary.write_bytes(content)
        copy.unlink()
        found.append(path.as_posix())
    return found


def _is_command_of(command_line: Sequence[str], arguments: str) -> bool:
    """Tell whether a process may be the one that has written its ``sys.argv``, joined by blanks, into a lock.

    The interpreter takes its own arguments away: of ``python -m MODULE`` stays the module's file, of ``-c TEXT`` no
    more than ``-c``. So the last argument counts, and a program without any by its name.
    """
    words, last = " ".join(command_line).split(), arguments.split()[-1:]
    if last == words[-1:] or not last or last[0] in words:
        return True
    module = Path(last[0]).with_suffix("")
    names = {module.stem, module.parent.name} if module.stem == "__main__" else {module.stem}
    return "-m" in words and bool(names & {word.rpartition(".")[2] for word in words})


def clear_stale_locks(root: Path) -> None:
    """Drop entries of DVC's lock file whose process is gone, also where its number is that of another one here.

    A file of which a killed process has written half is removed: DVC would refuse it for ever.
    """
    import psutil

    path = root / ".dvc" / "tmp" / "rwlock"
    for _ in range(_READ_TRIES):
        try:
            written = path.stat().st_mtime
            locks: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
            break
        except FileNotFoundError:
            return
        except ValueError:  # half written; by a process that lives no longer than for a moment
            time.sleep(0.1)
    else:
        path.unlink(missing_ok=True)
        return

    def is_live(entry: Mapping[str, Any]) -> bool:
        """Tell by the command: numbers are given away again, are others on other machines, and clocks are set."""
        try:
            process = psutil.Process(int(entry["pid"]))
            return _is_command_of(process.cmdline(), str(entry["cmd"]))
        except psutil.AccessDenied:  # another user's, on macOS
            return float(process.create_time()) <= written
        except psutil.Error:
            return False

    write = {place: entry for place, entry in locks.get("write", {}).items() if is_live(entry)}
    read = {place: [entry for entry in entries if is_live(entry)] for place, entries in locks.get("read", {}).items()}
    live = {"write": write, "read": {place: entries for place, entries in read.items() if entries}}
    if live != locks:
        write_text(path, json.dumps(live))
