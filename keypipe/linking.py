"""Which keypoint belongs to which box: by group, else by containment, list order last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import msgspec

from keypipe.errors import Fault
from keypipe.skeleton import Schema

Box = tuple[float, float, float, float]

CONTAINMENT_SLACK = 0.02
"""A point this far outside a box, as a share of the box's longer side, still counts as inside: a keypoint
on the outline is clicked a pixel or two beyond the box as often as not."""


class BoxShape(msgspec.Struct, frozen=True):
    """A rectangle of a class of the schema: position in the file, class, corners in pixels, group or None."""

    shape: int
    class_name: str
    box_xyxy: Box
    group: Hashable | None


class PointShape(msgspec.Struct, frozen=True):
    """A point of a keypoint name of the schema: position in the file, name, pixels, group or None."""

    shape: int
    name: str
    x: float
    y: float
    group: Hashable | None


class Links(msgspec.Struct):
    """What linking found.

    Attributes:
        owner: for every linked point's shape index, the shape index of its box.
        faults: points that belong to no box, to two, or repeat a keypoint; groups with several boxes.
        by_list_order: shape indices of the points that only their place in the list could decide.
        of_others: shape indices of points that belong to an object of a class outside the schema.
    """

    owner: dict[int, int]
    faults: list[Fault]
    by_list_order: list[int]
    of_others: list[int]


def link_keypoints(
    boxes: Sequence[BoxShape],
    points: Sequence[PointShape],
    schema: Schema,
    file: str,
    others: Sequence[BoxShape] = (),
) -> Links:
    """Join the points of one image to its boxes.

    A point with a group goes to the box of that group. Every other point goes to a box that contains it,
    whose class has that keypoint and which does not have it yet; where several boxes could take it, names
    already given away rule boxes out one by one, and the box that stands last before the point in the
    file decides what is left.

    Args:
        boxes: rectangles in file order.
        points: points in file order.
        schema: tells which class has which keypoint.
        file: name to put into faults.
        others: rectangles of classes outside the schema; a point of such an object is no fault.

    Returns:
        Owners, faults, and the points decided by list order or belonging to other objects.
    """
    links = Links({}, [], [], [])
    taken: dict[tuple[int, str], int] = {}
    ungrouped = _link_groups(boxes, points, schema, file, links, taken)
    by_name: dict[str, list[PointShape]] = defaultdict(list)
    known_groups = {box.group for box in boxes}
    other_groups = {box.group for box in others if box.group is not None} - known_groups
    for point in ungrouped:
        if point.group in other_groups:
            links.of_others.append(point.shape)
            continue
        by_name[point.name].append(point)
    for name, namesakes in by_name.items():
        able = [box for box in boxes if name in schema.classes[box.class_name].keypoints]
        _link_contained(name, namesakes, able, others, file, links, taken)
    return links


def _link_groups(
    boxes: Sequence[BoxShape],
    points: Sequence[PointShape],
    schema: Schema,
    file: str,
    links: Links,
    taken: dict[tuple[int, str], int],
) -> list[PointShape]:
    """Link by group; return the points that have none, or whose group holds no box."""
    in_group: dict[Hashable, list[BoxShape]] = defaultdict(list)
    for box in boxes:
        if box.group is not None:
            in_group[box.group].append(box)
    for group, members in in_group.items():
        if len(members) > 1:
            shapes = ", ".join(str(box.shape) for box in members)
            links.faults.append(
                Fault(
                    file,
                    members[1].shape,
                    "several-boxes-in-group",
                    f"group {group} holds {len(members)} boxes (shapes {shapes})",
                    "give every object a group_id of its own",
                )
            )
    rest: list[PointShape] = []
    for point in points:
        members = in_group.get(point.group, []) if point.group is not None else []
        if len(members) > 1:
            continue  # the group itself is the fault
        if not members:
            rest.append(point)
            continue
        box = members[0]
        if point.name not in schema.classes[box.class_name].keypoints:
            links.faults.append(
                Fault(
                    file,
                    point.shape,
                    "keypoint-of-other-class",
                    f"{point.name!r} is grouped with a {box.class_name!r}, which has no such keypoint",
                    "correct the label or the group_id",
                )
            )
        else:
            _give(point, box, file, links, taken)
    return rest


def _give(
    point: PointShape, box: BoxShape, file: str, links: Links, taken: dict[tuple[int, str], int]
) -> None:
    earlier = taken.setdefault((box.shape, point.name), point.shape)
    if earlier == point.shape:
        links.owner[point.shape] = box.shape
        return
    links.faults.append(
        Fault(
            file,
            point.shape,
            "repeated-keypoint",
            f"{point.name!r} is there twice for the {box.class_name!r} of shape {box.shape} (also shape {earlier})",
            "delete one, or rename it",
        )
    )


def _link_contained(
    name: str,
    points: Sequence[PointShape],
    boxes: Sequence[BoxShape],
    others: Sequence[BoxShape],
    file: str,
    links: Links,
    taken: dict[tuple[int, str], int],
) -> None:
    by_shape = {box.shape: box for box in boxes}
    free = [box for box in boxes if (box.shape, name) not in taken]
    around = {point.shape: _boxes_around(point, boxes) for point in points}
    candidates = {
        point.shape: [box.shape for box in free if box.shape in around[point.shape]] for point in points
    }
    pending = {point.shape: point for point in points}

    def assign(shape: int, box: int) -> None:
        _give(pending.pop(shape), by_shape[box], file, links, taken)
        candidates.pop(shape)
        for others in candidates.values():
            if box in others:
                others.remove(box)

    while pending:
        certain = next((shape for shape in pending if len(candidates[shape]) == 1), None)
        if certain is not None:
            assign(certain, candidates[certain][0])
            continue
        undecided = [shape for shape in pending if candidates[shape]]
        if not undecided:
            break
        chosen = _decide_by_order(undecided, candidates)
        if chosen is None:
            break
        links.by_list_order.append(chosen[0])
        assign(*chosen)

    for shape, point in pending.items():
        if not around[shape] and _boxes_around(point, others):
            links.of_others.append(shape)
        else:
            links.faults.append(_unlinked(point, candidates[shape], around[shape], by_shape, file))


def _boxes_around(point: PointShape, boxes: Sequence[BoxShape]) -> list[int]:
    """Return the boxes that hold a point; those that hold it only by the slack count when no other does."""
    inside = [box.shape for box in boxes if contains(box.box_xyxy, point.x, point.y, slack=0.0)]
    return inside or [box.shape for box in boxes if contains(box.box_xyxy, point.x, point.y)]


def _decide_by_order(undecided: Iterable[int], candidates: Mapping[int, Sequence[int]]) -> tuple[int, int] | None:
    """Return the first point that follows one of its candidate boxes in the file, with the nearest such box."""
    for shape in undecided:
        before = [box for box in candidates[shape] if box < shape]
        if before:
            return shape, max(before)
    return None


def _unlinked(
    point: PointShape,
    candidates: Sequence[int],
    around: Sequence[int],
    boxes: Mapping[int, BoxShape],
    file: str,
) -> Fault:
    if candidates:
        shapes = " and ".join(str(shape) for shape in candidates)
        return Fault(
            file,
            point.shape,
            "ambiguous-keypoint",
            f"{point.name!r} lies in the boxes of shapes {shapes} and could belong to either",
            "give the point and its box the same group_id",
        )
    if around:
        return Fault(
            file,
            point.shape,
            "repeated-keypoint",
            f"{point.name!r} is there twice for the {boxes[around[0]].class_name!r} of shape {around[0]}",
            "delete one, or rename it",
        )
    return Fault(
        file,
        point.shape,
        "keypoint-without-object",
        f"{point.name!r} at ({point.x:.0f}, {point.y:.0f}) lies in no box of a class that has it",
        "draw the object's rectangle around it, or give both the same group_id",
    )


def contains(box_xyxy: Box, x: float, y: float, slack: float = CONTAINMENT_SLACK) -> bool:
    """Tell whether a point lies in a box, give or take a share of the box's longer side.

    Args:
        box_xyxy: left, top, right, bottom in pixels.
        x: pixels.
        y: pixels.
        slack: share of the longer side that a point may lie outside.
    """
    left, top, right, bottom = box_xyxy
    margin = slack * max(right - left, bottom - top)
    return left - margin <= x <= right + margin and top - margin <= y <= bottom + margin
