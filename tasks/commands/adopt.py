"""One's own annotations in place of the demo: data, parameters and everything that followed from the old ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

import msgspec

from keypipe.errors import AnnotationError, ConfigError
from keypipe.files.atomic import write_text
from keypipe.files.listing import OUTSIDE, describe_others, look_through
from tasks.progress import Progress
from tasks.workspace.places import (
    COCO,
    DATASET,
    DERIVED,
    EXPORTS,
    GROUPS,
    LOCK,
    METRICS,
    MODELS,
    PARAMS_FILE,
    RAW,
    RAW_FILE,
    REPLACED,
    REPORTS,
    VIEW,
)
from tasks.workspace.scratch import remove, scratch_folder

FOLLOWS = tuple(
    path.as_posix() for path in (RAW_FILE, LOCK, COCO.parent, DERIVED, DATASET, VIEW, MODELS, EXPORTS, REPORTS, METRICS)
)
"""What follows from the data; outdated once they are replaced."""


class Adopted(msgspec.Struct, frozen=True):
    """What became of what was there before.

    Attributes:
        aside: where it lies now, relative to the workspace.
        moved: what was moved there, besides ``params.yaml``.
    """

    aside: Path
    moved: list[str]


def adopt_folder(root: Path, folder: Path, names: Sequence[str], params: str, progress: Progress) -> Adopted:
    """Take a folder of labelme annotations as the workspace's data.

    Nothing is lost: the old data and all that followed from them move to ``.keypipe/replaced/``. The folder itself
    is copied, and stays as it is; when it is ``data/raw`` already, it is used where it lies.

    Args:
        root: the workspace.
        folder: labelme JSON files and images, in any subfolders.
        names: of its files, as ``list_folder`` gives them.
        params: text of the new ``params.yaml``.
        progress: is told how far it is.

    Raises:
        OSError: something cannot be moved or copied. Nothing was changed then.
    """
    source = folder.resolve()
    aside = choose_aside(root)
    with scratch_folder(root, "use") as scratch:
        incoming = None if source == root.resolve() / RAW else scratch / RAW.name
        if incoming:
            _copy_folder(source, incoming, len(names), progress)
        moved = _exchange(root, aside, incoming, params)
    return Adopted(aside.relative_to(root), moved)


def choose_aside(root: Path) -> Path:
    """Return a folder that is not there yet, for what is replaced now."""
    now = root / REPLACED / time.strftime("%Y-%m-%d_%H.%M.%S")
    places = chain([now], (now.with_name(f"{now.name}-{number}") for number in count(2)))
    return next(path for path in places if not path.exists())


def list_folder(root: Path, folder: Path, *, follow_links: bool = False) -> list[str]:
    """List the files of a folder, and check that everything in it can be copied.

    Args:
        root: the workspace.
        folder: the folder.
        follow_links: links may lead out of the folder.

    Raises:
        AnnotationError: it is none, or something is in it that is no file that can be read: links that lead nowhere or
            round in circles, and pipes; links to folders as well in ``data/raw``, which is not copied; without
            ``follow_links`` links out of it.
        ConfigError: the folder holds the workspace, or lies in it anywhere but at ``data/raw``.
    """
    source, raw = folder.resolve(), root.resolve() / RAW
    if source != raw and (root.resolve().is_relative_to(source) or source.is_relative_to(root.resolve())):
        raise ConfigError(f"{folder}: must be {RAW} itself, or lie outside the workspace")
    if not source.is_dir():
        raise AnnotationError(f"{source}: no such folder")
    names, others = look_through(source, follow=source != raw, leave=follow_links and source != raw)
    if others:
        told = describe_others(others)
        links = any(what.startswith(OUTSIDE) for what in others.values())
        advice = "; --follow-links copies what links lead to elsewhere" if links else ""
        raise AnnotationError(
            f"{source}: not to be copied: {told}; put the files themselves there, or take it out{advice}"
        )
    return names


def _exchange(root: Path, aside: Path, incoming: Path | None, params: str) -> list[str]:
    """Move away what is outdated and put the new data and parameters in its place: all of it, or nothing.

    Returns:
        What was moved.
    """
    aside.mkdir(parents=True)
    shutil.copy2(root / PARAMS_FILE, aside / PARAMS_FILE)
    moved: list[str] = []
    try:
        for name in _outdated(root, keep_raw=incoming is None):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).rename(aside / name)
            moved.append(name)
        if incoming:
            incoming.rename(root / RAW)
            _empty_groups(root / GROUPS, aside / GROUPS)
        write_text(root / PARAMS_FILE, params)
    except BaseException:
        if incoming and not incoming.exists():
            remove(root / RAW)
        _undo(root, aside, moved)
        raise
    return moved


def _copy_folder(source: Path, target: Path, n_files: int, tell: Progress) -> None:
    """Copy a folder without its hidden files."""
    done = count(1)

    def copy(file: str, place: str) -> None:
        shutil.copy2(file, place)
        tell("copying files", next(done), n_files)

    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), copy_function=copy)


def _outdated(root: Path, *, keep_raw: bool) -> list[str]:
    names = [*FOLLOWS] if keep_raw else [RAW.as_posix(), *FOLLOWS]
    return [name for name in names if (root / name).exists()]


def _undo(root: Path, aside: Path, moved: Sequence[str]) -> None:
    for name in moved:
        (aside / name).rename(root / name)
    for path in (GROUPS, Path(PARAMS_FILE)):
        if (aside / path).exists():
            shutil.copy2(aside / path, root / path)
    remove(aside)


def _empty_groups(path: Path, aside: Path) -> None:
    """Start a new table of groups: the old one speaks of images that are gone, and DVC wants a file to be there."""
    if path.exists():
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, aside)
    write_text(path, "image,group\n")
