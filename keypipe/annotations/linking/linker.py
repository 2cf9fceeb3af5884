"""Which keypoint belongs to which box: by group, else by containment and by place, the order of drawing last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from keypipe.annotations.linking.drawing_order import Drawing, Habit, Open, decide_by_order, rank_keypoints
from keypipe.annotations.linking.placement import Places, find_plausible_links, placement_costs
from keypipe.annotations.linking.values import BoxShape, Links, PointShape
from keypipe.errors import Fault
from keypipe.keypoints.boxes import Box, contains
from keypipe.keypoints.skeleton import Schema

T = TypeVar("T", BoxShape, PointShape)


def link_keypoints(
    boxes: Sequence[BoxShape],
    points: Sequence[PointShape],
    schema: Schema,
    file: str,
    others: Sequence[BoxShape] = (),
    places: Places | None = None,
    habit: Habit | None = None,
) -> Links:
    """Join the points of one image to its boxes.

    A point with a group goes to the box of that group, or, where the group has none, to a box without a group that
    holds it, and never to the box of another group. A group that several boxes share is told apart by containment where
    that leaves nothing in doubt; one that fits as a whole into boxes without a group goes to one of them as a whole.
    Every other point goes to a box that contains it, whose class has that keypoint and which does not have it yet;
    where several boxes could take it, names already given away rule boxes out one by one. All that is left of the image
    is looked at together: where each keypoint usually lies in its box, and in what order the file was drawn.

    Args:
        boxes: rectangles in file order.
        points: points in file order.
        schema: tells which class has which keypoint.
        file: name to put into faults.
        others: rectangles of classes outside the schema; a point of such an object is no fault.
        places: where keypoints lie in their boxes, as learnt from other images.
        habit: in what order boxes and points are drawn, as learnt from other images.

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
    linker.link_contested(points, habit)
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


