"""Train/val/test sides that stay: the manifest, and how images that have no side get one.

The rules are explained in docs/splits.md.
"""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from sys import intern
from typing import TextIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset.yolo import SIDES
from keypipe.errors import ConfigError, DatasetError
from keypipe.images.pixels import connect, label_near_duplicates

BY_FOLDER = "folder"
USED, ABSENT, ASIDE = "used", "absent", "aside"
_DRAW = "#draw"
_RATIO_SLACK = 1e-6

Feature = tuple[str, str]
"""What a side is balanced by: ``("images", "")``, ``("images with", "2-3")`` objects, or ``("objects", class)``."""

Features = tuple[tuple[Feature, int], ...]
"""How often some images have each; a tuple, so that images that are alike can share one."""

IMAGES: Feature = ("images", "")


class Sample(msgspec.Struct, frozen=True, gc=False):
    """What a side is chosen by, of one image.

    Attributes:
        path: relative to ``data/``.
        md5: hash of the image file's bytes, the identity of the image.
        features: what it counts for, see ``count_features``.
        group: images of one group share a side; empty for one without a group.
    """

    path: str
    md5: str
    features: Features
    group: str = ""


class ManifestLine(msgspec.Struct, frozen=True, order=True, gc=False):
    """One image's side.

    Attributes:
        image: path relative to ``data/``.
        md5: hash of its bytes, by which it is known whatever it is called.
        side: ``train``, ``val`` or ``test``, for ever; empty for an image that is set aside before it had one.
        group: images of one group share a side; empty for one without a group.
        phash: its perceptual hash, 16 hexadecimal digits; empty where it was not looked at, or has no whole pixels.
        fold: its number among the folds, from 1; empty without folds.
        state: ``used``; ``absent`` for an image that is not there any more, and takes its side again when it returns;
            ``aside`` for one that is in no side now, since it touches two.
    """

    image: str
    md5: str
    side: str
    group: str = ""
    phash: str = ""
    fold: str = ""
    state: str = USED


_HEADER = ManifestLine.__struct_fields__


def format_phash(phash: int | None) -> str:
    """Format a perceptual hash as the manifest has it; None is empty."""
    return "" if phash is None else f"{phash:016x}"


def parse_phash(text: str) -> int:
    """Parse a perceptual hash; none is 0, which near duplicates pass over as well."""
    return int(text or "0", 16)


class Manifest(msgspec.Struct, frozen=True):
    """Which image is on which side.

    Attributes:
        lines: one for each image, present or absent.
        draw: how many times all sides were drawn, 1 without a reset.
        reset: whether ``split.reset`` was on when it was written; it acts once, when it is switched on.
    """

    lines: tuple[ManifestLine, ...] = ()
    draw: int = 1
    reset: bool = False


