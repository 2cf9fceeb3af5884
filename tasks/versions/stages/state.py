"""The stages as DVC sees them: what they depend on, whether they are up to date, and their outputs."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keypipe.errors import DatasetError, PoseError
from tasks.versions.raw import RawVersion
from tasks.versions.repository import opened, relative, waiting
from tasks.workspace.places import RAW

_EMPTY_FOLDER = f"{hashlib.md5(b'[]', usedforsecurity=False).hexdigest()}.dir"
"""What DVC calls the content of a folder without files: the md5 of their list."""


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
        fingerprint: sha256 over command, hashes of deps and values of params; None where a dep is absent.
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


def stage_names(root: Path) -> list[str]:
    """Return the stages of ``dvc.yaml`` in the order in which they run."""
    with opened(root) as repo:
        return list(load_stages(repo, root))


def stage_fingerprint(root: Path, stage: str) -> str:
    """Return the sha256 of all that determines a stage's result: command, hashes of deps, values of params.

    Takes no lock, so that the running stage itself can ask.
    """
    with opened(root) as repo:
        loaded = load_stage(repo, root, stage)
        loaded.save_deps()
        return hash_stage(loaded)


def hash_entry(entry: Mapping[str, Any]) -> str:
    """Hash what stands in ``dvc.lock`` for a stage, without its outputs."""
    entry = {key: value for key, value in entry.items() if key != "outs"}
    return hashlib.sha256(json.dumps(entry, sort_keys=True, default=str).encode()).hexdigest()


def stage_version(root: Path, stage: str, raw: RawVersion | None = None) -> StageVersion:
    """Return a stage's fingerprint and what DVC finds changed about it.

    Args:
        root: the workspace.
        stage: its name.
        raw: the raw data, where they have just been versioned; otherwise they are looked at.
    """
    # Under DVC's lock from the start: another command may be writing dvc.lock, and it writes in place.
    with opened(root) as repo, waiting(repo):
        return find_version(load_stage(repo, root, stage), raw)


def stage_versions(root: Path) -> dict[str, StageVersion]:
    """Return what ``stage_version`` does of all stages, in the order in which they run."""
    with opened(root) as repo, waiting(repo):
        return {name: find_version(stage, None) for name, stage in load_stages(repo, root).items()}


def find_version(stage: Any, raw: RawVersion | None) -> StageVersion:
    """Return what ``stage_version`` does of DVC's own object of a stage, in a repository that is locked."""
    complete = hold_deps(stage, raw)
    missing = tuple(str(out) for out in stage.outs if not out.exists)
    known = bool(stage.outs and any(out.hash_info for out in stage.outs))
    empty = {str(dep) for dep in stage.deps if known and is_new_and_empty(dep)}
    changes = _list_changes(next(iter(stage.status().values()), []), empty)
    if not complete:
        return StageVersion(None, changes, missing, known)
    stage.save_deps()
    return StageVersion(hash_stage(stage), changes, missing, known)


def load_stages(repo: Any, root: Path) -> dict[str, Any]:
    """Return DVC's own objects of all stages, in the order in which they run; ties as the file has them.

    DVC's graph of them would tell the order as well; it takes a fifth of a second to import what it is made with.
    """
    stages = {stage.name: stage for stage in _own_index(repo, root).stages}
    places = {name: [str(out.fs_path) for out in stage.outs] for name, stage in stages.items()}
    left = {
        name: {
            other
            for other in stages
            if other != name and any(_overlap(str(dep.fs_path), out) for dep in stage.deps for out in places[other])
        }
        for name, stage in stages.items()
    }
    order: list[str] = []
    while left:
        name = next((name for name, upstream in left.items() if not upstream - set(order)), None)
        if name is None:
            raise PoseError(f"dvc.yaml: the stages {', '.join(left)} depend on one another in a circle")
        order.append(name)
        del left[name]
    return {name: stages[name] for name in order}


