"""Train/val/test sides that stay: the manifest, and how images that have no side get one."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from keypipe.annotation import AnnotatedImage
from keypipe.errors import ConfigError, DatasetError
from keypipe.yolo import SIDES

_HEADER = ("image", "md5", "side", "group", "present")
_TRIES = 64
_RATIO_SLACK = 1e-6


class ManifestLine(msgspec.Struct, frozen=True, order=True):
    """One image's side.

    Attributes:
        image: path relative to ``data/``.
        md5: hash of its bytes; an image that is renamed keeps its side by it.
        side: ``train``, ``val`` or ``test``.
        group: images of one group share a side; the image's own path where there are no groups.
        present: ``no`` for an image that is not there any more: it takes its side again when it returns.
    """

    image: str
    md5: str
    side: str
    group: str
    present: str = "yes"


def parse_manifest(text: str) -> list[ManifestLine]:
    """Parse a manifest, as one person wrote it or as two branches merged it line by line.

    Raises:
        DatasetError: a line that is none, or an image on two sides.
    """
    rows = list(csv.reader(io.StringIO(text)))
    lines: dict[str, ManifestLine] = {}
    for number, row in enumerate(rows, start=1):
        if not row or tuple(row) == _HEADER:
            continue
        if len(row) != len(_HEADER) or row[2] not in SIDES or row[4] not in {"yes", "no"}:
            raise DatasetError(f"manifest line {number}: expected {','.join(_HEADER)}, got {','.join(row)!r}")
        line = ManifestLine(*row)
        earlier = lines.get(line.image)
        if earlier and earlier.side != line.side:
            raise DatasetError(
                f"manifest line {number}: {line.image} is on side {line.side}, and on {earlier.side} in another line;"
                " two branches placed it differently: delete one of the two lines"
            )
        if earlier is None or line.present == "yes":
            lines[line.image] = line
    return sorted(lines.values())


def format_manifest(lines: Iterable[ManifestLine]) -> str:
    """Format a manifest: a header and one sorted line an image."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(msgspec.structs.astuple(line) for line in sorted(lines))
    return out.getvalue()


def check_ratios(ratios: Mapping[str, float]) -> None:
    """Check the wanted shares of the sides.

    Args:
        ratios: side -> share; a side of 0 is not made, except that train and val must be there.

    Raises:
        ConfigError: a share below 0, no train or val, or a sum that is not 1.
    """
    shown = ", ".join(f"{side} {ratios.get(side, 0.0):g}" for side in SIDES)
    if min(ratios.values()) < 0 or not (ratios.get("train", 0) > 0 and ratios.get("val", 0) > 0):
        raise ConfigError(f"split: train and val need a share above 0, test may be 0; got {shown}")
    total = sum(ratios.values())
    if abs(total - 1) > _RATIO_SLACK:
        raise ConfigError(f"split: the shares must add up to 1, got {shown} = {total:g}")


def find_group(path: str, pattern: re.Pattern[str] | None) -> str:
    """Return the group of an image.

    Args:
        path: relative to ``data/``; the pattern is searched in what follows ``raw/`` or ``derived/``.
        pattern: its first capture group, or the whole match, is the group; None: every image is its own.

    Raises:
        DatasetError: the pattern does not match.
    """
    name = path.partition("/")[2]
    if pattern is None:
        return name
    match = pattern.search(name)
    if match is None:
        raise DatasetError(
            f"split.group_by: {pattern.pattern!r} does not match {name}; widen it so that every image has a group"
        )
    return match[1] if match.re.groups else match[0]


