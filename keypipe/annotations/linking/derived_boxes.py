"""Boxes derived from keypoints, where people drew points and no rectangle."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import msgspec

from keypipe.annotations.linking.values import BoxShape, PointShape
from keypipe.errors import Fault
from keypipe.keypoints.boxes import box_around, contains
from keypipe.keypoints.skeleton import Schema


class DerivedBoxes(msgspec.Struct):
    """Boxes around points without a rectangle.

    Attributes:
        boxes: one for each object, under the shape index of its first point; corners may lie outside the image.
        faults: objects for which no box or no class could be found.
        left_out: shape indices of their points.
    """

    boxes: list[BoxShape]
    faults: list[Fault]
    left_out: set[int]


def derive_boxes(
    points: Sequence[PointShape],
    boxes: Sequence[BoxShape],
    others: Sequence[BoxShape],
    schema: Schema,
    margin: float,
    file: str,
) -> DerivedBoxes:
    """Find the objects of an image that consist of points alone, and give each a box.

    Such an object is a group of points without a rectangle in the group or around all of them; or all points without
    a group, where the image has no rectangle and each keypoint occurs once.

    Args:
        points: points in file order.
        boxes: rectangles of the schema's classes.
        others: rectangles of other classes.
        schema: tells which class has which keypoint.
        margin: share of the points' extent to leave around them.
        file: name to put into faults.
    """
    derived = DerivedBoxes([], [], set())
    for members in _objects_without_box(points, [*boxes, *others]):
        first = members[0]
        names = dict.fromkeys(point.name for point in members)
        classes = [name for name, skeleton in schema.classes.items() if names.keys() <= set(skeleton.keypoints)]
        box = box_around(((point.x, point.y) for point in members), margin)
        if len(classes) != 1:
            fits = f"could be a {' or a '.join(classes)}" if classes else "belong to no single class"
            fault = Fault(file, first.shape, "ambiguous-class", f"the points {', '.join(names)} {fits}", _DRAW)
        elif box is None:
            found = f"the points {', '.join(names)} have no extent that a box could be derived from"
            fault = Fault(file, first.shape, "no-extent", found, _DRAW)
        else:
            derived.boxes.append(BoxShape(first.shape, classes[0], box, first.group))
            continue
        derived.faults.append(fault)
        derived.left_out |= {point.shape for point in members}
    return derived


_DRAW = "draw the object's rectangle"


def _objects_without_box(points: Sequence[PointShape], rectangles: Sequence[BoxShape]) -> list[list[PointShape]]:
    groups: dict[Hashable, list[PointShape]] = defaultdict(list)
    for point in points:
        groups[point.group].append(point)
    loose = groups.pop(None, [])
    taken = {box.group for box in rectangles}
    found = [members for group, members in groups.items() if group not in taken and not _in_one_of(rectangles, members)]
    names = Counter(point.name for point in loose)
    if loose and not rectangles and not found and max(names.values()) == 1:
        found.append(loose)
    return found


def _in_one_of(rectangles: Iterable[BoxShape], points: Sequence[PointShape]) -> bool:
    return any(all(contains(box.box_xyxy, point.x, point.y) for point in points) for box in rectangles)