def _overlap(one: str, other: str) -> bool:
    """Tell whether one of two places, as DVC writes them, is the other or lies in it; it is asked a thousand times."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def load_stage(repo: Any, root: Path, stage: str) -> Any:
    """Return DVC's own object of a stage.

    Raises:
        PoseError: no stage has that name.
    """
    from dvc.stage.exceptions import StageNotFound

    try:
        return repo.stage.load_one(path=str(root / "dvc.yaml"), name=stage)
    except StageNotFound as error:
        raise PoseError(f"{stage}: no such stage in dvc.yaml") from error


def hold_deps(stage: Any, raw: RawVersion | None) -> bool:
    """Let the deps of a stage be what they are now, however often and however late DVC asks.

    DVC hashes the deps of a stage that runs about ten times, and takes those of the last time, after the command has
    ended, into ``dvc.lock``. Each time is a walk through all raw data; and what people have edited while the command
    ran, such as a parameter during a training, would count as what it ran on, and never be run.

    Args:
        stage: DVC's object of it.
        raw: the raw data, where they have just been versioned.

    Returns:
        False when a dep is absent; then nothing is held, and DVC says so itself.
    """
    from dvc.dependency.base import DependencyDoesNotExistError
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    root = Path(stage.repo.root_dir)
    now = [copy.copy(dep) for dep in stage.deps]  # the stage's own say what dvc.lock has
    try:
        for dep in now:
            if raw is not None and relative(root, dep) == RAW.as_posix():
                dep.hash_info = HashInfo("md5", raw.md5)
                dep.meta = Meta(isdir=True, size=raw.size_bytes, nfiles=raw.files)
            else:
                dep.save()
    except DependencyDoesNotExistError:
        return False
    for dep, found in zip(stage.deps, now, strict=True):
        _hold(dep, found)
    return True


def _hold(dep: Any, found: Any) -> None:
    def save() -> None:
        dep.hash_info, dep.meta, dep.obj = found.hash_info, found.meta, found.obj

    dep.get_hash = lambda: found.hash_info
    dep.save = save


def held_fingerprint(stage: Any) -> str:
    """Return the fingerprint of a stage on the deps that it is held to; what ``dvc.lock`` says of it stays known."""
    before = [(dep, dep.hash_info, dep.meta, dep.obj) for dep in stage.deps]
    stage.save_deps()
    fingerprint = hash_stage(stage)
    for dep, hash_info, meta, obj in before:
        dep.hash_info, dep.meta, dep.obj = hash_info, meta, obj
    return fingerprint


def stage_outputs(root: Path, stage: str) -> list[Output]:
    """Return the outputs of a stage in the order of ``dvc.yaml``."""
    with opened(root) as repo, waiting(repo):
        return [_to_output(root, out) for out in load_stage(repo, root, stage).outs]


def all_outputs(root: Path) -> dict[str, list[Output]]:
    """Return the outputs of every stage."""
    with opened(root) as repo:
        stages = _own_index(repo, root).stages
        return {stage.name: [_to_output(root, out) for out in stage.outs] for stage in stages}


def _to_output(root: Path, out: Any) -> Output:
    return Output(relative(root, out), bool(out.use_cache), bool(out.persist))


def _own_index(repo: Any, root: Path) -> Any:
    """Return DVC's index of ``dvc.yaml`` alone; its index of the workspace walks through all folders for others."""
    from dvc.repo.index import Index

    return Index.from_file(repo, str(root / "dvc.yaml"))


def restore_outputs(root: Path, stage: str) -> bool:
    """Bring the cached outputs of ``dvc.lock`` back, as ``dvc checkout STAGE`` does.

    Returns:
        True when the stage had been run before, so that there was something to bring back.
    """
    from dvc.exceptions import DvcException

    with opened(root) as repo, waiting(repo):
        loaded = load_stage(repo, root, stage)
        if not any(out.hash_info for out in loaded.outs):
            return False
        for out in loaded.outs:
            if out.use_cache and out.hash_info and out.status():
                try:
                    out.checkout(force=True)
                except DvcException as error:
                    raise DatasetError(
                        f"{out}: the last good version is not in DVC's cache; run `dvc pull` or `keypipe run`"
                    ) from error
    return True


def hash_stage(stage: Any) -> str:
    """Return the fingerprint of DVC's own object of a stage: of what would stand in ``dvc.lock`` for it."""
    from dvc.stage.serialize import to_single_stage_lockfile

    return hash_entry(to_single_stage_lockfile(stage))


def is_new_and_empty(dep: Any) -> bool:
    """Tell whether a dep is a folder that the stage did not depend on when it ran, and that holds nothing.

    An upgrade brings such a place for what people may put there (git keeps a file in it that DVC ignores). Nothing came
    of it, so it is a change of ``dvc.yaml``, and none of data.
    """
    return not dep.hash_info and dep.isdir() and dep.get_hash().value == _EMPTY_FOLDER


def _list_changes(status: list[Any], empty: Collection[str]) -> tuple[str, ...]:
    """Turn DVC's status into phrases such as ``deleted: models`` and ``modified: params.yaml train.epochs``.

    Args:
        status: as DVC gives it.
        empty: deps that are new and empty.
    """
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
                    changes.append("modified: dvc.yaml" if path in empty else f"{what}: {path}")
    return tuple(dict.fromkeys(changes))