def parse_manifest(text: str) -> Manifest:
    """Parse a manifest, as one person wrote it or as two branches merged it line by line.

    An image that two branches put on different sides has a line for each.

    Raises:
        DatasetError: a line that is none.
    """
    return _parse_rows(io.StringIO(text))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; one that is not there is empty.

    Raises:
        DatasetError: a line that is none.
    """
    if not path.exists():
        return Manifest()
    with path.open(encoding="utf-8", newline="") as file:
        return _parse_rows(file)


def _parse_rows(file: TextIO) -> Manifest:
    rows: list[ManifestLine] = []
    draws: set[tuple[int, bool]] = {(1, False)}
    for number, row in enumerate(csv.reader(file), start=1):
        if not row or tuple(row) == _HEADER:
            continue
        if len(row) == len(_HEADER) and row[0] == _DRAW and row[1].isdecimal():
            draws.add((int(row[1]), row[2] == "reset"))
            continue
        if len(row) != len(_HEADER) or row[2] not in {*SIDES, ""} or row[6] not in {USED, ABSENT, ASIDE}:
            raise DatasetError(f"manifest line {number}: expected {','.join(_HEADER)}, got {','.join(row)!r}")
        image, md5, side, group, phash, fold, state = row
        rows.append(ManifestLine(image, md5, intern(side), intern(group), phash, intern(fold), intern(state)))
    rows.sort()
    lines: list[ManifestLine] = []
    for line in rows:
        if lines and _is_same(lines[-1], line):
            lines[-1] = max(lines[-1], line, key=lambda line: (line.state == USED, line))
        else:
            lines.append(line)
    draw, reset = max(draws)
    return Manifest(tuple(lines), draw, reset)


def _is_same(line: ManifestLine, other: ManifestLine) -> bool:
    return (line.image, line.md5, line.side) == (other.image, other.md5, other.side)


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
    """Forget all sides if ``reset`` has been switched on since the manifest was written; left on, it does nothing."""
    if reset and not manifest.reset and manifest.lines:
        return Manifest(draw=manifest.draw + 1, reset=True)
    return msgspec.structs.replace(manifest, reset=reset)


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
        text: with a header; the column ``image`` holds paths of images or of annotation files below ``data/raw``.
        column: the column that holds the group; an empty value is none.

    Returns:
        Path -> group.

    Raises:
        DatasetError: a column is not there, or an image is in two groups.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    lacking = [name for name in ("image", column) if name not in (reader.fieldnames or ())]
    if lacking:
        raise DatasetError(f"groups: no column {' and '.join(lacking)}; there are {', '.join(reader.fieldnames or ())}")
    groups: dict[str, str] = {}
    for row in reader:
        image, group = (row["image"] or "").replace("\\", "/"), row[column] or ""
        if groups.setdefault(image, group) != group:
            raise DatasetError(
                f"groups line {reader.line_num}: {image} is in {group!r}, and in {groups[image]!r} above"
            )
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


class Aside(msgspec.Struct, frozen=True):
    """An image that is in no side, since it touches two.

    Attributes:
        image: its path relative to ``data/``.
        touches: side -> an image there that it is the same as, or shares a group, a near duplicate or a chain of
            them with.
    """

    image: str
    touches: dict[str, str]


class Split(msgspec.Struct, frozen=True):
    """Where every image is.

    Attributes:
        lines: of the new manifest.
        asides: images that are in no side.
        together: paths of used images that must share a side; two or more each, the largest first.
    """

    lines: tuple[ManifestLine, ...]
    asides: tuple[Aside, ...]
    together: tuple[tuple[str, ...], ...]


def assign_sides(
    samples: Sequence[Sample],
    ratios: Mapping[str, float],
    seed: int,
    known: Sequence[ManifestLine] = (),
    phashes: Mapping[str, str] | None = None,
    n_folds: int = 0,
) -> Split:
    """Give every image a side; one that has a side keeps it.

    An image is known by its bytes. Images of one group, near duplicates, and chains of these, belong together: a new
    one joins the side of those that have one, or is set aside when they are on two. The rest fills the ratios.

    Args:
        samples: all images of the dataset, in any order.
        ratios: wanted shares, see ``check_ratios``.
        seed: of the draw.
        known: the manifest of the last run.
        phashes: md5 -> perceptual hash, as the manifest has it, of images whose hash is not in it yet.
        n_folds: 0, or into how many folds the images of train and val are dealt as well.

    Returns:
        The manifest's new lines, and what belongs together.

    Raises:
        DatasetError: a side would be empty.
    """
    contents = _Contents(samples, known, phashes or {})
    side_of, asides = _keep_and_join(contents, known)
    kept = [number for number, side in enumerate(side_of) if side]
    have = {side: contents.count(n for n in kept if side_of[n] == side) for side in SIDES}
    pool = contents.gather(n for n, side in enumerate(side_of) if not side and n not in asides)
    dealt = _deal([contents.features(members) for members in pool], have, ratios, seed)
    for members, side in zip(pool, dealt, strict=True):
        for number in members:
            side_of[number] = side
    _check_filled(contents, side_of, asides, ratios)
    folds: dict[int, str] = {}
    if n_folds:
        trained = [n for n in (*kept, *chain.from_iterable(pool)) if side_of[n] != "test"]
        folds = _deal_folds(contents, trained, known, n_folds, seed)
    return Split(
        tuple(sorted(_to_lines(contents, side_of, asides, folds, known))),
        tuple(
            Aside(sample.path, asides[number])
            for number in sorted(asides, key=contents.md5)
            for sample in contents.samples(number)
        ),
        _list_together(contents, side_of),
    )


class _Contents:
    """The images by their content, numbered: those that are there by their first path, then those known but absent.

    Attributes:
        n_present: how many of them are there; their numbers are the lowest.
        n_samples: how many images are there, copies included.
        sides: for each its sides in the manifest; two where branches disagreed.
        phashes: for each its perceptual hash as the manifest has it.
        component: for each the lowest number of what belongs together with it.
    """

    def __init__(self, samples: Sequence[Sample], known: Sequence[ManifestLine], phashes: Mapping[str, str]) -> None:
        self._numbers: dict[str, int] = {}
        self._first: list[Sample] = []
        self._copies: dict[int, list[Sample]] = {}
        self._by_group: dict[str, list[int]] = defaultdict(list)
        for sample in sorted(samples, key=lambda sample: sample.path):
            number = self._numbers.setdefault(sample.md5, len(self._first))
            if number == len(self._first):
                self._first.append(sample)
            else:
                self._copies.setdefault(number, [self._first[number]]).append(sample)
            if sample.group:
                self._by_group[sample.group].append(number)
        self.n_present, self.n_samples = len(self._first), len(samples)
        self.phashes = [phashes.get(sample.md5, "") for sample in self._first]
        self.sides: list[tuple[str, ...]] = [()] * self.n_present
        self._add_known(known)
        self.component = array("q", self._connect(range(len(self.sides)), self._replaced(known)).tolist())

    def _add_known(self, known: Sequence[ManifestLine]) -> None:
        for line in known:
            number = self._numbers.setdefault(line.md5, len(self.sides))
            if number == len(self.sides):
                self.sides.append(())
                self.phashes.append("")
            if line.side and line.side not in self.sides[number]:
                self.sides[number] = tuple(sorted((*self.sides[number], line.side)))
            if line.phash:
                self.phashes[number] = line.phash
            if line.group and number >= self.n_present:
                self._by_group[line.group].append(number)

    def _replaced(self, known: Sequence[ManifestLine]) -> list[tuple[int, int]]:
        """Link new content to the absent one that had its path: somebody edited or replaced the picture."""
        at_path = {line.image: number for line in known if (number := self.number(line)) >= self.n_present}
        return [
            (number, at_path[sample.path])
            for number in range(self.n_present if at_path else 0)
            for sample in self.samples(number)
            if sample.path in at_path and not self.sides[number]
        ]

    def _connect(self, numbers: Sequence[int], links: Sequence[tuple[int, int]] = ()) -> NDArray[np.intp]:
        """Find what belongs together among some contents, by groups, pixels and more.

        Args:
            numbers: of the contents, rising.
            links: pairs of numbers.

        Returns:
            int (n,): for each the position, in ``numbers``, of the first that belongs to it.
        """
        position = np.full(len(self.sides), -1)
        position[np.fromiter(numbers, np.intp)] = np.arange(len(numbers))
        together = [position[some] for some in (*self._by_group.values(), *map(list, links))]
        chains = [some[some >= 0] for some in together]
        hashes = (parse_phash(self.phashes[number]) for number in numbers)
        alike = label_near_duplicates(np.fromiter(hashes, np.uint64, len(numbers)))
        if not chains:
            return alike
        firsts = np.concatenate([some[:1].repeat(len(some[1:])) for some in chains])
        return connect(alike, firsts, np.concatenate([some[1:] for some in chains]))

    def regroup(self, numbers: Sequence[int]) -> _Groups:
        """Return what still belongs together when the others are away."""
        return _Groups(np.array(numbers, np.int64), self._connect(numbers))

    def gather(self, numbers: Iterable[int]) -> _Groups:
        """Return some contents by what belongs together."""
        some = np.fromiter(numbers, np.int64)
        return _Groups(some, np.array(self.component, np.int64)[some])

    def number(self, line: ManifestLine) -> int:
        """Return the number of the content that a line of the manifest is about."""
        return self._numbers[line.md5]

    def md5(self, number: int) -> str:
        """Return the md5 of a content that is there."""
        return self._first[number].md5

    def samples(self, number: int) -> list[Sample]:
        """Return the images that have a content, sorted by path; none for an absent one."""
        return self._copies.get(number) or self._first[number : number + 1]

    def features(self, numbers: Sequence[int]) -> Features:
        """Return the features of some contents together."""
        if len(numbers) == 1 and numbers[0] not in self._copies:
            return self._first[numbers[0]].features  # one object for all that are alike
        return tuple(self.count(numbers).items())

    def count(self, numbers: Iterable[int]) -> Counter[Feature]:
        """Count the features of some contents."""
        return sum_features(sample.features for number in numbers for sample in self.samples(number))

    def crowded(self) -> list[int]:
        """Return the numbers of what is there and belongs together with something else that is there."""
        labels = np.array(self.component[: self.n_present], np.int64)
        crowded = np.bincount(labels)[labels] > 1
        crowded[list(self._copies)] = True
        return np.flatnonzero(crowded).tolist()


class _Groups:
    """Numbers of contents by what belongs together; in arrays, since most are alone, and lists of one are large."""

    def __init__(self, numbers: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Group numbers by their labels, in the order of the first ones."""
        _, first, place = np.unique(labels, return_index=True, return_inverse=True)
        order = np.argsort(first[place], kind="stable")
        self._numbers = numbers[order]
        self._starts = np.flatnonzero(np.diff(first[place[order]], prepend=-1))

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in pairwise(chain(map(int, self._starts), [len(self._numbers)])):
            yield self._numbers[start:end].tolist()


