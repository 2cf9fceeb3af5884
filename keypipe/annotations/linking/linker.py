"""Which keypoint belongs to which box: by group, else by containment and by place, list order last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from keypipe.annotations.linking.placement import Places, find_plausible_links, placement_costs
from keypipe.annotations.linking.values import BoxShape, Links, PointShape
from keypipe.errors import Fault
from keypipe.keypoints.boxes import Box, contains
from keypipe.keypoints.skeleton import Schema


def link_keypoints(
    boxes: Sequence[BoxShape],
    points: Sequence[PointShape],
    schema: Schema,
    file: str,
    others: Sequence[BoxShape] = (),
    places: Places | None = None,
) -> Links:
    """Join the points of one image to its boxes.

    A point with a group goes to the box of that group. Every other point goes to a box that contains it,
    whose class has that keypoint and which does not have it yet; where several boxes could take it, names
    already given away rule boxes out one by one. Then all that is left of a name is looked at together, one point to a
    box, and boxes are ruled out by where that keypoint usually lies; where several are left, the one that stands last
    before the point in the file decides.

    Args:
        boxes: rectangles in file order.
        points: points in file order.
        schema: tells which class has which keypoint.
        file: name to put into faults.
        others: rectangles of classes outside the schema; a point of such an object is no fault.
        places: where keypoints lie in their boxes, as learnt from other images.

    Returns:
        Owners, faults, and the points decided by place or list order or belonging to other objects.
    """
    plain = _link_plainly(boxes, points, schema)
    if plain is not None:
        return Links(plain, [], [], [], [])
    linker = _Linker(boxes, others, schema, file, places or {})
    by_name: dict[str, list[PointShape]] = defaultdict(list)
    for point in linker.link_groups(points):
        by_name[point.name].append(point)
    for name, namesakes in by_name.items():
        linker.link_contained(name, namesakes)
    return linker.links


def _link_plainly(boxes: Sequence[BoxShape], points: Sequence[PointShape], schema: Schema) -> dict[int, int] | None:
    """Link an image in which nothing is in doubt, as in nearly all of them; what follows would find the same.

    Returns:
        Owners; None where there are groups, a point lies in no box or in several, or a name repeats.
    """
    if any(box.group is not None for box in boxes) or any(point.group is not None for point in points):
        return None
    places = [(*box.box_xyxy, box.shape, schema.classes[box.class_name].keypoints) for box in boxes]
    owner: dict[int, int] = {}
    taken: set[tuple[int, str]] = set()
    for point in points:
        x, y, name = point.x, point.y, point.name
        around = [
            (shape, names)
            for left, top, right, bottom, shape, names in places
            if left <= x <= right and top <= y <= bottom
        ]
        if len(around) != 1 or name not in around[0][1] or (around[0][0], name) in taken:
            return None
        owner[point.shape] = around[0][0]
        taken.add((around[0][0], name))
    return owner


class _Linker:
    """The state of linking one image: what is linked, and which keypoint names each box has already."""

    def __init__(
        self, boxes: Sequence[BoxShape], others: Sequence[BoxShape], schema: Schema, file: str, places: Places
    ) -> None:
        self.boxes = {box.shape: box for box in boxes}
        self.others = others
        self.schema = schema
        self.file = file
        self.places = places
        self.links = Links({}, [], [], [], [])
        self._taken: dict[tuple[int, str], int] = {}

    def link_groups(self, points: Sequence[PointShape]) -> list[PointShape]:
        """Link by group; return the points that have none, or whose group holds no box."""
        in_group: dict[Hashable, list[BoxShape]] = defaultdict(list)
        for box in self.boxes.values():
            if box.group is not None:
                in_group[box.group].append(box)
        other_groups = {box.group for box in self.others if box.group is not None} - in_group.keys()
        for group, members in in_group.items():
            if len(members) > 1:
                shapes = ", ".join(str(box.shape) for box in members)
                found = f"group {group} holds {len(members)} boxes (shapes {shapes})"
                self._fault(
                    members[1].shape, "several-boxes-in-group", found, "give every object a group_id of its own"
                )
        rest: list[PointShape] = []
        for point in points:
            members = in_group.get(point.group, []) if point.group is not None else []
            if point.group in other_groups:
                self.links.of_others.append(point.shape)
            elif not members:
                rest.append(point)
            elif len(members) == 1:  # where there are more, the group itself is the fault
                self._link_to(point, members[0])
        return rest

    def _link_to(self, point: PointShape, box: BoxShape) -> None:
        if point.name in self._names_of(box):
            self._give(point, box)
            return
        found = f"{point.name!r} is grouped with a {box.class_name!r}, which has no such keypoint"
        self._fault(point.shape, "keypoint-of-other-class", found, "correct the label or the group_id")

    def _give(self, point: PointShape, box: BoxShape) -> None:
        earlier = self._taken.setdefault((box.shape, point.name), point.shape)
        if earlier == point.shape:
            self.links.owner[point.shape] = box.shape
        else:
            self._repeated(point, box, f" (also shape {earlier})")

    def link_contained(self, name: str, points: Sequence[PointShape]) -> None:
        """Link the points of one name to the boxes around them."""
        able = [box for box in self.boxes.values() if name in self._names_of(box)]
        around = {point.shape: _boxes_around(point, able) for point in points}
        certain = [boxes[0] for boxes in around.values() if len(boxes) == 1]
        if len(set(certain)) == len(points) and not any((box, name) in self._taken for box in certain):
            for point, box in zip(points, certain, strict=True):  # nearly always; what follows would find the same
                self._give(point, self.boxes[box])
            return
        free = {box.shape for box in able if (box.shape, name) not in self._taken}
        candidates = {shape: [box for box in boxes if box in free] for shape, boxes in around.items()}
        pending = {point.shape: point for point in points}
        narrowed: set[int] = set()
        by = self.links.by_place
        while True:
            if chosen := _decide_certain(candidates):
                by += narrowed & {chosen[0]}
            elif ruled_out := self._rule_out_by_place(name, pending, candidates):
                narrowed |= ruled_out
                continue
            elif chosen := _decide_by_order(candidates):
                by = self.links.by_list_order  # from here on nothing is surer than this
                by.append(chosen[0])
            else:
                break
            shape, box = chosen
            self._give(pending.pop(shape), self.boxes[box])
            del candidates[shape]
            for boxes in candidates.values():
                if box in boxes:
                    boxes.remove(box)
        for shape, point in pending.items():
            self._report_unlinked(point, candidates[shape], around[shape])

    def _rule_out_by_place(
        self, name: str, pending: Mapping[int, PointShape], candidates: Mapping[int, list[int]]
    ) -> set[int]:
        """Take boxes that are far less likely than others off the candidates; return the points that lost some."""
        shapes = [shape for shape, boxes in candidates.items() if boxes]
        if not shapes:
            return set()
        boxes = [self.boxes[box] for box in sorted({box for shape in shapes for box in candidates[shape]})]
        costs = placement_costs(
            np.array([(pending[shape].x, pending[shape].y) for shape in shapes]),
            np.array([box.box_xyxy for box in boxes]),
            [self.places.get((box.class_name, name)) for box in boxes],
        )
        able = np.array([[box.shape in candidates[shape] for box in boxes] for shape in shapes])
        ruled_out = able & ~find_plausible_links(np.where(able, costs, np.inf))
        for point, box in np.argwhere(ruled_out):
            candidates[shapes[point]].remove(boxes[box].shape)
        return {shapes[point] for point in np.flatnonzero(ruled_out.any(axis=1))}

    def _report_unlinked(self, point: PointShape, candidates: Sequence[int], around: Sequence[int]) -> None:
        if candidates:
            shapes = " and ".join(str(shape) for shape in candidates)
            found = f"{point.name!r} lies in the boxes of shapes {shapes} and could belong to either"
            self._fault(point.shape, "ambiguous-keypoint", found, "give the point and its box the same group_id")
        elif around:
            self._repeated(point, self.boxes[around[0]])
        elif _boxes_around(point, self.others):
            self.links.of_others.append(point.shape)
        else:
            found = f"{point.name!r} at ({point.x:.0f}, {point.y:.0f}) lies in no box of a class that has it"
            fix = "draw the object's rectangle around it, or give both the same group_id"
            self._fault(point.shape, "keypoint-without-object", found, fix)

    def _repeated(self, point: PointShape, box: BoxShape, also: str = "") -> None:
        found = f"{point.name!r} is there twice for the {box.class_name!r} of shape {box.shape}{also}"
        self._fault(point.shape, "repeated-keypoint", found, "delete one, or rename it")

    def _names_of(self, box: BoxShape) -> tuple[str, ...]:
        return self.schema.classes[box.class_name].keypoints

    def _fault(self, shape: int, kind: str, found: str, fix: str) -> None:
        self.links.faults.append(Fault(self.file, shape, kind, found, fix))


def _boxes_around(point: PointShape, boxes: Sequence[BoxShape]) -> list[int]:
    """Return the boxes that hold a point; those that hold it only by the slack count when no other does."""
    x, y = point.x, point.y
    inside = [box.shape for box in boxes if _holds(box.box_xyxy, x, y)]
    return inside or [box.shape for box in boxes if contains(box.box_xyxy, point.x, point.y)]


def _holds(box_xyxy: Box, x: float, y: float) -> bool:
    left, top, right, bottom = box_xyxy
    return left <= x <= right and top <= y <= bottom


def _decide_certain(candidates: Mapping[int, Sequence[int]]) -> tuple[int, int] | None:
    """Return a point that only one box is left for, with that box."""
    return next(((shape, boxes[0]) for shape, boxes in candidates.items() if len(boxes) == 1), None)


def _decide_by_order(candidates: Mapping[int, Sequence[int]]) -> tuple[int, int] | None:
    """Return the first point that follows one of its candidate boxes in the file, with the nearest such box."""
    for shape, boxes in candidates.items():
        before = [box for box in boxes if box < shape]
        if before:
            return shape, max(before)
    return None
