"""A first schema from the labels that people used: which points lie in which rectangles."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from keypipe.annotations.labelme import RECTANGLES, LabelmeFile, LabelmeShape
from keypipe.keypoints.boxes import Box, contains
from keypipe.keypoints.skeleton import Schema, Skeleton, find_pairs

MIN_SHARE = 0.02
"""A point label on a smaller share of a class's objects is taken for a slip, not for a keypoint."""


def draft_schema(files: Iterable[LabelmeFile]) -> Schema:
    """Draft classes and keypoints from annotations.

    Every rectangle label with points in its group or inside it is a class, the most frequent first; the labels of
    those points are its keypoints, in the order in which they are mostly drawn. Edges are left to the user.

    Args:
        files: parsed labelme files.

    Returns:
        The schema; without classes when no rectangle holds a point.
    """
    objects: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for file in files:
        boxes = [(shape, _box(shape)) for shape in file.shapes if shape.shape_type in RECTANGLES and shape.points]
        objects.update(str(shape.label) for shape, _ in boxes)
        points = [shape for shape in file.shapes if shape.shape_type == "point" and len(shape.points) == 1]
        for place, point in enumerate(points):
            owner = _owner(point, boxes)
            if owner is not None:
                name = str(point.label)
                counts[owner][name] += 1
                places[owner, name].append(place)
    classes: dict[str, Skeleton] = {}
    for class_name, total in objects.most_common():
        names = [name for name, count in counts[class_name].items() if count >= MIN_SHARE * total]
        order = tuple(sorted(names, key=lambda name: _order(name, places[class_name, name])))
        if order:
            classes[class_name] = Skeleton(order, (), find_pairs(order))
    return Schema(classes)


def _box(shape: LabelmeShape) -> Box:
    xs, ys = zip(*shape.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _owner(point: LabelmeShape, boxes: Iterable[tuple[LabelmeShape, Box]]) -> str | None:
    """Return the class of the point's group, else of the smallest box around it."""
    x, y = point.points[0]
    grouped = [shape for shape, _ in boxes if point.group_id is not None and shape.group_id == point.group_id]
    if grouped:
        return str(grouped[0].label)
    around = [(shape, box) for shape, box in boxes if contains(box, x, y)]
    if not around:
        return None
    return str(min(around, key=lambda item: (item[1][2] - item[1][0]) * (item[1][3] - item[1][1]))[0].label)


def _order(name: str, places: list[int]) -> tuple[float, str]:
    """Sort plain numbers by value, other names by where they mostly stand among a file's points."""
    number = re.fullmatch(r"\d+", name)
    middle = sorted(places)[len(places) // 2]
    return (float(name) if number else float(middle), name)