def _keep_and_join(contents: _Contents, known: Sequence[ManifestLine]) -> tuple[list[str], dict[int, dict[str, str]]]:
    """Return a side for each content that keeps or joins one, else "", and what those that are set aside touch."""
    members = Counter(contents.component)
    touched: dict[int, dict[str, str]] = defaultdict(dict)
    for line in sorted(known):
        number = contents.number(line)
        component = contents.component[number]
        if line.side and (members[component] > 1 or len(contents.sides[number]) > 1):
            touched[component].setdefault(line.side, line.image)
    side_of = [""] * contents.n_present
    asides: dict[int, dict[str, str]] = {}
    for number in range(contents.n_present):
        sides, touches = contents.sides[number], touched.get(contents.component[number], {})
        if len(sides) == 1 or (not sides and len(touches) == 1):
            side_of[number] = next(iter(sides or touches))
        elif touches:
            asides[number] = touches
    split_ones = [n for n, side in enumerate(side_of) if side and len(touched.get(contents.component[n], ())) > 1]
    for group in contents.regroup(split_ones):
        # Only a merge, or other rules for groups, bring members of one group onto two sides. The one that measures
        # stays: a test set that loses images cannot be compared with last month's.
        strongest = max((side_of[number] for number in group), key=SIDES.index)
        for number in group:
            if side_of[number] != strongest:
                stays = next(other for other in group if side_of[other] == strongest)
                first, other = contents.samples(number)[0], contents.samples(stays)[0]
                asides[number] = {side_of[number]: first.path, strongest: other.path}
                side_of[number] = ""
    return side_of, asides


