"""What ``dvc.lock`` says, read as text: what each stage ran on, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pathspec

from keypipe.errors import ConfigError
from tasks.versions.raw import read_md5
from tasks.versions.stages.state import hash_entry
from tasks.workspace.documents import format_yaml, parse_yaml
from tasks.workspace.places import LOCK

Entries = dict[str, dict[str, Any]]
Folders = Mapping[str, Mapping[str, str]]


class Files(NamedTuple):
    """The files of a version of the workspace.

    Attributes:
        read: returns a file by its path; None if there is no file.
        names: returns the paths of all files below a folder, relative to it.
    """

    read: Callable[[str], bytes | None]
    names: Callable[[str], Sequence[str]]


class Joined(NamedTuple):
    """A lock file put together from two.

    Attributes:
        text: of the file.
        stages: stages from the training on that it has an entry for.
        current: those of them whose entry is the one of the workspace.
    """

    text: str
    stages: frozenset[str]
    current: frozenset[str]


def parse_lock(text: str) -> Entries:
    """Return the entry of every stage; none where the text is no lock file."""
    try:
        stages = parse_yaml(text, LOCK.name)["stages"]
    except (ConfigError, KeyError, TypeError):
        return {}
    return dict(stages) if isinstance(stages, Mapping) else {}


def locked_fingerprint(text: str, stage: str) -> str | None:
    """Return the fingerprint that a stage had when it ran last.

    Args:
        text: of a ``dvc.lock``.
        stage: its name.

    Returns:
        What ``stage_fingerprint`` gave then; None where the stage has not run.
    """
    entry = parse_lock(text).get(stage)
    return hash_entry(entry) if entry else None


def locked_outputs(text: str) -> dict[str, str]:
    """Return the md5 of every output that a ``dvc.lock`` names, by its path."""
    return _outputs(parse_lock(text))


def locked_folders(*texts: str) -> set[str]:
    """Return the md5s of all folders that some lock files name as outputs."""
    md5s = {md5 for text in texts for md5 in locked_outputs(text).values()}
    return {md5 for md5 in md5s if md5.endswith(".dir")}


def _outputs(entries: Entries) -> dict[str, str]:
    return {out["path"]: str(out.get("md5")) for entry in entries.values() for out in entry.get("outs", ())}


def join_locks(begun: str, now: str, order: Sequence[str], stage: str, files: Files, folders: Folders) -> Joined:
    """Lay what came of a training over the lock file that it began with.

    The workspace may have gone on since: its data may be others already, and stages after the training may still be
    those of the training before. So each stage has the entry that fits the files that the training began with and the
    outputs of the stages before it: the workspace's, else the one that the training found, else none.

    Args:
        begun: the lock file that the training found.
        now: the workspace's, whose entry of ``stage`` is the training's.
        order: the stages in the order in which they run.
        stage: the training's.
        files: those that the training began with.
        folders: md5 of every file, by its path inside, of each folder among the outputs, by the folder's md5.
    """
    before, after = parse_lock(begun), parse_lock(now)
    upstream = order[: order.index(stage)]
    entries: Entries = {}
    for name in order:
        known = [source[name] for source in (after, before) if name in source]
        fitting = [entry for entry in known if name == stage or _fits(entry, _outputs(entries), files, folders)]
        # what stands before the training did run, on files that have changed since it was locked
        if chosen := fitting[:1] or (known[-1:] if name in upstream else []):
            entries[name] = chosen[0]
    stages = frozenset(entries) - frozenset(upstream)
    current = frozenset(name for name in stages if entries[name] == after.get(name))
    if entries == after:
        return Joined(now, stages, current)
    text = format_yaml({"schema": "2.0", "stages": entries})
    return Joined(text, stages, current)


def _fits(entry: Mapping[str, Any], outputs: Mapping[str, str], files: Files, folders: Folders) -> bool:
    """Tell whether a stage ran on these outputs of earlier stages, this code and these parameters."""
    for dep in entry.get("deps", ()):
        if str(dep.get("md5")) != _find_md5(dep["path"], outputs, files, folders):
            return False
    for file, values in (entry.get("params") or {}).items():
        document = parse_yaml(files.read(file) or b"", file) or {}
        if any(_look_up(document, key) != value for key, value in values.items()):
            return False
    return True


def _find_md5(path: str, outputs: Mapping[str, str], files: Files, folders: Folders) -> str | None:
    """Return the md5 of an output, of a file of an output, or of a file or a folder that git holds."""
    for output, md5 in outputs.items():
        if path == output:
            return md5
        if path.startswith(f"{output}/"):
            return folders.get(md5, {}).get(path.removeprefix(f"{output}/"))
    content = files.read(path)
    if content is not None:
        return _md5(content)
    if versioned := files.read(f"{path}.dvc"):
        return read_md5(versioned.decode("utf-8"))
    return _hash_folder(path, files)


def _hash_folder(path: str, files: Files) -> str | None:
    """Return what DVC calls the content of a folder: the md5 of the list of its files; None where it has none."""
    ignored = pathspec.GitIgnoreSpec.from_lines((files.read(".dvcignore") or b"").decode("utf-8").splitlines())
    names = sorted(name for name in files.names(path) if not ignored.match_file(f"{path}/{name}"))
    listed = [{"md5": _md5(files.read(f"{path}/{name}") or b""), "relpath": name} for name in names]
    return f"{_md5(json.dumps(listed, sort_keys=True).encode())}.dir" if listed else None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _look_up(document: Any, key: str) -> Any:
    """Return the value of a key with dots, as DVC names parameters; None if there is no such key."""
    for part in key.split("."):
        document = document.get(part) if isinstance(document, Mapping) else None
    return document
