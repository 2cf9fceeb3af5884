"""Train/val/test sides that stay: the manifest, and how images that have no side get one.

The rules are explained in docs/splits.md.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
import numpy as np

from keypipe.annotation import AnnotatedImage
from keypipe.errors import ConfigError, DatasetError
from keypipe.pixels import PixelFacts, connect, near_duplicates
from keypipe.yolo import SIDES

BY_FOLDER = "folder"
USED, ABSENT, ASIDE = "used", "absent", "aside"
_DRAW = "#draw"
_RATIO_SLACK = 1e-6

Features = Counter[tuple[str, str]]
"""What a side is balanced by: number of images, of objects by class, of images by their number of objects."""

IMAGES = ("images", "")


class ManifestLine(msgspec.Struct, frozen=True, order=True):
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
    lines: dict[tuple[str, str, str], ManifestLine] = {}
    draws: set[tuple[int, bool]] = {(1, False)}
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row or tuple(row) == _HEADER:
            continue
        if len(row) == len(_HEADER) and row[0] == _DRAW and row[1].isdecimal():
            draws.add((int(row[1]), row[2] == "reset"))
            continue
        if len(row) != len(_HEADER) or row[2] not in {*SIDES, ""} or row[6] not in {USED, ABSENT, ASIDE}:
            raise DatasetError(f"manifest line {number}: expected {','.join(_HEADER)}, got {','.join(row)!r}")
        line = ManifestLine(*row)
        key = (line.image, line.md5, line.side)
        lines[key] = max(lines.get(key, line), line, key=lambda line: (line.state == USED, line))
    draw, reset = max(draws)
    return Manifest(tuple(sorted(lines.values())), draw, reset)


def format_manifest(manifest: Manifest) -> str:
    """Format a manifest: a header, one sorted line an image, and a line on the draw after a reset."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEADER)
    if manifest != Manifest(manifest.lines):
        writer.writerow(
            [_DRAW, manifest.draw, "reset" if manifest.reset else "kept", *[""] * (len(_HEADER) - 4), ABSENT]
        )
    writer.writerows(msgspec.structs.astuple(line) for line in sorted(manifest.lines))
    return out.getvalue()


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


def look_up_groups(images: Iterable[AnnotatedImage], table: Mapping[str, str]) -> dict[str, str]:
    """Return path -> group for images, from a table of image or annotation files.

    Raises:
        DatasetError: images that the table does not have.
    """
    found: dict[str, str | None] = {
        image.path: table.get(image.path.partition("/")[2], table.get(image.source)) for image in images
    }
    lacking = sorted(path for path, group in found.items() if group is None)
    if lacking:
        raise DatasetError(
            f"groups: {len(lacking)} images have no line, such as {lacking[0].partition('/')[2]};"
            " an empty group stands for none"
        )
    return {path: group or "" for path, group in found.items()}


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
    images: Sequence[AnnotatedImage],
    ratios: Mapping[str, float],
    seed: int,
    known: Sequence[ManifestLine] = (),
    groups: Mapping[str, str] | None = None,
    pixels: Mapping[str, PixelFacts] | None = None,
    n_folds: int = 0,
) -> Split:
    """Give every image a side; one that has a side keeps it.

    An image is known by its bytes. Images of one group, near duplicates, and chains of these, belong together: a new
    one joins the side of those that have one, or is set aside when they are on two. The rest fills the ratios.

    Args:
        images: all images of the dataset, in any order.
        ratios: wanted shares, see ``check_ratios``.
        seed: of the draw.
        known: the manifest of the last run.
        groups: path -> group; empty or absent: none.
        pixels: md5 -> facts of images whose hash is not in the manifest.
        n_folds: 0, or into how many folds the images of train and val are dealt as well.

    Returns:
        The manifest's new lines, and what belongs together.

    Raises:
        DatasetError: a side would be empty.
    """
    contents = _Contents(images, known, groups or {}, pixels or {})
    side_of, asides = _keep_and_join(contents, known)
    together = _gather(contents.present, contents.component)
    pool = [members for members in together if not any(md5 in side_of or md5 in asides for md5 in members)]
    have = {side: _count(contents, (md5 for md5, at in side_of.items() if at == side)) for side in SIDES}
    dealt = _deal([_count(contents, members) for members in pool], have, ratios, seed)
    side_of |= {md5: side for members, side in zip(pool, dealt, strict=True) for md5 in members}
    _check_filled(contents, side_of, asides, ratios)
    folds = _deal_folds(contents, side_of, known, n_folds, seed) if n_folds else {}
    paths = [
        [image.path for md5 in members if md5 in side_of for image in contents.present[md5]] for members in together
    ]
    return Split(
        tuple(sorted(_to_lines(contents, side_of, asides, folds, known))),
        tuple(Aside(image.path, touches) for md5, touches in sorted(asides.items()) for image in contents.present[md5]),
        tuple(sorted((tuple(sorted(some)) for some in paths if len(some) > 1), key=lambda some: (-len(some), some))),
    )


