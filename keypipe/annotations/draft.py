"""A first schema from the labels that people used: which points lie in which rectangles."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from keypipe.annotations.labelme import (
    IN_PIXELS,
    OUTLINES,
    LabelmeFile,
    LabelmeOptions,
    LabelmeShape,
    is_in_shares,
)
from keypipe.annotations.sides import find_sides
from keypipe.errors import format_count
from keypipe.keypoints.boxes import Box, bounds, contains
from keypipe.keypoints.names import OWN_NAMES, find_look_alikes
from keypipe.keypoints.skeleton import Schema, Skeleton

MIN_SHARE = 0.02
"""A point label on a smaller share of a class's objects is taken for a slip, not for a keypoint."""


DOUBT = "may be left and right of one thing"
"""In notes on names that are paired only if somebody says so."""


class Draft(msgspec.Struct, frozen=True):
    """A first schema.

    Attributes:
        schema: without classes when no rectangle holds a point.
        notes: what a person should know about how it was chosen, a line each.
        faults: why it is of no use, a line each.
        shapes: what shapes there are, and how they could become objects with keypoints.
    """

    schema: Schema
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    shapes: str = ""


def draft_schema(files: Iterable[LabelmeFile], options: LabelmeOptions | None = None) -> Draft:
    """Draft classes and keypoints from annotations.

    Every rectangle label with points in its group or inside it is a class, the most frequent first; the labels of
    those points are its keypoints, in the order in which they are mostly drawn. Edges are left to the user. Names that
    differ only in how they are spelt are one, the most frequent, with aliases; keypoints that stand in one object
    stay two.

    Args:
        files: parsed labelme files.
        options: which shapes are boxes and keypoints; default: rectangles and points.

    Returns:
        The schema; without classes when no rectangle holds a point.
    """
    seen = _Seen(options or LabelmeOptions())
    for file in files:
        seen.add(file)
    return seen.draft()


_SELDOM = 0.1
_ALIKE = 0.8
"""A name is taken for a misspelt one where it is this seldom beside the other, and this much like it (difflib)."""


class _Names:
    """The names of classes or of keypoints as they were spelt, and which of them are one."""

    def __init__(self) -> None:
        self._spellings: dict[str, Counter[str]] = defaultdict(Counter)
        self._together: dict[frozenset[str], str] = {}
        self._beside: dict[str, set[str]] = defaultdict(set)

    def add(self, shape: LabelmeShape) -> None:
        self._spellings[shape.name][str(shape.label)] += 1

    def add_object(self, names: Iterable[str], file: str) -> None:
        """Take down which names stand in one object, and which of these look like one."""
        names = set(names)
        for name in names:
            self._beside[name] |= names
        for alike in find_look_alikes(names):
            self._together.setdefault(frozenset(alike), file)

    def choose(self) -> tuple[dict[str, str], list[str]]:
        """Return what each name means, where it is another, and notes."""
        aliases: dict[str, str] = {}
        notes: list[str] = []
        order = sorted(self._spellings, key=lambda name: (-self._spellings[name].total(), name != name.lower(), name))
        for alike in find_look_alikes(order):
            file = next((file for names, file in self._together.items() if names <= {*alike}), None)
            if file is None:
                aliases |= dict.fromkeys(alike[1:], alike[0])
            else:
                names = " and ".join(map(repr, alike))
                notes.append(f"{names} stand in one object ({file}) and stay two; rename one if they mean the same")
        for name in order:
            spellings = sum((self._spellings[other] for other in order if aliases.get(other, other) == name), Counter())
            others = [
                f"{spelt!r} ({format_count(count, 'time')})"
                for spelt, count in spellings.most_common()
                if spelt != name
            ]
            if others and name not in aliases:
                notes.append(f"{name!r} is what these labels are taken for: {', '.join(others)}")
        return aliases, notes + self._find_misspelt([name for name in order if name not in aliases])

    def _find_misspelt(self, order: Sequence[str]) -> list[str]:
        """Say which seldom names are probably a frequent one misspelt: alike, and never beside it in an object."""
        counts = {name: self._spellings[name].total() for name in order}
        notes: list[str] = []
        for name in order:
            digits = re.sub(r"\D", "", name)
            usual = [
                other
                for other in order
                if counts[name] <= _SELDOM * counts[other]
                and other not in self._beside[name]
                and re.sub(r"\D", "", other) == digits  # p1 and p11 are two
            ]
            for meant in difflib.get_close_matches(name, usual, n=1, cutoff=_ALIKE):
                notes.append(
                    f"{name!r} ({format_count(counts[name], 'time')}) looks like {meant!r} ({counts[meant]}) misspelt:"
                    f" correct it, or say so in schema.aliases, `{name}: {meant}`"
                )
        return notes


