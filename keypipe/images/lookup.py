"""Which image file of a folder an annotation file belongs to."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import PureWindowsPath

import msgspec

from keypipe.images.formats import IMAGE_SUFFIXES, name_unread


class Found(msgspec.Struct, frozen=True):
    """What was found for an annotation file.

    Attributes:
        name: the image, relative to the folder; None when none was found, or several.
        how: in a few words how it was found where it is not where the annotation file says, nor beside it; else "".
        candidates: the images of which nothing tells which is meant.
        refused: why there is none, for a message.
    """

    name: str | None
    how: str = ""
    candidates: tuple[str, ...] = ()
    refused: str = ""


class ImageFolder:
    """The files of a folder that may be images, found by what annotation files say of them."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take the files.

        Args:
            names: relative to the folder, with forward slashes.
        """
        everything = frozenset(names)
        self.images = frozenset(name for name in everything if _suffix(name) in IMAGE_SUFFIXES)
        self.others = everything - self.images

    def find(self, source: str, image_path: str | None, *, elsewhere: bool = True) -> Found:
        """Find the image of an annotation file.

        It is the file that the path names, else the one with the annotation file's stem beside it; in another letter
        case or Unicode form where that is the only one. Else it is an image elsewhere in the folder whose place
        mirrors that of the annotation file or the path, or that is the only one of its name.

        Args:
            source: the annotation file, relative to the folder.
            image_path: what it says, relative to itself; Windows' separators and drives are understood.
            elsewhere: whether to look for it in other places than the one that is named and beside the source.

        Returns:
            The image; or why there is none.
        """
        named = _resolve(source, image_path) if image_path else ""
        if named in self.images:
            return Found(named)
        stem = source.rpartition(".")[0]
        beside = [name for suffix in IMAGE_SUFFIXES for name in (stem + suffix, stem + suffix.upper())]
        beside = [name for name in beside if name in self.images]
        if named in self.others and not beside:
            return Found(named)
        ways: tuple[tuple[str, Callable[[], list[str]]], ...] = (
            ("", lambda: beside),
            ("letter case", lambda: self._by_path.get(fold(named), [])),
            ("letter case", lambda: self._by_stem.get(fold(stem), [])),
            ("place", lambda: self._of_mirrored_place(stem, image_path) if elsewhere else []),
            ("name", lambda: self._of_name(stem, image_path) if elsewhere else []),
        )
        for how, look in ways:
            if candidates := look():
                return _only(candidates, how)
        unread = self._of_unread_format(stem, named)
        return Found(unread) if unread else Found(None, refused=_refuse(image_path, named))

    def namesakes(self, path: str) -> tuple[list[str], str]:
        """Return the images that have the file name of a path, in whatever folder.

        Args:
            path: the path; Windows' separators and drives are understood.

        Returns:
            The images; and in a few words how they were found where none has that very name: by its letter case (or
            Unicode form), or by its stem, with the suffix of another format.
        """
        name = PureWindowsPath(path).name
        alike = self._by_last_stem.get(_last_stem(name), [])
        exact = [image for image in alike if image.rpartition("/")[2] == name]
        if exact:
            return exact, ""
        folded = self._called_as(path)
        return (folded, "letter case") if folded else (alike, "stem" if alike else "")

    def find_unread(self, path: str) -> str | None:
        """Return a file of the stem of a path that is an image of a format that is not read; None if there is none."""
        name = PureWindowsPath(path).name
        return self._of_unread_format(name.rpartition(".")[0], name)

    def _of_mirrored_place(self, stem: str, image_path: str | None) -> list[str]:
        """Return the images whose whole path ends the named one; else those with the stem whose folders mirror it."""
        written = PureWindowsPath(image_path or "").parts
        tails = ("/".join(written[start:]) for start in range(len(written) - 1))
        for tail in tails:
            if found := self._by_path.get(fold(tail)):
                return found
        *folders, last = stem.split("/")
        namesakes = self._by_last_stem.get(fold(last), [])
        mirrors = [name for name in namesakes if folders and _mirrors(name.split("/")[:-1], folders)]
        named = self._called_as(image_path)
        contradicts = bool(mirrors and named) and not set(mirrors) & set(named)
        return [*mirrors, *named] if contradicts else mirrors

    def _of_name(self, stem: str, image_path: str | None) -> list[str]:
        """Return the images that are called as the path says, or as the annotation file."""
        namesakes = self._by_last_stem.get(fold(stem.rpartition("/")[2]), [])
        return sorted({*self._called_as(image_path), *namesakes})

    def _called_as(self, image_path: str | None) -> list[str]:
        """Return the images that have the file name of a path."""
        name = fold(PureWindowsPath(image_path or "").name)
        namesakes = self._by_last_stem.get(_last_stem(name), []) if name else []
        return [image for image in namesakes if fold(image.rpartition("/")[2]) == name]

    def _of_unread_format(self, stem: str, named: str) -> str | None:
        """Return a file of a format that is not read, called as the path says or as the annotation file."""
        wanted = {fold(stem.rpartition("/")[2]), _last_stem(named)}
        return min((name for name in self.others if name_unread(name) and _last_stem(name) in wanted), default=None)

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return _index(self.images, fold)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _index(self.images, lambda name: fold(name.rpartition(".")[0]))

    @cached_property
    def _by_last_stem(self) -> dict[str, list[str]]:
        return _index(self.images, _last_stem)


def fold(name: str) -> str:
    """Return a file name in one letter case and Unicode form: macOS and Windows take the others for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a path object for each of many names takes long


def _last_stem(name: str) -> str:
    return fold(name.rpartition("/")[2].rpartition(".")[0])


def _index(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        found[key(name)].append(name)
    return found


def _resolve(source: str, image_path: str) -> str:
    folder, written = source.rpartition("/")[0], image_path.replace("\\", "/")
    return os.path.normpath(f"{folder}/{written}" if folder else written)


def _mirrors(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether folders are the same but for one that has another name, or is there in one of them alone."""
    short, long = sorted((list(map(fold, one)), list(map(fold, other))), key=len)
    if len(short) == len(long):
        return sum(a != b for a, b in zip(short, long, strict=True)) == 1
    return any(short == long[:at] + long[at + 1 :] for at in range(len(long)))


def _only(candidates: Sequence[str], how: str) -> Found:
    if len(candidates) == 1:
        return Found(candidates[0], how)
    return Found(None, candidates=tuple(sorted(candidates)))


def _refuse(image_path: str | None, named: str) -> str:
    if not image_path:
        return "the JSON names no image"
    outside = named.startswith(("..", "/")) or PureWindowsPath(image_path).is_absolute()
    return f"imagePath {image_path!r} " + ("leaves the raw folder" if outside else "is not there")