class _Contested(msgspec.Struct, eq=False):
    """Points that may belong to several boxes: one, or all of a group.

    Attributes:
        points: in file order.
        boxes: shape indices of the boxes that are left.
        around: of the boxes that were there to begin with.
        costs: shape index of each box that containment leaves -> how unlikely the points lie there, in nats.
    """

    points: Sequence[PointShape]
    boxes: list[int]
    around: Sequence[int]
    costs: Mapping[int, float] = {}

    def excludes(self, other: _Contested) -> bool:
        """Tell whether no box can take both."""
        group, foreign = self.points[0].group, other.points[0].group
        if group is not None and foreign is not None and group != foreign:
            return True
        return not {point.name for point in self.points}.isdisjoint(point.name for point in other.points)


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
        self._group_of: dict[int, Hashable] = {}  # of boxes without one, by the points that they were given
        self._contested: list[_Contested] = []

    def link_groups(self, points: Sequence[PointShape]) -> list[PointShape]:
        """Link by group; return the points that have none, or whose group has no box that takes all of it."""
        own, others = _by_group(self.boxes.values()), _by_group(self.others)
        members = _by_group(points)
        for group, boxes in own.items():
            if len(boxes) > 1:
                self._link_shared(group, boxes, members.get(group, []))
        rest: list[PointShape] = []
        for group, its_points in members.items():
            if len(own.get(group, [])) == 1:
                for point in its_points:
                    self._link_to(point, own[group][0])
            elif group not in own and group in others:
                self.links.of_others += [point.shape for point in its_points]
            elif group not in own and not self._adopt(its_points):
                rest += its_points
        self._give_certain()
        left = {point.shape for point in rest}
        return [point for point in points if point.group is None or point.shape in left]

    def _link_shared(self, group: Hashable, boxes: Sequence[BoxShape], points: Sequence[PointShape]) -> None:
        """Link the points of a group that several boxes have: each lies in one of them alone, else it is a fault."""
        owners: dict[tuple[int, str], PointShape] = {}
        for point in points:
            able = [box for box in boxes if point.name in self._names_of(box)]
            around = _boxes_around(point, able)
            if len(around) != 1 or (around[0], point.name) in owners:
                shapes = ", ".join(str(box.shape) for box in boxes)
                found = (
                    f"group {group} holds {len(boxes)} boxes (shapes {shapes}), and not all of its points lie in one"
                )
                fix = "give every object a group_id of its own"
                self._fault(boxes[1].shape, "several-boxes-in-group", f"{found} of them alone", fix)
                return
            owners[around[0], point.name] = point
        for (box, _), point in owners.items():
            self._give(point, self.boxes[box])
        self.links.shared_groups += [box.shape for box in boxes[1:]]

    def _adopt(self, points: Sequence[PointShape]) -> bool:
        """Give a group without a box to the box without a group that holds all of it; several contest it."""
        takers = [box.shape for box in self.boxes.values() if self._takes_all(box, points)]
        if len(takers) > 1 and len({point.name for point in points}) < len(points):
            return False  # it is no single object
        if takers:
            self._contested.append(_Contested(points, takers, takers))
        if len(takers) == 1:
            self._give_certain()
        return bool(takers)

    def _takes_all(self, box: BoxShape, points: Sequence[PointShape]) -> bool:
        return all(self._is_open(box, point) and contains(box.box_xyxy, point.x, point.y) for point in points)

    def _is_open(self, box: BoxShape, point: PointShape) -> bool:
        """Tell whether a box may hold a point: its class has the keypoint, and it is not the box of another group."""
        open_to_group = point.group is None or self._group_of.get(box.shape, box.group) in (None, point.group)
        return open_to_group and point.name in self._names_of(box)

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
            if point.group is not None:
                self._group_of.setdefault(box.shape, point.group)
            for item in self._contested:
                if box.shape in item.boxes and not self._may_take(box, item.points):
                    item.boxes.remove(box.shape)
        else:
            self._repeated(point, box, f" (also shape {earlier})")

    def _may_take(self, box: BoxShape, points: Sequence[PointShape]) -> bool:
        return all(self._is_open(box, point) and (box.shape, point.name) not in self._taken for point in points)

    def link_contained(self, name: str, points: Sequence[PointShape]) -> None:
        """Link the points of one name to the boxes around them where that leaves nothing in doubt."""
        able = [box for box in self.boxes.values() if name in self._names_of(box)]
        around = [_boxes_around(point, [box for box in able if self._is_open(box, point)]) for point in points]
        certain = [boxes[0] for boxes in around if len(boxes) == 1]
        if len(set(certain)) == len(points) and not any((box, name) in self._taken for box in certain):
            for point, box in zip(points, certain, strict=True):  # nearly always; what follows would find the same
                self._give(point, self.boxes[box])
            return
        for point, boxes in zip(points, around, strict=True):
            free = [box for box in boxes if (box, name) not in self._taken]
            self._contested.append(_Contested([point], free, boxes))
        self._give_certain()

    def _give_certain(self, placed: Mapping[int, int] | None = None) -> None:
        """Give points to the only box that is left for them, which rules it out for others.

        Args:
            placed: box of the points that their place gives to one, by the index of their first shape; None if
                containment alone has decided so far, which needs no telling.
        """
        while item := next((item for item in self._contested if len(item.boxes) == 1), None):
            self._contested.remove(item)
            for point in item.points:
                self._give(point, self.boxes[item.boxes[0]])
            if placed is not None:
                as_placed = placed.get(item.points[0].shape) == item.boxes[0]
                by = self.links.by_place if as_placed else self.links.by_list_order
                by += [point.shape for point in item.points]

    def link_contested(self, points: Sequence[PointShape], habit: Habit | None) -> None:
        """Link what containment left open by where keypoints lie and by the order of drawing; report the rest."""
        self._give_certain()
        while item := next((item for item in self._contested if len(item.points) > 1 and not item.boxes), None):
            self._contested.remove(item)  # no box can take this group as a whole any more
            for point in item.points:
                self.link_contained(point.name, [point])
            self._give_certain()
        if contested := [item for item in self._contested if item.boxes]:
            for item in contested:
                item.costs = self._placement_costs(item)
            self._link_in_order(contested, _find_by_place(contested), points, habit)
        for item in self._contested:
            for point in item.points:
                self._report_unlinked(point, item.boxes, item.around)

    def _placement_costs(self, item: _Contested) -> dict[int, float]:
        """Say how unlikely points lie where they do, for each box that is left, in nats."""
        boxes = [self.boxes[box] for box in item.boxes]
        boxes_xyxy = np.array([box.box_xyxy for box in boxes])
        costs = np.zeros(len(boxes))
        for point in item.points:
            places = [self.places.get((box.class_name, point.name)) for box in boxes]
            costs += placement_costs(np.array([(point.x, point.y)]), boxes_xyxy, places)[0]
        return dict(zip(item.boxes, costs.tolist(), strict=True))

    def _link_in_order(
        self,
        contested: Sequence[_Contested],
        placed: Mapping[int, int],
        points: Sequence[PointShape],
        habit: Habit | None,
    ) -> None:
        """Give contested points to the boxes that place and order of drawing make likeliest."""
        owner = self.links.owner
        known = owner.keys() | {point.shape for item in contested for point in item.points}
        drawing = Drawing(
            {box.shape: self._names_of(box) for box in self.boxes.values()},
            {point.shape: point.name for point in points if point.shape in known},
            rank_keypoints(self.schema),
        )
        undecided = [
            Open([point.shape for point in item.points], item.costs, first.group, placed.get(first.shape))
            for item in contested
            for first in item.points[:1]
        ]
        decided = decide_by_order(drawing, owner, undecided, habit)
        for item in contested:
            if (box := decided.get(item.points[0].shape)) is not None:
                item.boxes = [box]
        self._give_certain(placed)

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
            self._report_without_object(point)

    def _report_without_object(self, point: PointShape) -> None:
        closed = _boxes_around(point, [box for box in self.boxes.values() if not self._is_open(box, point)])
        if point.group is None or not closed:
            found = f"{point.name!r} at ({point.x:.0f}, {point.y:.0f}) lies in no box of a class that has it"
            fix = "draw the object's rectangle around it, or give both the same group_id"
        else:
            groups = " and ".join(sorted({str(self._group_of.get(box, self.boxes[box].group)) for box in closed}))
            found = (
                f"{point.name!r} is of group {point.group}, which has no box; the box around it is of group {groups}"
            )
            fix = (
                f"draw the rectangle of group {point.group}'s object, or correct the group_id if it is the same object"
            )
        self._fault(point.shape, "keypoint-without-object", found, fix)

    def _repeated(self, point: PointShape, box: BoxShape, also: str = "") -> None:
        found = f"{point.name!r} is there twice for the {box.class_name!r} of shape {box.shape}{also}"
        fix = "if one is another object's, draw that object's rectangle; else delete one, or rename it"
        self._fault(point.shape, "repeated-keypoint", found, fix)

    def _names_of(self, box: BoxShape) -> tuple[str, ...]:
        return self.schema.classes[box.class_name].keypoints

    def _fault(self, shape: int, kind: str, found: str, fix: str) -> None:
        self.links.faults.append(Fault(self.file, shape, kind, found, fix))