class _Contents:
    """Images by their content, present and absent ones, and the components that belong together.

    Attributes:
        present: md5 -> images, sorted by path.
        sides: md5 -> sides in the manifest; two where branches disagreed.
        facts: md5 -> pixel facts, where there are any.
        component: md5 -> name of its component.
    """

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        known: Sequence[ManifestLine],
        groups: Mapping[str, str],
        pixels: Mapping[str, PixelFacts],
    ) -> None:
        self.present: dict[str, list[AnnotatedImage]] = defaultdict(list)
        for image in sorted(images, key=lambda image: image.path):
            self.present[image.md5].append(image)
        self.sides: dict[str, set[str]] = defaultdict(set)
        self.group_of = groups
        self.groups = {md5: {groups.get(image.path, "") for image in some} for md5, some in self.present.items()}
        self.facts = dict(pixels)
        for line in known:
            self.sides[line.md5] |= {line.side} - {""}
            if line.md5 not in self.present:
                self.groups.setdefault(line.md5, set()).add(line.group)
            if line.phash:
                self.facts[line.md5] = PixelFacts(line.md5, int(line.phash, 16), "")
        self.component = self.connect(sorted(self.groups), self._replaced(known))

    def _replaced(self, known: Sequence[ManifestLine]) -> list[list[str]]:
        """Link new content to the absent one that had its path: somebody edited or replaced the picture."""
        at_path = {line.image: line.md5 for line in known if line.md5 not in self.present}
        return [
            [image.md5, at_path[image.path]]
            for some in self.present.values()
            for image in some
            if image.path in at_path and not self.sides.get(image.md5)
        ]

    def connect(self, nodes: Sequence[str], links: Iterable[Sequence[str]] = ()) -> dict[str, str]:
        """Return md5 -> first md5 of its component, for some contents linked by groups, pixels and more."""
        index = {md5: number for number, md5 in enumerate(nodes)}
        by_group: dict[str, list[str]] = defaultdict(list)
        for md5 in nodes:
            for group in self.groups[md5] - {""}:
                by_group[group].append(md5)
        alike = near_duplicates({md5: self.facts[md5] for md5 in nodes if md5 in self.facts})
        pairs = [(some[0], md5) for some in (*by_group.values(), *alike, *links) for md5 in some[1:]]
        ends = np.array([[index[one], index[other]] for one, other in pairs], dtype=np.intp).reshape(-1, 2)
        labels = connect(np.arange(len(nodes)), ends[:, 0], ends[:, 1])
        return {md5: nodes[label] for md5, label in zip(nodes, labels.tolist(), strict=True)}


def _gather(md5s: Iterable[str], component: Mapping[str, str]) -> list[list[str]]:
    together: dict[str, list[str]] = defaultdict(list)
    for md5 in md5s:
        together[component[md5]].append(md5)
    return list(together.values())


