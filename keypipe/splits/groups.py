"""The group of an image: from its path, or from a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from keypipe.errors import AnnotationError, DatasetError
from keypipe.files.texts import parse_csv
from keypipe.keypoints.names import normal_form

BY_FOLDER = "folder"
_VERSION = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{6,}(?:\.[^./]*)?")
"""How Roboflow names the versions of a picture that it made: ``NAME.rf.HASH.jpg``."""


def find_version_group(path: str) -> str:
    """Return the group of an image that is one of several augmented versions of a picture; empty if it is none.

    Args:
        path: relative to ``data/``.

    Returns:
        The folder that was imported and the picture's name: its versions lie in folders of the source's splits.
    """
    if ".rf." not in path:
        return ""
    _, *folders, name = path.split("/")
    match = _VERSION.fullmatch(name)
    return "/".join([*folders[:1], match[1]]) if match else ""


def find_group(path: str, group_by: str | None) -> str:
    """Return the group that an image's path puts it in; empty for none.

    Args:
        path: relative to ``data/``; what follows ``raw/`` or ``derived/`` counts.
        group_by: ``folder``; or a regular expression whose first capture group, or whole match, is the group; None:
            there are no groups.

    Raises:
        DatasetError: the expression does not match.
    """
    name = path.partition("/")[2]
    if group_by is None:
        return ""
    if group_by == BY_FOLDER:
        return name.rpartition("/")[0]
    match = re.search(group_by, name)
    if match is None:
        raise DatasetError(
            f"split.group_by: {group_by!r} does not match {name}; widen it so that every image has a group"
        )
    return match[1] if match.re.groups else match[0]


def parse_groups(text: str, column: str) -> dict[str, str]:
    """Parse a CSV table of groups.

    Args:
        text: with a header, and commas, semicolons or tabs between values; the column ``image`` holds paths of images
            or of annotation files below ``data/raw``.
        column: the column that holds the group; an empty value is none.

    Returns:
        Path -> group, in the normal form of labels: ``C`` and ``C `` are one.

    Raises:
        DatasetError: a column is not there, or an image is in two groups.
    """
    text = text.removeprefix("\ufeff")
    delimiter = next((mark for mark in ",;\t" if mark in text.partition("\n")[0]), ",")
    try:
        header, *rows = parse_csv(text, "groups", delimiter) or [[]]
    except AnnotationError as error:
        raise DatasetError(str(error)) from error
    lacking = [name for name in ("image", column) if name not in header]
    if lacking:
        raise DatasetError(f"groups: no column {' and '.join(lacking)}; there are {', '.join(header)}")
    at, of = header.index("image"), header.index(column)
    groups: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        image = (row[at] if at < len(row) else "").replace("\\", "/")
        group = normal_form(row[of]) if of < len(row) else ""
        if groups.setdefault(image, group) != group:
            raise DatasetError(f"groups line {number}: {image} is in {group!r}, and in {groups[image]!r} above")
    return groups


def look_up_groups(images: Iterable[tuple[str, str]], table: Mapping[str, str]) -> list[str]:
    """Return the group of each image, from a table of image or annotation files.

    Args:
        images: path relative to ``data/`` of each, and its annotation file relative to ``data/raw``.
        table: path relative to ``data/raw`` -> group.

    Raises:
        DatasetError: images that the table does not have.
    """
    groups: list[str] = []
    lacking: list[str] = []
    for path, source in images:
        name = path.partition("/")[2]
        group = table.get(name, table.get(source))
        if group is None:
            lacking.append(name)
        groups.append(group or "")
    if lacking:
        raise DatasetError(
            f"groups: {len(lacking)} images have no line, such as {min(lacking)}; an empty group stands for none"
        )
    return groups
