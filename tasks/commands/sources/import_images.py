"""The images of imported labels: found below a folder, told apart where names repeat, and named anew."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec

from keypipe.annotations.folder import NOT_READABLE_FIX
from keypipe.errors import AnnotationError, Fault
from keypipe.exchange.labels import LabelledImage, LabelSet, join_objects
from keypipe.files.listing import OUTSIDE, list_files, look_through
from keypipe.images.formats import IMAGE_SUFFIXES, UNREAD_FIX, name_unread
from keypipe.images.header import parse_image_header
from keypipe.images.lookup import ImageFolder, fold
from tasks.progress import Progress, follow

_LAYOUT_FOLDERS = {"images", "labeled-data", "JPEGImages"}
"""Folders that belong to a format's layout and say nothing about the image."""

FOLLOW_FIX = f"{NOT_READABLE_FIX}; --follow-links follows links that lead elsewhere"

_N_SHOWN = 3  # candidates that a message names


class Incoming(msgspec.Struct):
    """One image on its way into ``data/raw``: what it shows, its file, and its name below the new folder."""

    labels: LabelledImage
    file: Path
    size_wh: tuple[int, int]
    target: str

    def md5(self) -> str:
        """Hash the image's file."""
        return hashlib.md5(self.file.read_bytes(), usedforsecurity=False).hexdigest()


def list_images(folder: Path, *, leave: bool) -> list[str]:
    """List the image files below a folder as relative paths; those of links out of it only if these may leave it."""
    names = list_files(folder, follow=True, leave=leave)
    return [name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]


def read_size(path: Path) -> tuple[int, int] | str:
    """Return an image's width and height, upright; or what is wrong with it."""
    try:
        return parse_image_header(path.read_bytes()).size_wh
    except (AnnotationError, OSError) as error:
        return str(error)


def find_images(
    labels: LabelSet, folder: Path, tell: Progress, *, leave: bool = False
) -> tuple[list[Incoming], list[Fault]]:
    """Find each image's file by the end of its path, read its size, and choose its name below the new folder.

    An image that is there in another letter case, or with the same stem in another format, is taken and counted, unless
    it is the one that other labels name. Images that several files of labels are about become one.

    Args:
        labels: what was read; what is the same in several files is counted there.
        folder: of the images.
        tell: is told how far it is.
        leave: whether links may lead out of the folder.

    Returns:
        The images that were found, in the order of the labels, and what is wrong with the others.
    """
    files, unreadable = look_through(folder, follow=True, leave=leave)
    there = ImageFolder(files)
    found: dict[str, Incoming] = {}
    faults: list[Fault] = []
    images = [image for image in labels.images if not image.faulty]
    named = {
        name for namesakes, how in (there.namesakes(image.name) for image in images) if not how for name in namesakes
    }
    for image in follow(images, "looking for the images", tell):
        namesakes, how = there.namesakes(image.name)
        candidates = _best_matches(image, [name for name in namesakes if not how or name not in named])
        if len(candidates) != 1:
            lost = [name for name in unreadable if fold(Path(name).name) == fold(PureWindowsPath(image.name).name)]
            if not candidates and lost:
                found_there = f"{lost[0]}: {unreadable[lost[0]]}"
                fix = FOLLOW_FIX if unreadable[lost[0]].startswith(OUTSIDE) else NOT_READABLE_FIX
                faults.append(Fault(image.name, None, "not-readable", found_there, fix))
            else:
                faults.append(_tell_missing(image, candidates, folder, there.find_unread(image.name)))
            continue
        file = candidates[0]
        size = read_size(folder / file)
        if isinstance(size, str):
            faults.append(Fault(image.name, None, "bad-image", size, "restore the image"))
        elif image.size_wh is not None and image.size_wh != size:
            faults.append(_tell_mismatch(image, image.size_wh, size))
        elif file in found:
            faults += join_objects(labels, found[file].labels, image)
        else:
            found[file] = Incoming(image, folder / file, size, file)
            if how:
                labels.repairs[_FOUND_BY[how]] += 1
    incoming = [image for image in found.values() if not image.labels.faulty]
    _choose_targets(incoming)
    return incoming, faults


_FOUND_BY = {
    "letter case": "images whose names are in another letter case",
    "stem": "images of the same stem in another format",
}


def _tell_missing(image: LabelledImage, candidates: Sequence[str], folder: Path, unread: str | None) -> Fault:
    if candidates:
        shown = ", ".join(candidates[:_N_SHOWN]) + (", ..." if len(candidates) > _N_SHOWN else "")
        found, fix = (
            f"{len(candidates)} images have this name: {shown}",
            "give the folder of the right ones with --images",
        )
    elif unread:
        return Fault(
            image.name, None, "image-not-read", f"{unread}: its format, {name_unread(unread)}, is not read", UNREAD_FIX
        )
    else:
        found, fix = f"no image of this name below {folder}", "give their folder with --images"
    return Fault(image.name, None, "no-image", found, fix)


def _tell_mismatch(image: LabelledImage, written: tuple[int, int], size: tuple[int, int]) -> Fault:
    found = "the labels are for {}x{} px, the image is {}x{} px".format(*written, *size)
    turned = written == size[::-1]
    exchanged = "width and height are exchanged in the labels, or these ignore an EXIF orientation: correct the one, or"
    hint = f"{exchanged} turn the image's pixels" if turned else "restore the image"
    return Fault(image.name, None, "size-mismatch", found, hint)


def _best_matches(image: LabelledImage, files: Sequence[str]) -> list[str]:
    """Return the files that fit an image's name best.

    That is the one that shares the longest end of its path; of several of these the one that lies nearest below the
    folder of the labels, then one in a folder that the name of the file of labels speaks of.
    """
    if len(files) < 2:
        return [*files]
    wanted = PureWindowsPath(image.name).parts[::-1]
    origin = PurePosixPath(image.origin)
    home = origin.parent.parts
    words = {*re.split(r"[^a-z0-9]+", origin.stem.lower())}

    def fit(file: str) -> tuple[int, int, int]:
        parts = PurePosixPath(file).parts
        named = sum(part.lower() in words for part in parts[:-1])
        return _n_shared(wanted, parts[::-1]), _n_shared(home, parts), named

    best = max(map(fit, files))
    return [file for file in files if fit(file) == best]


def _n_shared(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many parts two paths share from their start."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(first), len(second)))


def _choose_targets(images: Sequence[Incoming]) -> None:
    """Drop folders of the layout from the names, and keep stems apart: labelme's JSON has the image's stem."""
    for image in images:
        path = PurePosixPath(image.target)
        image.target = str(PurePosixPath(*(part for part in path.parts[:-1] if part not in _LAYOUT_FOLDERS), path.name))
    stems = Counter(str(PurePosixPath(image.target).with_suffix("")).lower() for image in images)
    taken: set[str] = set()
    for image in images:
        path = PurePosixPath(image.target)
        name = path
        if stems[str(path.with_suffix("")).lower()] > 1:
            name = path.with_name(f"{path.stem}_{path.suffix[1:]}{path.suffix}")
        number = 2
        while str(name.with_suffix("")).lower() in taken:
            name = path.with_name(f"{path.stem}_{number}{path.suffix}")
            number += 1
        taken.add(str(name.with_suffix("")).lower())
        image.target = str(name)
