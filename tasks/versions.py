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
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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


def hash_entry(entry: Mapping[str, Any]) -> str:
    """Hash what stands in ``dvc.lock`` for a stage, without its outputs."""
    entry = {key: value for key, value in entry.items() if key != "outs"}
    return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()


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
        return [_to_output(root, out) for out in loaded.outs]


def all_outputs(root: Path) -> dict[str, list[Output]]:
    """Return the outputs of every stage."""
    with _opened(root) as repo:
        stages = [stage for stage in repo.index.stages if _is_own(stage, root)]
        return {stage.name: [_to_output(root, out) for out in stage.outs] for stage in stages}


def _to_output(root: Path, out: Any) -> Output:
    return Output(_relative(root, out), bool(out.use_cache), bool(out.persist))


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
    return read_md5((root / RAW_FILE).read_text(encoding="utf-8")) if (root / RAW_FILE).exists() else None


def read_md5(text: str) -> str | None:
    """Return the md5 that a ``.dvc`` file names."""
    import yaml

    outs = (yaml.safe_load(text) or {}).get("outs") or [{}]
    md5 = outs[0].get("md5")
    return str(md5) if md5 else None


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
    # Imported here: as a program this module runs by its path, and finds the library alone.
    from tasks import git

    tracked = git.ask(root, "ls-files", "--", str(RAW))
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


class Unused(NamedTuple):
    """What of DVC's cache nothing needs.

    Attributes:
        objects: number of files in the cache.
        size_bytes: of all of them.
        shared_cache: the cache, where it lies outside the workspace; it may serve others and was not looked at.
    """

    objects: int
    size_bytes: int
    shared_cache: str = ""


def unused_objects(root: Path, commits: Sequence[str], *, remove: bool) -> Unused:
    """Find, and remove, what neither the workspace nor a tip of a branch, a tag or one of some commits needs.

    This is ``dvc gc --workspace --all-branches --all-tags --all-experiments``, for which DVC takes one further commit
    at most.

    Args:
        root: the workspace, in git.
        commits: further commits whose objects stay.
        remove: remove them as well.
    """
    from dvc_data.hashfile.gc import gc

    with _opened(root) as repo, _waiting(repo):
        cache = Path(repo.cache.local_cache_dir)
        if not cache.resolve().is_relative_to(root.resolve()):
            return Unused(0, 0, str(cache))
        by_remote = repo.used_objs(
            all_branches=True, all_tags=True, all_experiments=True, revs=list(commits), force=True
        )
        used = set().union(*by_remote.values())
        objects = size = 0
        for odb in {id(odb): odb for _, odb in repo.cache.by_scheme() if odb}.values():
            names = {info.value for info in used if info.name == odb.hash_name}
            sizes = [odb.fs.size(odb.oid_to_path(oid)) for oid in odb.all() if oid not in names]
            objects, size = objects + len(sizes), size + sum(sizes)
            if remove:
                gc(odb, used)
        return Unused(objects, size)


def list_folders(root: Path, md5s: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the md5 of every file of some folders, by its path inside, as far as DVC's cache has their lists.

    Args:
        root: the workspace.
        md5s: names of the folders' lists, such as ``3434b78c….dir``.
    """
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    found: dict[str, dict[str, str]] = {}
    with _opened(root) as repo:
        for md5 in md5s:
            if repo.cache.local.exists(md5):
                tree = Tree.load(repo.cache.local, HashInfo("md5", md5))
                found[md5] = {"/".join(key): str(entry.value) for key, (_, entry) in tree.iteritems()}
    return found


def share_cache(root: Path, owner: Path) -> None:
    """Let a workspace use the cache and the remotes of another one, by its ``.dvc/config.local``.

    Args:
        root: the workspace that borrows.
        owner: the workspace that has them.
    """
    with _opened(owner) as repo:
        cache = repo.cache.local_cache_dir
        remotes = {name: {**remote, "url": str(remote["url"])} for name, remote in repo.config["remote"].items()}
        default = repo.config["core"].get("remote")
    with _opened(root) as repo, repo.config.edit("local") as config:
        config["cache"]["dir"] = cache
        config["remote"] = remotes
        if default:
            config["core"]["remote"] = default


def checkout(root: Path, *targets: str) -> list[str]:
    """Bring versioned files into the workspace, from the cache or else from the remote.

    Args:
        root: the workspace.
        targets: what to bring, relative to it; default: everything.

    Returns:
        What neither of them has.
    """
    from dvc.exceptions import CheckoutError, DvcException

    paths = [str(root / target) for target in targets] or None
    with _opened(root) as repo:
        try:
            repo.checkout(paths, force=True)
        except CheckoutError:
            if repo.config["core"].get("remote"):
                with suppress(DvcException):  # what it could not bring is named below
                    repo.fetch(paths)
            try:
                repo.checkout(paths, force=True)
            except CheckoutError as error:
                never_made = {_relative(root, out) for out in repo.index.outs if not out.hash_info}
                missing = {Path(os.path.relpath(path, root)).as_posix() for path in error.target_infos}
                return sorted(missing - never_made)
    return []


@contextmanager
def opened_commit(root: Path, commit: str) -> Iterator[Callable[[str], bytes | None]]:
    """Yield a function that reads a file of a commit, whether git or DVC holds it, by its path in the workspace.

    The function returns None for a file that the commit does not have or the cache has lost.
    """
    with _opened(root) as repo, repo.switch(commit):

        def read(path: str) -> bytes | None:
            place = repo.dvcfs.from_os_path(path)
            try:
                with repo.dvcfs.open(f"/{place}", "rb") as file:
                    return bytes(file.read())
            except (FileNotFoundError, IsADirectoryError):
                return None

        yield read


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

    return hash_entry(to_single_stage_lockfile(stage))


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


if __name__ == "__main__":
    main()
