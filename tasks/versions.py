"""The only importer of DVC: what a stage depends on, whether it is up to date, and how to bring outputs back.

Run as a program it reproduces one stage, as ``dvc repro -s STAGE`` does, and leaves an outcome file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from keypipe.errors import DatasetError, PoseError

RAW = Path("data/raw")
RAW_FILE = Path("data/raw.dvc")

BUSY = "busy"
FAILED = "failed"


class BusyError(PoseError):
    """Another DVC command holds the workspace."""


class Output(NamedTuple):
    """One output of a stage.

    Attributes:
        path: relative to the workspace.
        cached: DVC keeps a copy; otherwise the file stands in the workspace alone.
        persist: DVC does not remove it before a run.
    """

    path: str
    cached: bool
    persist: bool


class StageVersion(NamedTuple):
    """A stage as DVC sees it now.

    Attributes:
        fingerprint: sha256 over command, hashes of deps and values of params.
        changes: what differs from ``dvc.lock``, one phrase each; empty when the stage is up to date.
        missing: its outputs that are not in the workspace.
        known: ``dvc.lock`` has an entry for it, so that it was run before.
    """

    fingerprint: str | None
    changes: tuple[str, ...]
    missing: tuple[str, ...]
    known: bool

    @property
    def clean(self) -> bool:
        """Nothing to do: outputs are intact and follow from what is there."""
        return not self.changes


class Outcome(msgspec.Struct):
    """What reproducing a stage came to.

    Attributes:
        did: ``ran``, ``restored`` (brought back from the run cache), ``nothing`` (up to date), ``busy`` (another
            DVC command holds the lock) or ``failed``.
        status: exit status of the stage's command where it failed; negative or above 128 for a signal.
        message: what DVC said when it failed.
    """

    did: Literal["ran", "restored", "nothing", "busy", "failed"]
    status: int | None = None
    message: str = ""


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


class RawChanges(NamedTuple):
    """Files of ``data/raw`` that differ from its last version."""

    added: int
    modified: int
    deleted: int


class RawVersion(NamedTuple):
    """The raw data that a run saw.

    Attributes:
        md5: name of DVC's ``.dir`` object, which lists an md5 for every file.
        files: number of files.
        changed: it differs from what was versioned before.
    """

    md5: str
    files: int
    changed: bool


def stage_names(root: Path) -> list[str]:
    """Return the stages of ``dvc.yaml`` in the order in which they run; ties as the file has them."""
    with _opened(root) as repo:
        stages = [stage for stage in repo.index.stages if _is_own(stage, root)]
        graph = repo.index.graph
        waiting = {stage.name: {up.name for up in graph.successors(stage) if _is_own(up, root)} for stage in stages}
    order: list[str] = []
    while waiting:
        name = next(name for name, upstream in waiting.items() if not upstream - set(order))
        order.append(name)
        del waiting[name]
    return order


def stage_fingerprint(root: Path, stage: str) -> str:
    """Return the sha256 of all that determines a stage's result: command, hashes of deps, values of params.

    Takes no lock, so that the running stage itself can ask.
    """
    with _opened(root) as repo:
        loaded = _load_stage(repo, root, stage)
        loaded.save_deps()
        return _hash_stage(loaded)


def stage_version(root: Path, stage: str) -> StageVersion:
    """Return a stage's fingerprint and what DVC finds changed about it."""
    with _opened(root) as repo:
        loaded = _load_stage(repo, root, stage)
        changes = _list_changes(_status(repo, loaded))
        missing = tuple(str(out) for out in loaded.outs if not out.exists)
        known = bool(loaded.outs and any(out.hash_info for out in loaded.outs))
        # An unchanged stage has in its lock entry what hashing the deps once more would find.
        if changes and not _save_deps(loaded):
            return StageVersion(None, changes, missing, known)
        return StageVersion(_hash_stage(loaded), changes, missing, known)


def stage_outputs(root: Path, stage: str) -> list[Output]:
    """Return the outputs of a stage in the order of ``dvc.yaml``."""
    with _opened(root) as repo:
        loaded = _load_stage(repo, root, stage)
        return [Output(_relative(root, out), bool(out.use_cache), bool(out.persist)) for out in loaded.outs]


