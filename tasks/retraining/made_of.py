"""What a registered version was made of, and how that differs from the workspace as it is: data, parameters, code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from keypipe.splits.manifest import Manifest, parse_manifest
from tasks.registry.moves.aliases import open_registry
from tasks.registry.registration import GATE, SETTLED
from tasks.tracking.models.registry import Registry, Version
from tasks.versions import git, snapshots
from tasks.versions.raw import list_raw
from tasks.versions.repository import opened, relative
from tasks.versions.stages.acceptance import is_code
from tasks.versions.stages.lockfile import parse_lock
from tasks.versions.stages.state import load_stage
from tasks.versions.store import fetch_folder, list_folders
from tasks.workspace.documents import parse_yaml
from tasks.workspace.models import read_run_id
from tasks.workspace.places import LOCK, MANIFEST, PARAMS_FILE, RAW

LEARNING = ("convert", "split", "train")
"""Stages whose parameters shape the weights."""

_NOT_LEARNT = ("doctor",)
"""Sections that these stages read and that change no weight."""

SAME_RUN = "keypipe.same_run"
SAME_DATA = "keypipe.same_data"
"""Tags of a version: the last training that gave its model again, byte for byte, and the data of that training."""

_DAY_SECONDS = 86400.0

SameParam = Callable[[str, Any, Any], bool]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How the workspace differs from what a version was made of.

    Attributes:
        version: its number.
        images: images that are new, gone, labelled otherwise or of other pixels; None: its data are not at hand.
        of: images of the version's data.
        params: parameters that shape the weights, such as ``train.epochs: 70 -> 80``.
        code: code that a training depends on, and files such as ``data/groups.csv``; None: not known.
        age_days: since it was registered.
        gate: what the gate said of it; "" where it was not asked.
    """

    version: str
    images: int | None
    of: int
    params: tuple[str, ...]
    code: tuple[str, ...] | None
    age_days: float
    gate: str = ""

    @property
    def none(self) -> bool:
        """Nothing differs, as far as can be told."""
        return self.images == 0 and not self.params and self.code == ()


def note_same(root: Path, number: str, data: str) -> None:
    """Write down that the workspace's training gave the model of a version again; later data are compared with its.

    Args:
        root: the workspace.
        number: of the version.
        data: DVC's name for the raw data of the training.
    """
    open_registry(root).tag_version(number, {SAME_RUN: read_run_id(root) or "", SAME_DATA: data})


def read_kept(root: Path, registry: Registry, version: Version, path: Path) -> bytes | None:
    """Return a file that a version was made with: out of its folder in the registry, else out of its snapshot."""
    content = registry.read_file(version.number, path.name)
    if content is None and (commit := version.tags.get("keypipe.snapshot")) and git.is_repository(root):
        content = snapshots.read_file(root, commit, path.as_posix())
    return content


def read_version_manifest(root: Path, registry: Registry, version: Version) -> Manifest | None:
    """Return which image was in which split when a version was trained; None where nobody knows any more."""
    content = read_kept(root, registry, version, MANIFEST)
    return None if content is None else parse_manifest(content.decode("utf-8-sig"))


def find_change(root: Path, registry: Registry, version: Version, same_param: SameParam) -> Change:
    """Compare the workspace with what a version was made of; takes seconds, and changes nothing.

    Args:
        root: the workspace.
        registry: where the version is.
        version: the version.
        same_param: tells whether a key of ``params.yaml`` means the same with two values; None: it is absent.
    """
    data = version.tags.get(SAME_DATA) or version.tags.get("keypipe.data", "")
    images, of = _compare_data(root, data)
    runs = {version.tags.get(name) or "-" for name in ("keypipe.run", SAME_RUN)}
    own = read_run_id(root) in runs and (root / LOCK).exists()
    # the workspace's own entry says so where outputs of earlier code were accepted as those of today's
    lock = (root / LOCK).read_bytes() if own else read_kept(root, registry, version, LOCK)
    entries = parse_lock(lock.decode("utf-8")) if lock else {}
    return Change(
        version=version.number,
        images=images,
        of=of,
        params=tuple(_compare_params(root, entries, same_param)) if entries else (),
        code=tuple(_compare_files(root, entries)) if entries else None,
        age_days=max(0.0, (time.time() - version.created) / _DAY_SECONDS),
        gate=version.tags.get(f"{GATE}outcome", ""),
    )


