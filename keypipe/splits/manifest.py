"""Which image is on which split, for ever: the manifest's lines, read and written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from sys import intern
from typing import TextIO

import msgspec

from keypipe.dataset.yolo import SPLITS
from keypipe.errors import AnnotationError, DatasetError
from keypipe.files.texts import AS_UTF8, decode_text

USED, ABSENT, ASIDE = "used", "absent", "aside"
_DRAW = "#draw"


class ManifestLine(msgspec.Struct, frozen=True, order=True, gc=False):
    """One image and its split.

    Attributes:
        image: path relative to ``data/``.
        md5: hash of its bytes, by which it is known whatever it is called.
        split: ``train``, ``val`` or ``test``, for ever; empty for an image that is set aside before it had one.
        group: images of one group stay in one split; empty for one without a group.
        phash: its perceptual hash, 16 hexadecimal digits; empty where it was not looked at, or has no whole pixels.
        fold: its number among the folds, from 1; empty without folds.
        state: ``used``; ``absent`` for an image that is not there any more, and takes its split again when it returns;
            ``aside`` for one that is in no split now, since it touches two.
    """

    image: str
    md5: str
    split: str = msgspec.field(name="side")  # the column keeps the name that it has
    group: str = ""
    phash: str = ""
    fold: str = ""
    state: str = USED


_PHASH = re.compile(r"([0-9a-f]{16})?")
_NUMBER = re.compile(r"\d+([.,]\d+)?[eE][+-]\d+")
"""A long number as a spreadsheet program writes it."""

_HEADER = ManifestLine.__struct_encode_fields__


def format_phash(phash: int | None) -> str:
    """Format a perceptual hash as the manifest has it; None is empty."""
    return "" if phash is None else f"{phash:016x}"


def parse_phash(text: str) -> int:
    """Parse a perceptual hash; none is 0, which near duplicates pass over as well."""
    return int(text or "0", 16)


class Manifest(msgspec.Struct, frozen=True):
    """Which image is in which split.

    Attributes:
        lines: one for each image, present or absent.
        draw: how many times all splits were drawn, 1 without a reset.
        reset: whether ``split.reset`` was on when it was written; it acts once, when it is switched on.
    """

    lines: tuple[ManifestLine, ...] = ()
    draw: int = 1
    reset: bool = False


def name_units(images: Sequence[str], lines: Iterable[ManifestLine]) -> tuple[str, list[str]]:
    """Return what is drawn from a split: groups if any of its images is in one, else images.

    Args:
        images: of the split, by their path.
        lines: of the manifest.

    Returns:
        ``group`` or ``image``, and the unit of each image; one without a group is a unit of its own.
    """
    groups = {line.image: line.group for line in lines if line.group}
    unit = "group" if any(name in groups for name in images) else "image"
    return unit, [f"group {groups[name]}" if name in groups else f"image {name}" for name in images]


def parse_manifest(text: str) -> Manifest:
    """Parse a manifest, as one person wrote it or as two branches merged it line by line.

    An image that two branches put in different splits has a line for each.

    Raises:
        DatasetError: a line cannot be parsed.
    """
    return _parse_rows(io.StringIO(text.removeprefix("\ufeff"), newline=""))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; one that is not there is empty.

    Raises:
        DatasetError: a line cannot be parsed.
    """
    if not path.exists():
        return Manifest()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse_rows(file)
    except UnicodeDecodeError:  # a spreadsheet saved it
        try:
            return parse_manifest(decode_text(path.read_bytes(), path.name, advice=AS_UTF8))
        except AnnotationError as error:
            raise DatasetError(str(error)) from error


def _parse_rows(file: TextIO) -> Manifest:
    rows: list[ManifestLine] = []
    draws: set[tuple[int, bool]] = {(1, False)}
    for number, row in _number_rows(file):
        if not row or tuple(row) == _HEADER:
            continue
        if len(row) == len(_HEADER) and row[0] == _DRAW and row[1].isdecimal() and len(row[1]) < 10:
            draws.add((int(row[1]), row[2] == "reset"))
            continue
        if len(row) != len(_HEADER) or row[2] not in {*SPLITS, ""} or row[6] not in {USED, ABSENT, ASIDE}:
            raise DatasetError(f"manifest line {number}: expected {','.join(_HEADER)}, got {','.join(row)!r}")
        image, md5, split, group, phash, fold, state = row
        if broken := md5 if _NUMBER.fullmatch(md5) else "" if _PHASH.fullmatch(phash) else phash:
            raise DatasetError(
                f"manifest line {number}: {broken!r} is no hash of {image}; a spreadsheet program that takes a hash for"
                " a number loses its ends. Bring the file back with git, and change it with a text editor"
            )
        rows.append(ManifestLine(image, md5, intern(split), intern(group), phash, intern(fold), intern(state)))
    rows.sort()
    lines: list[ManifestLine] = []
    for line in rows:
        if lines and _is_same(lines[-1], line):
            lines[-1] = max(lines[-1], line, key=lambda line: (line.state == USED, line))
        else:
            lines.append(line)
    draw, reset = max(draws)
    return Manifest(tuple(lines), draw, reset)


def _number_rows(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(file)
    try:
        yield from enumerate(rows, start=1)
    except csv.Error as error:
        raise DatasetError(f"manifest line {rows.line_num}: {error}") from error


def _is_same(line: ManifestLine, other: ManifestLine) -> bool:
    return (line.image, line.md5, line.split) == (other.image, other.md5, other.split)


def format_manifest(manifest: Manifest) -> str:
    """Format a manifest: a header, one sorted line an image, and a line on the draw after a reset."""
    out = io.StringIO()
    write_manifest(out, manifest)
    return out.getvalue()


def write_manifest(file: TextIO, manifest: Manifest) -> None:
    """Write what ``format_manifest`` formats.

    Args:
        file: open for text, with ``newline=""``.
        manifest: what to write.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_HEADER)
    if manifest != Manifest(manifest.lines):
        writer.writerow(
            [_DRAW, manifest.draw, "reset" if manifest.reset else "kept", *[""] * (len(_HEADER) - 4), ABSENT]
        )
    writer.writerows(msgspec.structs.astuple(line) for line in sorted(manifest.lines))


def start_over(manifest: Manifest, reset: bool) -> Manifest:
    """Forget all splits if ``reset`` has been switched on since the manifest was written; left on, it does nothing."""
    if reset and not manifest.reset and manifest.lines:
        return Manifest(draw=manifest.draw + 1, reset=True)
    return msgspec.structs.replace(manifest, reset=reset)