def assign_sides(
    images: Sequence[AnnotatedImage],
    ratios: Mapping[str, float],
    seed: int,
    known: Sequence[ManifestLine] = (),
    pattern: re.Pattern[str] | None = None,
) -> list[ManifestLine]:
    """Give every image a side; one that has a side keeps it.

    An image is known by its bytes, then by its path. New images join the side of their group; the rest is drawn
    with scikit-learn so that all sides together come nearest to the ratios.

    Args:
        images: all images of the dataset, in any order.
        ratios: wanted shares, see ``check_ratios``.
        seed: of the draw.
        known: the manifest of the last run.
        pattern: finds the group of an image in its path.

    Returns:
        The new manifest: one line for every image, and lines of known images that are absent now.

    Raises:
        DatasetError: too few images or groups, or a group on two sides.
    """
    groups = {image.path: find_group(image.path, pattern) for image in images}
    sides = _known_sides(images, known)
    _join_groups(groups, sides, known)
    rest: dict[str, list[str]] = defaultdict(list)
    for path in sorted(groups):
        if path not in sides:
            rest[groups[path]].append(path)
    missing = _missing(Counter(sides.values()), len(images), ratios)
    for side in ("test", "val"):
        for group in _draw(rest, missing[side], seed):
            sides |= dict.fromkeys(rest.pop(group), side)
    sides |= {path: "train" for paths in rest.values() for path in paths}
    _check_filled(sides, ratios, len(set(groups.values())))
    lines = [ManifestLine(image.path, image.md5, sides[image.path], groups[image.path]) for image in images]
    return sorted(lines + _absent(lines, known))


def _known_sides(images: Sequence[AnnotatedImage], known: Sequence[ManifestLine]) -> dict[str, str]:
    by_path = {line.image: line.side for line in known}
    by_md5 = {line.md5: line.side for line in known}
    sides = {image.path: by_md5.get(image.md5) or by_path.get(image.path) for image in images}
    return {path: side for path, side in sides.items() if side}


def _join_groups(groups: Mapping[str, str], sides: dict[str, str], known: Sequence[ManifestLine]) -> None:
    """Put images without a side on their group's side."""
    group_sides: dict[str, set[str]] = defaultdict(set)
    for line in known:
        group_sides[line.group].add(line.side)
    for path, side in sides.items():
        group_sides[groups[path]].add(side)
    for path, group in groups.items():
        found = group_sides[group]
        if len(found) > 1 and path not in sides:
            raise DatasetError(
                f"{path} is new and its group {group!r} stands on the sides {', '.join(sorted(found))};"
                " correct split.group_by, or correct the group's lines in the manifest"
            )
        if found and path not in sides:
            sides[path] = next(iter(found))


def _missing(have: Mapping[str, int], n_images: int, ratios: Mapping[str, float]) -> dict[str, int]:
    """Return how many images the sides val and test lack; at least one where the side is wanted and empty."""
    missing: dict[str, int] = {}
    for side in ("val", "test"):
        wanted = max(1, round(ratios.get(side, 0.0) * n_images)) if ratios.get(side, 0.0) else 0
        missing[side] = max(0, wanted - have.get(side, 0))
    return missing


def _draw(rest: Mapping[str, Sequence[str]], n_images: int, seed: int) -> list[str]:
    """Draw groups that hold about ``n_images`` images together."""
    from sklearn.model_selection import GroupShuffleSplit, train_test_split  # a second to import

    names = sorted(rest)
    sizes = np.array([len(rest[name]) for name in names])
    if n_images == 0 or len(names) == 0:
        return []
    if n_images >= sizes.sum() or len(names) == 1:
        return names
    if sizes.max() == 1:
        drawn: list[str] = train_test_split(names, test_size=n_images, random_state=seed)[1]
        return drawn
    share = min(max(n_images / sizes.sum(), 1 / len(names)), 1 - 1 / len(names))
    splitter = GroupShuffleSplit(n_splits=_TRIES, test_size=share, random_state=seed)
    tries = [chosen for _, chosen in splitter.split(names, groups=names)]
    best = min(tries, key=lambda chosen: abs(int(sizes[chosen].sum()) - n_images))
    return [names[index] for index in best]


def _check_filled(sides: Mapping[str, str], ratios: Mapping[str, float], n_groups: int) -> None:
    counts = Counter(sides.values())
    empty = [side for side in SIDES if ratios.get(side, 0.0) > 0 and not counts[side]]
    if empty:
        raise DatasetError(
            f"too few images to split: {len(sides)} images in {n_groups} groups leave nothing for"
            f" {' and '.join(empty)}; annotate more, make smaller groups, or set the side's share to 0"
        )


def _absent(lines: Sequence[ManifestLine], known: Sequence[ManifestLine]) -> list[ManifestLine]:
    paths = {line.image for line in lines}
    contents = {line.md5 for line in lines}
    return [
        msgspec.structs.replace(line, present="no")
        for line in known
        if line.image not in paths and line.md5 not in contents
    ]