def restore_outputs(root: Path, stage: str) -> bool:
    """Bring the cached outputs of ``dvc.lock`` back, as ``dvc checkout STAGE`` does.

    Returns:
        True when the stage had been run before, so that there was something to bring back.
    """
    from dvc.exceptions import DvcException

    with _opened(root) as repo:
        loaded = _load_stage(repo, root, stage)
        if not any(out.hash_info for out in loaded.outs):
            return False
        with _waiting(repo):
            for out in loaded.outs:
                if out.use_cache and out.hash_info and out.status():
                    try:
                        out.checkout(force=True)
                    except DvcException as error:
                        raise DatasetError(
                            f"{out}: the last good version is not in DVC's cache; run `dvc pull` or `keypipe run`"
                        ) from error
    return True


def raw_version(root: Path) -> str | None:
    """Return the ``.dir`` md5 that ``data/raw.dvc`` names, or None before the first version."""
    return _read_md5((root / RAW_FILE).read_text(encoding="utf-8")) if (root / RAW_FILE).exists() else None


def raw_changes(root: Path) -> RawChanges | None:
    """Count the files of ``data/raw`` that differ from its last version; takes no lock.

    Returns:
        The counts, or None when there is no version to compare with.
    """
    with _opened(root) as repo:
        if not (root / RAW_FILE).exists():
            return None
        (out,) = _load_raw(repo, root).outs
        before = out.get_obj()
        if before is None or not out.exists:
            return None
        if not out.workspace_status():
            return RawChanges(0, 0, 0)
        from dvc_data.hashfile.build import build

        _, _, now = build(out.cache, out.fs_path, out.fs, out.hash_name, ignore=out.dvcignore, dry_run=True)
        old, new = ({key: hash_info.value for key, (_, hash_info) in tree.iteritems()} for tree in (before, now))
        modified = sum(old[key] != new[key] for key in old.keys() & new.keys())
        return RawChanges(len(new.keys() - old.keys()), modified, len(old.keys() - new.keys()))


def version_raw(root: Path) -> RawVersion:
    """Version the raw folder, as ``dvc add data/raw`` does, and name its content.

    Raises:
        DatasetError: the folder is absent, empty, a link, or has files that git tracks.
    """
    check_raw(root)
    with _opened(root) as repo, _waiting(repo):
        before = raw_version(root)
        if before is not None:
            (out,) = _load_raw(repo, root).outs
            if not out.status():
                return RawVersion(before, int(out.meta.nfiles or 0), changed=False)
    with _opened(root) as repo:
        from dvc.exceptions import DvcException
        from dvc.lock import LockError

        try:
            (stage,) = _until_free(lambda: repo.add([str(root / RAW)]))
        except LockError:
            raise
        except DvcException as error:
            raise DatasetError(f"{RAW}: DVC cannot version it: {error}") from error
        (out,) = stage.outs
        return RawVersion(str(out.hash_info.value), int(out.meta.nfiles or 0), changed=out.hash_info.value != before)


def check_raw(root: Path) -> None:
    """Check that the raw folder is one that DVC can version.

    Raises:
        DatasetError: the folder is absent, empty, a link, or has files that git tracks.
    """
    raw = root / RAW
    advice = "put your labelme JSON files and images there, or run `keypipe demo`"
    if not raw.exists() and not raw.is_symlink():
        raise DatasetError(f"{RAW}: not there; {advice}")
    if any(part.is_symlink() for part in (raw, raw.parent)):
        raise DatasetError(f"{RAW}: is a link, which DVC does not follow; put the files themselves there")
    if not raw.is_dir():
        raise DatasetError(f"{RAW}: is not a folder; {advice}")
    if not any(path.is_file() for path in raw.rglob("*")):
        raise DatasetError(f"{RAW}: empty; {advice}")
    tracked = _git(root, "ls-files", "--", str(RAW))
    if tracked:
        names = tracked.splitlines()
        raise DatasetError(
            f"{RAW}: git tracks {len(names)} of its files, such as {names[0]}, and DVC needs them to itself; "
            f"run `git rm -r --cached {RAW}`"
        )