def _find_by_place(contested: Sequence[_Contested]) -> dict[int, int]:
    """Return the box of the points that their place alone gives to one, by the index of their first shape."""
    placed: dict[int, int] = {}
    left = [msgspec.structs.replace(item, boxes=item.boxes.copy()) for item in contested]
    while True:
        if item := next((item for item in left if len(item.boxes) == 1), None):
            placed[item.points[0].shape] = box = item.boxes[0]
            left.remove(item)
            for other in left:
                if box in other.boxes and other.excludes(item):
                    other.boxes.remove(box)
        elif not _rule_out_by_place(left):
            return placed


def _rule_out_by_place(contested: Iterable[_Contested]) -> bool:
    """Take boxes that are far less likely than others off contested points; tell whether any was."""
    alike: dict[str, list[_Contested]] = defaultdict(list)
    for item in contested:
        if item.boxes:
            alike["" if len(item.points) > 1 else item.points[0].name].append(item)
    if _rule_out(alike.pop("", [])):  # whole groups first: many points say more than one
        return True
    return sum([_rule_out(items) for items in alike.values()]) > 0


def _rule_out(items: Sequence[_Contested]) -> bool:
    if not items:
        return False
    boxes = sorted({box for item in items for box in item.boxes})
    costs = np.array([[item.costs[box] if box in item.boxes else np.inf for box in boxes] for item in items])
    ruled_out = np.isfinite(costs) & ~find_plausible_links(costs)
    for row, column in np.argwhere(ruled_out):
        items[row].boxes.remove(boxes[column])
    return bool(ruled_out.any())


def _by_group(shapes: Iterable[T]) -> dict[Hashable, list[T]]:
    found: dict[Hashable, list[T]] = defaultdict(list)
    for shape in shapes:
        if shape.group is not None:
            found[shape.group].append(shape)
    return dict(found)


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