class _Seen:
    """What stands in the files so far: objects of each class, and how often and where each point is among theirs."""

    def __init__(self, options: LabelmeOptions) -> None:
        self._options = options
        self._outlines: Counter[tuple[str, str]] = Counter()
        self._outside: Counter[str] = Counter()
        self._circles: Counter[str] = Counter()
        self._shapes: Counter[str] = Counter()
        self._in_shares: list[str] = []
        self._n_files = 0
        self._unnamed = 0
        self._classes, self._keypoints = _Names(), _Names()
        self._with_points: Counter[str] = Counter()
        self._repeating: Counter[str] = Counter()
        self._objects: Counter[str] = Counter()
        self._places: dict[tuple[str, str], list[int]] = defaultdict(list)

    def add(self, file: LabelmeFile) -> None:
        options = self._options
        self._n_files += 1
        size = (file.image_width, file.image_height)
        if is_in_shares(file, (size[0], size[1]) if size[0] and size[1] else None):
            self._in_shares.append(file.image_path or "no image")
        self._shapes.update(shape.shape_type for shape in file.shapes)
        named = [shape for shape in file.shapes if shape.name and shape.points]
        self._unnamed += sum(not shape.name for shape in file.shapes)
        boxes = [(shape, bounds(shape.points)) for shape in named if options.is_box(shape.shape_type)]
        members: dict[int, list[str]] = defaultdict(list)
        contested: dict[int, list[str]] = defaultdict(list)
        for shape, _ in boxes:
            self._objects[shape.name] += 1
            self._classes.add(shape)
        points = [shape for shape in named if options.is_keypoint(shape.shape_type)]
        for place, point in enumerate(points):
            owner = _owner(point, boxes)
            if owner is not None:
                self._keypoints.add(point)
                self._places[boxes[owner][0].name, point.name].append(place)
                members[owner].append(point.name)
                if _is_contested(point, boxes, owner):
                    contested[owner].append(point.name)
            elif not self._add_outline(file, point):
                self._outside[point.name] += 1
        self._add_circles(file, [box for _, box in boxes], points)
        for owner, names in members.items():
            own = Counter(names) - Counter(contested[owner])
            if own:
                self._with_points[boxes[owner][0].name] += 1
                self._repeating[boxes[owner][0].name] += max(own.values()) > 1
            self._keypoints.add_object(names, file.image_path or "no image")

    def _add_outline(self, file: LabelmeFile, point: LabelmeShape) -> bool:
        """Take down the outlines that hold a point which no box holds; tells whether there are any."""
        around = [
            (shape.shape_type, shape.name)
            for shape in file.shapes
            if shape.shape_type in OUTLINES and shape.points and contains(bounds(shape.points), *point.points[0])
        ]
        self._outlines.update(around)
        return bool(around)

    def _add_circles(self, file: LabelmeFile, boxes: Sequence[Box], points: Sequence[LabelmeShape]) -> None:
        """Take down the circles in boxes that are no keypoints, nor drawn around one."""
        for shape in file.shapes:
            if shape.shape_type != "circle" or not shape.points or self._options.is_keypoint("circle"):
                continue
            centre, radius = shape.points[0], math.dist(shape.points[0], shape.points[-1])
            around = (point for point in points if point.name == shape.name)
            if any(contains(box, *centre) for box in boxes) and not any(
                math.dist(point.points[0], centre) <= radius for point in around
            ):
                self._circles[shape.name] += 1

    def _describe_shapes(self) -> str:
        """Say what shapes there are, and how they could become objects with keypoints."""
        found = self._shapes
        n_boxes = sum(count for shape_type, count in found.items() if self._options.is_box(shape_type))
        n_points = sum(count for shape_type, count in found.items() if self._options.is_keypoint(shape_type))
        n_outlines = sum(found[shape_type] for shape_type in OUTLINES)
        advice = ["a rectangle for every object and a point for every keypoint are needed"]
        if n_boxes and n_points:
            advice = ["draw the rectangles around their points, or give both one group"]
        elif not n_points and found["circle"]:
            advice.append("convert.keypoint_from: circle in params.yaml takes the centres of circles for points")
        if not n_boxes and n_outlines:
            advice.append("convert.box_from: outline in params.yaml takes the boxes around polygons and masks")
        elif not n_boxes and n_points:
            advice.append(
                "without rectangles put the folder into data/raw yourself, write schema.classes, and set"
                " convert.box_from_points, which draws boxes around the points"
            )
        counts = ", ".join(format_count(count, f"{shape_type} shape") for shape_type, count in found.most_common())
        return f"shapes found: {counts or 'none'}; {'; '.join(advice)}"

    def _describe_outlines(self) -> list[str]:
        return [
            f"{format_count(count, 'circle')} {name!r} in a rectangle: circles are no keypoints unless"
            " convert.keypoint_from: circle in params.yaml says so; set it first, and use the folder again"
            for name, count in self._circles.most_common()
        ] + [
            f"{format_count(count, 'point')} in no rectangle, but in a {shape_type} {name!r}: convert.box_from: outline"
            " in params.yaml takes the boxes around polygons and masks; set it first, and use the folder again"
            for (shape_type, name), count in self._outlines.most_common()
        ]

    def _describe_outside(self, schema: Schema) -> list[str]:
        """Say which labels of points are left out of the schema, since no box holds them."""
        return [
            f"{format_count(count, 'point')} {name!r} in no rectangle, and in none of its group: {name!r} is no"
            " keypoint yet; draw the rectangles around them too, or give both one group, and use the folder again"
            for name, count in self._outside.most_common()
            if schema.aliases.get(name, name) not in schema.slots
        ]

    def _find_namesakes(self, classes: Mapping[str, Skeleton], class_of: Mapping[str, str]) -> list[str]:
        """Find classes whose only keypoint stands twice and more in most objects; in a few it is a slip of the hand."""
        balance: Counter[str] = Counter()
        for name, count in self._with_points.items():
            balance[class_of.get(name, name)] += 2 * self._repeating[name] - count
        return [
            f"all points of a {name!r} are called {skeleton.keypoints[0]!r}: {OWN_NAMES}"
            for name, skeleton in classes.items()
            if len(skeleton.keypoints) == 1 and balance[name] > 0
        ]

    def draft(self) -> Draft:
        class_of, class_notes = self._classes.choose()
        name_of, name_notes = self._keypoints.choose()
        objects: Counter[str] = Counter()
        for name, count in self._objects.items():
            objects[class_of.get(name, name)] += count
        places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for (class_name, name), found in self._places.items():
            places[class_of.get(class_name, class_name), name_of.get(name, name)] += found
        classes: dict[str, Skeleton] = {}
        side_notes: list[str] = []
        for class_name, total in objects.most_common():
            of_class = {name: found for (owner, name), found in places.items() if owner == class_name}
            names = [name for name, found in of_class.items() if len(found) >= MIN_SHARE * total]
            order = tuple(sorted(names, key=lambda name: _order(name, of_class[name])))
            if order:
                sides = find_sides(order)
                classes[class_name] = Skeleton(order, (), sides.pairs)
                side_notes += _describe_doubts(class_name, sides.doubts)
        aliases = _keep_used(class_of | name_of, Schema(classes))
        notes = (*class_notes, *name_notes, *side_notes) if classes else ()
        faults = tuple(self._find_namesakes(classes, class_of))
        if 2 * len(self._in_shares) > self._n_files:
            told = f"{len(self._in_shares)} of {format_count(self._n_files, 'file')}, such as that of"
            faults = (f"{told} {self._in_shares[0]}, hold shares of the image: {IN_PIXELS}",)
        unnamed = (f"{format_count(self._unnamed, 'shape')} without a label: convert passes them over",)
        schema = Schema(classes, aliases)
        outside = self._describe_outside(schema) if classes else ()
        notes = (*notes, *self._describe_outlines(), *outside, *(unnamed if self._unnamed else ()))
        return Draft(schema, notes, faults, self._describe_shapes())