def _list_together(contents: _Contents, side_of: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the paths of used images that share a side because they must."""
    together = [
        tuple(sorted(sample.path for number in members if side_of[number] for sample in contents.samples(number)))
        for members in contents.gather(contents.crowded())
    ]
    return tuple(sorted((paths for paths in together if len(paths) > 1), key=lambda paths: (-len(paths), paths)))


def count_features(class_names: Sequence[str]) -> Features:
    """Count what one image adds to what sides are balanced by.

    Args:
        class_names: class of each of its objects.
    """
    objects = Counter(("objects", name) for name in class_names)
    return ((IMAGES, 1), (("images with", _objects_range(len(class_names))), 1), *objects.items())


def _objects_range(n_objects: int) -> str:
    """Name a range of object numbers: 0, 1, 2-3, 4-7, 8-15, …; each twice as wide as the one before."""
    low = 1 << n_objects.bit_length() >> 1
    return str(n_objects) if n_objects < 2 else f"{low}-{2 * low - 1}"


def sum_features(some: Iterable[Features]) -> Counter[Feature]:
    """Add up the features of images."""
    total: Counter[Feature] = Counter()
    for features, times in Counter(some).items():
        for name, n in features:
            total[name] += n * times
    return total


def _deal(
    units: Sequence[Features], have: Mapping[str, Mapping[Feature, int]], shares: Mapping[str, float], seed: int
) -> list[str]:
    """Deal units onto sides so that every feature comes as near to the shares as it can.

    Greedy, large units and those rich in something rare first, each to the side where it lowers Pearson's
    chi-square of what is there against what is wanted the most. Units that are single images, all alike, are drawn
    as scikit-learn's ``train_test_split`` does: the first ones of ``RandomState(seed).permutation``.

    Args:
        units: features of each.
        have: side -> features of what it has already.
        shares: side -> wanted share.
        seed: of the order among equals.

    Returns:
        A side for each unit.
    """
    sides = [side for side in shares if shares[side] > 0]
    total = sum_features(units)
    for side in sides:
        total.update(have[side])
    goals = _round_goals({side: shares[side] for side in sides}, total[IMAGES])
    order = np.random.RandomState(seed).permutation(len(units))
    dealt = [""] * len(units)
    kinds = set(units)
    if len({frozenset(kind) for kind in kinds}) < 2 and all((IMAGES, 1) in kind for kind in kinds):
        lacking = [side for side in reversed(sides) for _ in range(goals[side] - have[side].get(IMAGES, 0))]
        for index, side in zip(order.tolist(), [*lacking, *sides[:1] * len(units)], strict=False):
            dealt[index] = side
        return dealt
    n_images = {kind: dict(kind)[IMAGES] for kind in kinds}
    scarcity = {kind: max(n / total[name] for name, n in kind) for kind in kinds}
    keys = [np.fromiter((-of[unit] for unit in units), float, len(units)) for of in (scarcity, n_images)]
    order = order[np.lexsort(np.array(keys)[:, order])]
    piles = {side: _Pile(have[side], total, goals[side]) for side in sides}
    for n_dealt, index in enumerate(map(int, order)):
        unit = units[index]
        empty = [side for side in sides if not piles[side].n_images]
        fitting = [side for side in sides if piles[side].n_images + n_images[unit] <= goals[side]]
        choice = empty if len(order) - n_dealt <= len(empty) else fitting or sides
        dealt[index] = min(choice, key=lambda side: piles[side].added_cost(unit))
        piles[dealt[index]].add(unit)
    return dealt


class _Pile:
    """What a side has while units are dealt."""

    def __init__(self, have: Mapping[Feature, int], total: Mapping[Feature, int], goal: int) -> None:
        share = goal / total[IMAGES]
        self._columns = {name: number for number, name in enumerate(total)}
        self._counts = [have.get(name, 0) for name in total]
        self._wanted = [share * n for n in total.values()]
        self._coded: dict[Features, list[tuple[int, int]]] = {}
        self._costs: dict[Features, float] = {}

    @property
    def n_images(self) -> int:
        return self._counts[self._columns[IMAGES]]

    def _code(self, unit: Features) -> list[tuple[int, int]]:
        """Return columns and numbers of a unit's features; units are alike, and names take long to look up."""
        if unit not in self._coded:
            self._coded[unit] = [(self._columns[name], n) for name, n in unit]
        return self._coded[unit]

    def added_cost(self, unit: Features) -> float:
        """Return by how much a unit would raise the chi-square."""
        if unit not in self._costs:
            counts, wanted = self._counts, self._wanted
            terms = [n * (n + 2 * (counts[at] - wanted[at])) / wanted[at] for at, n in self._code(unit)]
            self._costs[unit] = sum(terms)
        return self._costs[unit]

    def add(self, unit: Features) -> None:
        for at, n in self._code(unit):
            self._counts[at] += n
        self._costs.clear()


def _round_goals(shares: Mapping[str, float], n_images: int) -> dict[str, int]:
    """Return whole numbers of images that add up to all; one at least for every side."""
    edges = np.floor(np.cumsum([0.0, *shares.values()]) * n_images + 0.5).astype(int)
    goals = dict(zip(shares, np.maximum(np.diff(edges), 1).tolist(), strict=True))
    largest = max(goals, key=lambda side: goals[side])
    goals[largest] = max(1, goals[largest] + n_images - sum(goals.values()))
    return goals


def _check_filled(
    contents: _Contents, side_of: Sequence[str], asides: Collection[int], ratios: Mapping[str, float]
) -> None:
    empty = [side for side in SIDES if ratios.get(side, 0.0) > 0 and side not in side_of]
    if empty:
        n_units = len({contents.component[number] for number, side in enumerate(side_of) if side})
        because = f", {len(asides)} of them set aside since they touch two sides" if asides else ""
        raise DatasetError(
            f"too few images to split: {contents.n_samples} images{because}, in {n_units} groups,"
            f" leave nothing for {' and '.join(empty)}; annotate more, make smaller groups, set the side's share to 0,"
            " or draw all sides anew with split.reset: true"
        )


def _deal_folds(
    contents: _Contents, numbers: Iterable[int], known: Sequence[ManifestLine], n_folds: int, seed: int
) -> dict[int, str]:
    """Return a fold for the contents of train and val; folds stay as long as their number does."""
    names = [str(number) for number in range(1, n_folds + 1)]
    before = {contents.number(line): line.fold for line in known if line.fold}
    if set(before.values()) != set(names):
        before = {}
    units = contents.gather(numbers)
    if len(units) < n_folds:
        raise DatasetError(f"split.folds: {n_folds} folds need as many groups outside test, there are {len(units)}")
    fold_of: dict[int, str] = {}
    have: dict[str, Counter[Feature]] = {name: Counter() for name in names}
    new: list[list[int]] = []
    for members in units:
        folds = sorted({before[number] for number in members if number in before}, key=int)
        if folds:
            fold_of |= dict.fromkeys(members, folds[0])
            have[folds[0]].update(contents.count(members))
        else:
            new.append(members)
    dealt = _deal([contents.features(members) for members in new], have, dict.fromkeys(names, 1 / n_folds), seed)
    return fold_of | {number: fold for members, fold in zip(new, dealt, strict=True) for number in members}


def _to_lines(
    contents: _Contents,
    side_of: Sequence[str],
    asides: Collection[int],
    folds: Mapping[int, str],
    known: Sequence[ManifestLine],
) -> Iterable[ManifestLine]:
    for number in range(contents.n_present):
        state = ASIDE if number in asides else USED
        for side in contents.sides[number] or (side_of[number],):
            for sample in contents.samples(number):
                yield ManifestLine(
                    sample.path,
                    sample.md5,
                    side,
                    sample.group,
                    contents.phashes[number],
                    folds.get(number, ""),
                    state,
                )
    for line in known:
        if contents.number(line) >= contents.n_present and line.side:
            yield msgspec.structs.replace(line, state=ABSENT)