def _keep_and_join(
    contents: _Contents, known: Sequence[ManifestLine]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return md5 -> side for images that keep or join one, and md5 -> what they touch for those set aside."""
    touched: dict[str, dict[str, str]] = defaultdict(dict)
    for line in sorted(known):
        if line.side:
            touched[contents.component[line.md5]].setdefault(line.side, line.image)
    side_of: dict[str, str] = {}
    asides: dict[str, dict[str, str]] = {}
    for md5 in contents.present:
        sides, touches = contents.sides.get(md5) or set(), touched[contents.component[md5]]
        if len(sides) == 1 or (not sides and len(touches) == 1):
            side_of[md5] = next(iter(sides or touches))
        elif touches:
            asides[md5] = touches
    split_ones = [md5 for md5 in side_of if len(touched[contents.component[md5]]) > 1]
    for members in _gather(split_ones, contents.connect(sorted(split_ones))):
        # Only a merge, or other rules for groups, bring members of one group onto two sides. The one that measures
        # stays: a test set that loses images cannot be compared with last month's.
        strongest = max((side_of[md5] for md5 in members), key=SIDES.index)
        for md5 in members:
            if side_of[md5] != strongest:
                asides[md5] = {side_of.pop(md5): contents.present[md5][0].path} | {
                    strongest: contents.present[next(m for m in members if side_of.get(m) == strongest)][0].path
                }
    return side_of, asides


def count_features(images: Iterable[AnnotatedImage]) -> Features:
    """Count what sides are balanced by."""
    features: Features = Counter()
    for image in images:
        features[IMAGES] += 1
        features["images with", _objects_range(len(image.instances))] += 1
        for instance in image.instances:
            features["objects", instance.class_name] += 1
    return features


def _objects_range(n_objects: int) -> str:
    """Name a range of object numbers: 0, 1, 2-3, 4-7, 8-15, …; each twice as wide as the one before."""
    low = 1 << n_objects.bit_length() >> 1
    return str(n_objects) if n_objects < 2 else f"{low}-{2 * low - 1}"


def _count(contents: _Contents, md5s: Iterable[str]) -> Features:
    return count_features(image for md5 in md5s for image in contents.present[md5])


def _deal(units: Sequence[Features], have: Mapping[str, Features], shares: Mapping[str, float], seed: int) -> list[str]:
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
    counts = {side: Counter(have[side]) for side in sides}
    total: Features = Counter()
    for features in (*units, *counts.values()):
        total.update(features)
    goals = _round_goals({side: shares[side] for side in sides}, total[IMAGES])
    order = np.random.RandomState(seed).permutation(len(units)).tolist()
    dealt = [""] * len(units)
    if all(unit == units[0] and unit[IMAGES] == 1 for unit in units):
        lacking = [side for side in reversed(sides) for _ in range(goals[side] - counts[side][IMAGES])]
        for index, side in zip(order, [*lacking, *sides[:1] * len(units)], strict=False):
            dealt[index] = side
        return dealt
    order.sort(key=lambda index: (-units[index][IMAGES], -max(n / total[name] for name, n in units[index].items())))
    for n_dealt, index in enumerate(order):
        unit = units[index]
        empty = [side for side in sides if not counts[side][IMAGES]]
        fitting = [side for side in sides if counts[side][IMAGES] + unit[IMAGES] <= goals[side]]
        choice = empty if len(order) - n_dealt <= len(empty) else fitting or sides
        costs = {side: _added_cost(unit, counts[side], total, goals[side] / total[IMAGES]) for side in choice}
        dealt[index] = min(choice, key=lambda side: costs[side])
        counts[dealt[index]].update(unit)
    return dealt


def _added_cost(unit: Features, count: Features, total: Features, share: float) -> float:
    return sum(n * (n + 2 * (count[name] - share * total[name])) / (share * total[name]) for name, n in unit.items())


def _round_goals(shares: Mapping[str, float], n_images: int) -> dict[str, int]:
    """Return whole numbers of images that add up to all; one at least for every side."""
    edges = np.floor(np.cumsum([0.0, *shares.values()]) * n_images + 0.5).astype(int)
    goals = dict(zip(shares, np.maximum(np.diff(edges), 1).tolist(), strict=True))
    largest = max(goals, key=lambda side: goals[side])
    goals[largest] = max(1, goals[largest] + n_images - sum(goals.values()))
    return goals


def _check_filled(
    contents: _Contents, side_of: Mapping[str, str], asides: Collection[str], ratios: Mapping[str, float]
) -> None:
    empty = [side for side in SIDES if ratios.get(side, 0.0) > 0 and side not in side_of.values()]
    if empty:
        n_units = len({contents.component[md5] for md5 in side_of})
        because = f", {len(asides)} of them set aside since they touch two sides" if asides else ""
        raise DatasetError(
            f"too few images to split: {sum(map(len, contents.present.values()))} images{because}, in {n_units} groups,"
            f" leave nothing for {' and '.join(empty)}; annotate more, make smaller groups, set the side's share to 0,"
            " or draw all sides anew with split.reset: true"
        )


def _deal_folds(
    contents: _Contents, side_of: Mapping[str, str], known: Sequence[ManifestLine], n_folds: int, seed: int
) -> dict[str, str]:
    """Return md5 -> fold for the images of train and val; folds stay as long as their number does."""
    names = [str(number) for number in range(1, n_folds + 1)]
    before = {line.md5: line.fold for line in known if line.fold}
    if set(before.values()) != set(names):
        before = {}
    units = _gather((md5 for md5, side in side_of.items() if side != "test"), contents.component)
    if len(units) < n_folds:
        raise DatasetError(f"split.folds: {n_folds} folds need as many groups outside test, there are {len(units)}")
    fold_of: dict[str, str] = {}
    have: dict[str, Features] = {name: Counter() for name in names}
    new: list[list[str]] = []
    for members in units:
        folds = sorted({before[md5] for md5 in members if md5 in before}, key=int)
        if folds:
            fold_of |= dict.fromkeys(members, folds[0])
            have[folds[0]].update(_count(contents, members))
        else:
            new.append(members)
    dealt = _deal([_count(contents, members) for members in new], have, dict.fromkeys(names, 1 / n_folds), seed)
    return fold_of | {md5: fold for members, fold in zip(new, dealt, strict=True) for md5 in members}


def _to_lines(
    contents: _Contents,
    side_of: Mapping[str, str],
    asides: Collection[str],
    folds: Mapping[str, str],
    known: Sequence[ManifestLine],
) -> Iterable[ManifestLine]:
    for md5, images in contents.present.items():
        fact = contents.facts.get(md5)
        phash = "" if fact is None or fact.phash is None else f"{fact.phash:016x}"
        state = ASIDE if md5 in asides else USED
        for side in sorted(contents.sides.get(md5) or {side_of.get(md5, "")}):
            for image in images:
                group = contents.group_of.get(image.path, "")
                yield ManifestLine(image.path, md5, side, group, phash, folds.get(md5, ""), state)
    for line in known:
        if line.md5 not in contents.present and line.side:
            yield msgspec.structs.replace(line, state=ABSENT)