def _describe_doubts(class_name: str, doubts: Sequence[tuple[str, str]]) -> list[str]:
    """Say which names of a class may be left and right."""
    if not doubts:
        return []
    named = ", ".join(f"{a!r} and {b!r}" for a, b in doubts)
    example = ", ".join(f"[{a}, {b}]" for a, b in doubts)
    return [
        f"{named} {DOUBT}, or mean something else; if the first, write"
        f" pairs: [{example}] for {class_name!r} (what is paired swaps when a training mirrors an image)"
    ]


def _keep_used(aliases: Mapping[str, str], schema: Schema) -> dict[str, str]:
    """Keep the aliases of names in the schema that are no name of the same kind themselves."""
    kinds = ({*schema.class_names}, {*schema.slots})
    return {
        alias: name
        for alias, name in aliases.items()
        if any(name in names for names in kinds) and not any(name in names and alias in names for names in kinds)
    }


def _owner(point: LabelmeShape, boxes: Sequence[tuple[LabelmeShape, Box]]) -> int | None:
    """Return which box a point belongs to: the one of its group, else the smallest one around it."""
    x, y = point.points[0]
    around = [number for number, (_, box) in enumerate(boxes) if contains(box, x, y)]
    if point.group is not None:
        grouped = [number for number, (shape, _) in enumerate(boxes) if shape.group == point.group]
        around = (
            [number for number in around if number in grouped]
            or grouped
            or [number for number in around if boxes[number][0].group is None]
        )
    return min(around, key=lambda number: _area(boxes[number][1]), default=None)


def _is_contested(point: LabelmeShape, boxes: Sequence[tuple[LabelmeShape, Box]], owner: int) -> bool:
    """Tell whether a point without its box's group lies in another box of the class, which may own it as well."""
    shape = boxes[owner][0]
    if point.group is not None and point.group == shape.group:
        return False
    x, y = point.points[0]
    return any(other.name == shape.name and contains(box, x, y) for other, box in (*boxes[:owner], *boxes[owner + 1 :]))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _order(name: str, places: list[int]) -> tuple[float, str]:
    """Sort plain numbers by value, other names by where they mostly stand among a file's points."""
    number = re.fullmatch(r"\d+", name)
    middle = sorted(places)[len(places) // 2]
    return (float(name) if number else float(middle), name)