def _compare_data(root: Path, md5: str) -> tuple[int | None, int]:
    if not md5:
        return None, 0
    before = list_folders(root, [md5]).get(md5)
    if before is None:
        fetch_folder(root, md5)
        before = list_folders(root, [md5]).get(md5)
    return (None, 0) if before is None else (count_changed(before, list_raw(root)), len(_stems(before)))


def count_changed(before: Mapping[str, str], now: Mapping[str, str]) -> int:
    """Return how many images differ, each with its labels: new, gone, other pixels, other labels.

    Args:
        before: md5 of every file, by its path.
        now: the same.
    """
    return len(_stems(name for name in {*before, *now} if before.get(name) != now.get(name)))


def _stems(names: Iterable[str]) -> set[str]:
    return {str(PurePosixPath(name).with_suffix("")) for name in names}


def _compare_params(root: Path, entries: Mapping[str, Any], same_param: SameParam) -> list[str]:
    document = parse_yaml((root / PARAMS_FILE).read_bytes(), PARAMS_FILE) or {}
    stages = parse_yaml((root / "dvc.yaml").read_bytes(), "dvc.yaml")["stages"]
    found: list[str] = []
    for stage in LEARNING:
        locked = (entries.get(stage, {}).get("params") or {}).get(PARAMS_FILE, {})
        for name in stages[stage].get("params", ()):
            if name not in _NOT_LEARNT and not same_param(name, locked.get(name), _look_up(document, name)):
                found += list_differences(name, locked.get(name), _look_up(document, name))
    return list(dict.fromkeys(found))


def _look_up(document: Any, name: str) -> Any:
    for key in name.split("."):
        document = document.get(key) if isinstance(document, Mapping) else None
    return document


def list_differences(name: str, before: Any, now: Any) -> list[str]:
    """Return what differs between two values of a parameter, a phrase for each that is no section."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [*before, *(key for key in now if key not in before)]
        return [text for key in keys for text in list_differences(f"{name}.{key}", before.get(key), now.get(key))]
    return [] if before == now else [f"{name}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _compare_files(root: Path, entries: Mapping[str, Any]) -> list[str]:
    """Return the code of the training that differs, and what the learning stages read that no stage makes."""
    made = [out["path"] for entry in entries.values() for out in entry.get("outs", ())]
    found: list[str] = []
    with opened(root) as repo:
        for stage in LEARNING:
            locked = {dep["path"]: str(dep.get("md5")) for dep in entries.get(stage, {}).get("deps", ())}
            for dep in load_stage(repo, root, stage).deps:
                path = relative(root, dep)
                if path not in locked or path == RAW.as_posix() or (is_code(path) and stage != "train"):
                    continue
                if any(path == out or path.startswith(f"{out}/") for out in made):
                    continue
                if not dep.exists or str(dep.get_hash().value) != locked[path]:
                    found.append(path)
    return list(dict.fromkeys(found))


def judged_last(versions: Sequence[Version]) -> Version | None:
    """Return the version of which the gate's verdict was carried out last; None where there is none."""
    settled = [version for version in versions if version.tags.get(SETTLED)]
    return max(settled, key=lambda version: version.tags[SETTLED], default=None)


def settled_at(version: Version) -> float:
    """Return when that was, in seconds since the epoch; 0 where it never was."""
    told = version.tags.get(SETTLED)
    return datetime.fromisoformat(told).timestamp() if told else 0.0
