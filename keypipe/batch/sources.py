"""Which files a prediction reads and what the files it writes are called."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from keypipe.errors import AnnotationError, ConfigError, format_count
from keypipe.files.listing import FOLDERS, NO_FILE, look_through
from keypipe.files.texts import AS_UTF8, decode_text
from keypipe.images.formats import IMAGE_SUFFIXES, name_unread
from keypipe.images.media import VIDEO_SUFFIXES, is_video
from keypipe.tracks.tables.writing import FORMATS

_GLOB_SIGNS = ("*", "?", "[")


class Source(msgspec.Struct, frozen=True):
    """A file or a stream to predict on.

    Attributes:
        path: the file; of a stream what it is called.
        relative: its path below the folder that was named, without which equal names would meet.
        stream: the number of a camera, or the address of a stream; "" for a file.
    """

    path: Path
    relative: Path
    stream: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it has frames."""
        return bool(self.stream) or is_video(self.path)

    def __str__(self) -> str:
        return self.stream or str(self.path)


class Sources(msgspec.Struct, frozen=True):
    """What a command line names.

    Attributes:
        files: to predict on.
        skipped: files in a folder or pattern that are no image and no video that is read.
    """

    files: list[Source]
    skipped: list[Path] = []


def find_sources(source: str, exclude: Iterable[Path] = ()) -> Sources:
    """Find the images, videos and streams that a command line names.

    Args:
        source: a file; a folder (searched with its subfolders, and links to folders); a pattern such as
            ``photos/**/*.jpg``; a text file, in UTF-8 or UTF-16, that lists files, one a line, relative to it; the
            number of a camera; or an address such as ``rtsp://...``.
        exclude: folders that are not searched, such as those of earlier predictions.

    Returns:
        The files, sorted by path, those of a list in its order; and what was passed over.

    Raises:
        ConfigError: nothing is there, or a list is in another encoding.
    """
    path = Path(source)
    if path.is_file():
        return Sources(_read_list(path) if path.suffix.lower() == LIST else [Source(path, Path(path.name))])
    if _is_stream(source) and not path.is_dir():
        name = Path(_stream_name(source))
        return Sources([Source(name, name, source)])
    if path.is_dir():
        names, others = look_through(path, follow=True)
        lost = [name for name, what in others.items() if what != NO_FILE and not what.startswith(FOLDERS)]
        base, files = path, [path / name for name in (*names, *lost)]  # what is lost is told when its turn comes
    elif any(sign in source for sign in _GLOB_SIGNS):
        files = [Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file()]  # noqa: PTH207
        base = Path(os.path.commonpath([file.parent for file in files])) if files else path
    else:
        raise ConfigError(f"{source}: no such file or folder")
    barred = [folder.resolve() for folder in exclude]
    seen = [file for file in files if not _is_hidden(file.relative_to(base)) and not _is_below(file, barred)]
    usable = [file for file in seen if file.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)]
    if not usable:
        kinds = " ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        found = f"{describe_files(seen)}, none of them" if seen else "nothing that is"
        raise ConfigError(f"{source}: {found} an image or a video ({kinds})")
    skipped = sorted(set(seen) - set(usable))
    return Sources([Source(file, file.relative_to(base)) for file in sorted(usable)], skipped)


LIST = ".txt"
_SHOWN = 5  # names in a message


def _read_list(path: Path) -> list[Source]:
    """Read a list of files; those that are not there stay in it, and are told when their turn comes."""
    try:
        text = decode_text(path.read_bytes(), str(path), advice=f"{AS_UTF8}, or UTF-16")
    except AnnotationError as error:
        raise ConfigError(str(error)) from error
    lines = [line.strip() for line in text.splitlines()]
    names = [Path(line) for line in lines if line and not line.startswith("#")]
    if not names:
        raise ConfigError(f"{path}: no file in this list; it should name one a line")
    files = list(dict.fromkeys(path.parent / name if (path.parent / name).exists() else name for name in names))
    base = os.path.commonpath([file.parent.absolute() for file in files])
    return [Source(file, Path(os.path.relpath(file.absolute(), base))) for file in files]


def _is_stream(source: str) -> bool:
    """Tell whether a source is the number of a camera, or the address of a stream."""
    return source.isdecimal() or "://" in source


def _stream_name(source: str) -> str:
    if source.isdecimal():
        return f"camera{source}"
    place = source.partition("://")[2].rpartition("@")[2]  # no password in the name of a file
    return re.sub(r"[^\w.-]+", "_", place).strip("_.") or "stream"


def describe_files(files: Sequence[Path]) -> str:
    """Count files and name some: images of formats that are not read first, the others by their suffixes."""
    images = [f"{file.name} ({name_unread(file.name)})" for file in files if name_unread(file.name)]
    others = Counter(file.suffix or "without a suffix" for file in files if not name_unread(file.name))
    shown = images[:_SHOWN] + ([f"{len(images) - _SHOWN} more images"] if len(images) > _SHOWN else [])
    shown += [f"{count} {suffix}" for suffix, count in sorted(others.items())]
    return f"{format_count(len(files), 'file')} ({', '.join(shown)})"


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _is_below(file: Path, folders: Sequence[Path]) -> bool:
    return bool(folders) and any(file.resolve().is_relative_to(folder) for folder in folders)


def source_name(source: str) -> str:
    """Name a source for a folder of its results: a file's stem, else the last folder's name that is no pattern.

    Args:
        source: a file, a folder, a pattern or a stream.

    Returns:
        A name without slashes.
    """
    path = Path(source)
    if path.is_file():
        return path.stem
    if _is_stream(source) and not path.is_dir():
        return _stream_name(source)
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
        suffix = ".mp4" if source.is_video else ".jpg"
        stems = (source.relative if source.stream else source.relative.with_suffix(""), source.relative)
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
    endings = (".jpg", ".mp4", ".json", *(item.ending for item in FORMATS.values()))
    return {_with_ending(stem, ending).as_posix().casefold() for ending in endings}


def _with_ending(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)
