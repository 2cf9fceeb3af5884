"""What a training starts from: files in ``data/weights``, each versioned by DVC as ``NAME.pt.dvc`` beside it.

The folder is a dependency of the stage train, so that other weights under the same name make it stale. A file that lies
elsewhere is in no fingerprint, and too large for a snapshot: such a run could not be reproduced.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keypipe.errors import ConfigError
from tasks.versions.raw import read_md5
from tasks.versions.repository import opened, waiting
from tasks.workspace.places import PARAMS_FILE, WEIGHTS

MODEL, TEACHER = "model", "distill_model"
KEYS = {MODEL: "", TEACHER: " --teacher"}
"""Keys of the section ``train`` that may name a file, and how ``keypipe weights`` is told which one is meant."""
SUFFIX = ".pt"
"""Of weights."""
CONFIGS = (".yaml", ".yml")
"""Suffixes of model YAMLs, which are small, and kept by git."""


def find_unkept(root: Path, train: Mapping[str, Any]) -> list[str]:
    """Find files that a training would start from, and that neither DVC nor git keeps.

    Args:
        root: the workspace.
        train: its section ``train``. Names that are no file here are Ultralytics' own.

    Returns:
        A line for each that says what to do.
    """
    named = {key: str(train[key]) for key in KEYS if train.get(key)}
    found = {key: _why_unkept(root, name, KEYS[key]) for key, name in named.items()}
    return [f"{PARAMS_FILE}: train.{key}: {named[key]}: {why}" for key, why in found.items() if why]


def check_kept(root: Path, train: Mapping[str, Any]) -> None:
    """Refuse to start a training from files that neither DVC nor git keeps.

    Raises:
        ConfigError: there are some; a line for each says what to do.
    """
    if problems := find_unkept(root, train):
        raise ConfigError("\n".join(problems))


def _why_unkept(root: Path, name: str, option: str) -> str:
    path = root / name
    if not _is_kept_place(root, path):
        if (file := _find_file(path)) is None:
            return ""
        shown = shlex.quote(str(file.relative_to(root) if file.is_relative_to(root) else file))
        return f"lies outside {WEIGHTS}, where DVC keeps it; `keypipe weights{option} {shown}` copies it there"
    if path.suffix in CONFIGS:
        return ""
    md5 = read_versioned(path)
    if md5 is None:
        what, given = ("DVC does not keep it yet", name) if path.exists() else ("not there", "FILE")
        return f"{what}; `keypipe weights{option} {given}`"
    if not path.exists():
        return f"not there; `dvc pull {name}.dvc` brings it back"
    advice = f"`dvc checkout {name}.dvc` brings that one back, `dvc add {name}` keeps this one"
    return "" if hash_file(path) == md5 else f"not the file that DVC keeps; {advice}"


def _is_kept_place(root: Path, path: Path) -> bool:
    return path.parent.resolve() == (root / WEIGHTS).resolve()  # the file itself may be a link into DVC's cache


def _find_file(path: Path) -> Path | None:
    """Return the file that Ultralytics takes for a path, which finds ``x8.yaml`` for ``x8n.yaml``; None: no file."""
    general = path.with_name(re.sub(r"(\d+)([nslmx])(.+)?$", r"\1\3", path.name))
    places = [path, general] if path.suffix in CONFIGS else [path]
    return next((place for place in places if place.is_file()), None)


def read_versioned(path: Path) -> str | None:
    """Return the md5 under which DVC keeps a file of ``data/weights``; None if it does not."""
    note = path.with_name(f"{path.name}.dvc")
    return read_md5(note.read_text(encoding="utf-8")) if note.exists() else None


def hash_file(path: Path) -> str:
    """Return the md5 of a file, by which DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def list_versioned(root: Path) -> list[str]:
    """Return DVC's files about weights, such as ``data/weights/x.pt.dvc``."""
    return sorted(path.relative_to(root).as_posix() for path in (root / WEIGHTS).glob("*.dvc"))


def version_weights(root: Path, path: Path) -> None:
    """Let DVC keep a file of ``data/weights``, as ``dvc add`` does; the file stays what it is."""
    from dvc.repo.add import get_or_create_stage

    with opened(root) as repo, waiting(repo), repo.scm_context(quiet=True):
        stage, _ = get_or_create_stage(repo, str(path))
        repo.check_graph(stages=[stage])
        stage.add_outs(relink=False)
        stage.dump()