def clear_stale_locks(root: Path) -> None:
    """Drop entries of DVC's lock file whose process is gone, also where its number has been given away again."""
    import psutil

    path = root / ".dvc" / "tmp" / "rwlock"
    try:
        written = path.stat().st_mtime
        locks: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return

    def is_live(entry: Mapping[str, Any]) -> bool:
        try:
            return float(psutil.Process(int(entry["pid"])).create_time()) <= written
        except psutil.Error:
            return False

    write = {place: entry for place, entry in locks.get("write", {}).items() if is_live(entry)}
    read = {place: [entry for entry in entries if is_live(entry)] for place, entries in locks.get("read", {}).items()}
    live = {"write": write, "read": {place: entries for place, entries in read.items() if entries}}
    if live != locks:
        temporary = path.with_name("rwlock.keypipe")
        temporary.write_text(json.dumps(live), encoding="utf-8")
        temporary.replace(path)


def git_state(root: Path) -> GitState:
    """Return the commit, and whether code, params or data are here that no commit holds.

    DVC's own files (``dvc.lock``, ``.dvc/``) and the outputs of stages follow from the rest and do not count; the raw
    data count as soon as the commit names others.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    status = _git(root, "-c", "core.quotePath=false", "status", "--porcelain", "-z", "--untracked-files=all", "--", ".")
    if commit is None or status is None:
        return GitState(None, dirty=status is not None)
    # git gives paths from the top of the repository, in which the workspace may be a folder
    prefix = (_git(root, "rev-parse", "--show-prefix") or "").strip()
    paths = [path.removeprefix(prefix) for path in _parse_status(status)]
    changed = [path for path in paths if Path(path).suffix in CODE and not path.startswith(".dvc/")]
    changed = [path for path in changed if not any(_is_within(path, out) for out in _output_paths(root))]
    committed = _git(root, "show", f"HEAD:./{RAW_FILE.as_posix()}")
    if raw_version(root) != (_read_md5(committed) if committed else None):
        changed.append(RAW.as_posix())
    return GitState(commit.strip(), bool(changed), tuple(sorted(changed)))


def _output_paths(root: Path) -> list[str]:
    """Return the paths of every stage's outputs."""
    with _opened(root) as repo:
        return [_relative(root, out) for stage in repo.index.stages if _is_own(stage, root) for out in stage.outs]


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


