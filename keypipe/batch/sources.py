"""Which files a prediction reads and what the files it writes are called."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from keypipe.errors import ConfigError
from keypipe.images.formats import IMAGE_SUFFIXES
from keypipe.images.media import VIDEO_SUFFIXES, is_video

_GLOB_SIGNS = ("*", "?", "[")


class Source(msgspec.Struct, frozen=True):
    """A file to predict on.

    Attributes:
        path: the file.
        relative: its path below the folder that was named, without which equal names would meet.
    """

    path: Path
    relative: Path


def find_sources(source: str, exclude: Iterable[Path] = ()) -> list[Source]:
    """Find the images and videos that a command line names.

    Args:
        source: a file, a folder (searched with its subfolders), or a pattern such as ``photos/**/*.jpg``.
        exclude: folders that are not searched, such as those of earlier predictions.

    Returns:
        The files, sorted by path.

    Raises:
        ConfigError: nothing is there.
    """
    path = Path(source)
    if path.is_file():
        return [Source(path, Path(path.name))]
    if path.is_dir():
        base, files = path, [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    elif any(sign in source for sign in _GLOB_SIGNS):
        files = [Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file()]  # noqa: PTH207
        base = Path(os.path.commonpath([file.parent for file in files])) if files else path
    else:
        raise ConfigError(f"{source}: no such file or folder")
    barred = [folder.resolve() for folder in exclude]
    usable = [file for file in files if _is_usable(file.relative_to(base)) and not _is_below(file, barred)]
    if not usable:
        kinds = " ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        found = f"{len(files)} files, none of them" if files else "nothing that is"
        raise ConfigError(f"{source}: {found} an image or a video ({kinds})")
    return [Source(file, file.relative_to(base)) for file in sorted(usable)]


def _is_usable(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and relative.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


def _is_below(file: Path, folders: Sequence[Path]) -> bool:
    return bool(folders) and any(file.resolve().is_relative_to(folder) for folder in folders)


def source_name(source: str) -> str:
    """Name a source for a folder of its results: a file's stem, else the last folder's name that is no pattern.

    Args:
        source: a file, a folder or a pattern.

    Returns:
        A name without slashes.
    """
    path = Path(source)
    if path.is_file():
        return path.stem
    if path.is_dir():
        return path.resolve().name or "root"
    parts = [part for part in path.parent.parts if not any(sign in part for sign in _GLOB_SIGNS)]
    return Path(*parts).resolve().name if parts else "images"


class Output(msgspec.Struct, frozen=True):
    """Where the results of a source go, relative to the output folder: the drawn picture or video, and the JSON."""

    drawn: Path
    json: Path


def plan_outputs(sources: Sequence[Source], taken: Iterable[str] = ()) -> list[Output]:
    """Name the results after their sources; those that only differ in the suffix keep it within the name.

    Args:
        sources: the files.
        taken: names, relative to the output folder, that are used already.

    Returns:
        An output for each source; no two share a file, also where upper and lower case are one.
    """
    used = {name.casefold() for name in taken}
    outputs: list[Output] = []
    for source in sources:
        suffix = ".mp4" if is_video(source.path) else ".jpg"
        stems = (source.relative.with_suffix(""), source.relative)
        stem = next((stem for stem in stems if not _names(stem) & used), source.relative)
        number = 2
        while _names(stem) & used:
            stem = source.relative.with_name(f"{source.relative.name}-{number}")
            number += 1
        used |= _names(stem)
        outputs.append(Output(_with_ending(stem, suffix), _with_ending(stem, ".json")))
    return outputs


def _names(stem: Path) -> set[str]:
    """Return every name that a result could have: an image and a video never share a stem either."""
    return {_with_ending(stem, ending).as_posix().casefold() for ending in (".jpg", ".mp4", ".json")}


def _with_ending(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