CODE = {".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".in", ".html", ".j2"}
"""Suffixes of code and params; text such as a README does not change a result."""


def reproduce(root: Path, stage: str, *, force: bool = False) -> Outcome:
    """Reproduce one stage in this process, as ``dvc repro -s STAGE`` does."""
    from dvc.exceptions import DvcException, ReproductionError
    from dvc.lock import LockError

    started = _StartedWatch()
    logging.getLogger("dvc.stage.run").addHandler(started)
    logging.getLogger("dvc.dvcfile").setLevel(logging.WARNING)  # it tells of every write to dvc.lock
    with _opened(root, quiet=False) as repo:
        repo.scm_context.quiet = True
        try:
            done = repo.reproduce([f"{root / 'dvc.yaml'}:{stage}"], single_item=True, force=force)
        except ReproductionError as error:
            cause = error.__cause__
            if isinstance(cause, LockError):
                return Outcome("busy", message=str(cause))
            return Outcome("failed", _exit_status(cause), str(cause or error))
        except LockError as error:
            return Outcome("busy", message=str(error))
        except DvcException as error:
            return Outcome("failed", None, str(error))
    if not done:
        return Outcome("nothing")
    return Outcome("ran" if started.seen else "restored")


def _exit_status(error: BaseException | None) -> int | None:
    """Return the exit status of a stage's command, which DVC tells in words alone."""
    from dvc.stage.exceptions import StageCmdFailedError

    found = re.search(r"exited with (-?\d+)$", str(error)) if isinstance(error, StageCmdFailedError) else None
    return int(found[1]) if found else None


class _StartedWatch(logging.Handler):
    """Sees whether DVC really ran the command, or found its result in the run cache."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:
        self.seen = self.seen or record.getMessage().startswith("Running stage ")


def main() -> None:
    """Reproduce one stage of the current folder and write what it came to."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("stage")
    parser.add_argument("--force", action="store_true", help="run it even when nothing changed")
    parser.add_argument("--outcome", type=Path, required=True, help="gets the outcome as JSON")
    arguments = parser.parse_args()
    outcome = reproduce(Path.cwd(), arguments.stage, force=arguments.force)
    arguments.outcome.write_bytes(msgspec.json.encode(outcome))
    sys.exit(0 if outcome.did not in {BUSY, FAILED} else 1)


@contextmanager
def _opened(root: Path, *, quiet: bool = True) -> Iterator[Any]:
    """Open the workspace's DVC repository and close it again."""
    if not (root / "dvc.yaml").exists():
        raise PoseError(f"{root}: no dvc.yaml here; run from a keypipe workspace (a clone of the repository)")
    if not (root / ".dvc").is_dir():
        raise PoseError(f"{root}: DVC is not set up here; run `dvc init` (or `dvc init --no-scm` outside git)")
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo

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
            raise PoseError(f"DVC: {error}") from error
        finally:
            repo.close()


def _load_stage(repo: Any, root: Path, stage: str) -> Any:
    from dvc.stage.exceptions import StageNotFound

    try:
        return repo.stage.load_one(path=str(root / "dvc.yaml"), name=stage)
    except StageNotFound as error:
        raise PoseError(f"{stage}: no such stage in dvc.yaml") from error


def _load_raw(repo: Any, root: Path) -> Any:
    return repo.stage.load_one(path=str(root / RAW_FILE))


def _is_own(stage: Any, root: Path) -> bool:
    return bool(getattr(stage, "name", None)) and Path(stage.path) == root / "dvc.yaml"


def _relative(root: Path, out: Any) -> str:
    return Path(os.path.relpath(out.fs_path, root)).as_posix()


def _status(repo: Any, stage: Any) -> list[Any]:
    with _waiting(repo):
        return next(iter(stage.status().values()), [])


@contextmanager
def _waiting(repo: Any) -> Iterator[None]:
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


LOCK_PATIENCE_SECONDS = 60.0
"""DVC holds its repository lock while it hashes, not while a stage runs: a minute is long."""


def _until_free(command: Callable[[], Any]) -> Any:
    from dvc.lock import LockError

    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            return command()
        except LockError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _save_deps(stage: Any) -> bool:
    """Hash the deps; False when one is absent, so that there is no fingerprint."""
    from dvc.dependency.base import DependencyDoesNotExistError

    try:
        stage.save_deps()
    except DependencyDoesNotExistError:
        return False
    return True


def _hash_stage(stage: Any) -> str:
    from dvc.stage.serialize import to_single_stage_lockfile

    entry = dict(to_single_stage_lockfile(stage))
    entry.pop("outs", None)
    return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()


def _list_changes(status: list[Any]) -> tuple[str, ...]:
    """Turn DVC's status into phrases such as ``deleted: models`` and ``modified: params.yaml train.epochs``."""
    changes: list[str] = []
    for item in status:
        if not isinstance(item, Mapping):
            changes.append({"changed checksum": "modified: dvc.yaml"}.get(item, str(item)))
            continue
        for entries in item.values():
            for path, what in entries.items():
                if isinstance(what, Mapping):
                    changes += [f"{how}: {path} {key}" for key, how in what.items()]
                else:
                    changes.append(f"{what}: {path}")
    return tuple(changes)


def _read_md5(text: str) -> str | None:
    """Return the md5 that a ``.dvc`` file names."""
    import yaml

    outs = (yaml.safe_load(text) or {}).get("outs") or [{}]
    md5 = outs[0].get("md5")
    return str(md5) if md5 else None


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints, or None when it fails or is not there."""
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


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


if __name__ == "__main__":
    main()
