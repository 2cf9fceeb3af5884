from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from keypipe.annotations.linking.linker import link_keypoints
from keypipe.annotations.linking.placement import Places
from keypipe.annotations.linking.values import BoxShape, PointShape
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}, "bird": {"keypoints": ["beak", "tail"]}}})
LEFT, RIGHT, WHOLE = (0.0, 0.0, 50.0, 50.0), (40.0, 0.0, 90.0, 50.0), (0.0, 0.0, 90.0, 50.0)


def box(shape: int, xyxy: tuple[float, float, float, float], group: int | None = None, name: str = "cow") -> BoxShape:
    return BoxShape(shape, name, xyxy, group)


def at(shape: int, name: str, x: float, group: int | None = None) -> PointShape:
    return PointShape(shape, name, x, 25.0, group)


CASES = {
    "by group, wherever the point lies": ([box(0, LEFT, 7)], [at(1, "nose", 500, 7)], {1: 0}, []),
    "by containment": ([box(0, LEFT), box(1, RIGHT)], [at(2, "nose", 10), at(3, "nose", 80)], {2: 0, 3: 1}, []),
    "on the outline, a pixel outside": ([box(0, LEFT)], [at(1, "nose", 50.9)], {1: 0}, []),
    "inside beats the outline of another": (
        [box(0, LEFT), box(1, (50.5, 0, 90, 50))],
        [at(2, "nose", 50.6)],
        {2: 1},
        [],
    ),
    "the class decides": (
        [box(0, WHOLE), box(1, WHOLE, name="bird")],
        [at(2, "beak", 20), at(3, "nose", 20)],
        {2: 1, 3: 0},
        [],
    ),
    "a name given away rules a box out": (
        [box(0, LEFT), box(1, RIGHT)],
        [at(2, "nose", 45), at(3, "nose", 10)],
        {2: 1, 3: 0},
        [],
    ),
    "a group gives a name away too": (
        [box(0, WHOLE, 1), box(1, WHOLE)],
        [at(2, "nose", 20), at(3, "nose", 30, 1)],
        {2: 1, 3: 0},
        [],
    ),
    "list order last": ([box(0, WHOLE), box(2, WHOLE)], [at(1, "nose", 20), at(3, "nose", 30)], {1: 0, 3: 2}, []),
    "both before: ambiguous": (
        [box(2, WHOLE), box(3, WHOLE)],
        [at(0, "nose", 20), at(1, "nose", 30)],
        {},
        [(0, "ambiguous-keypoint"), (1, "ambiguous-keypoint")],
    ),
    "twice in a box": ([box(0, LEFT)], [at(1, "nose", 10), at(2, "nose", 20)], {1: 0}, [(2, "repeated-keypoint")]),
    "twice in a group": (
        [box(0, LEFT, 1)],
        [at(1, "nose", 1, 1), at(2, "nose", 2, 1)],
        {1: 0},
        [(2, "repeated-keypoint")],
    ),
    "in no box": ([box(0, LEFT)], [at(1, "nose", 200)], {}, [(1, "keypoint-without-object")]),
    "grouped with the wrong class": (
        [box(0, LEFT, 1)],
        [at(1, "beak", 10, 1)],
        {},
        [(1, "keypoint-of-other-class")],
    ),
    "two boxes in a group that lie apart": (
        [box(0, LEFT, 1), box(1, RIGHT, 1)],
        [at(2, "nose", 10, 1)],
        {2: 0},
        [],
    ),
    "two boxes in a group that hold the same point": (
        [box(0, LEFT, 1), box(1, LEFT, 1)],
        [at(2, "nose", 10, 1)],
        {},
        [(1, "several-boxes-in-group")],
    ),
    "a group without a box is not given to the box of another group": (
        [box(0, LEFT, 1)],
        [at(1, "nose", 10, 1), at(2, "ear", 12, 2)],
        {1: 0},
        [(2, "keypoint-without-object")],
    ),
    "a box without a group takes one group alone": (
        [box(0, LEFT)],
        [at(1, "nose", 10, 1), at(2, "ear", 12, 2)],
        {1: 0},
        [(2, "keypoint-without-object")],
    ),
    "a group without a box takes the box without a group around it, not the one of another": (
        [box(0, LEFT, 1), box(1, LEFT)],
        [at(2, "nose", 10, 1), at(3, "nose", 12, 2)],
        {2: 0, 3: 1},
        [],
    ),
    "a group without a box falls back to containment": ([box(0, LEFT)], [at(1, "nose", 10, 5)], {1: 0}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_link_keypoints(case: str) -> None:
    boxes, points, owner, faults = CASES[case]
    links = link_keypoints(boxes, points, SCHEMA, "a.json")
    assert links.owner == owner
    assert sorted((fault.shape, fault.kind) for fault in links.faults) == faults


def test_list_order_is_reported() -> None:
    boxes, points, *_ = CASES["list order last"]
    assert sorted(link_keypoints(boxes, points, SCHEMA, "a.json").by_list_order) == [1, 3]


@pytest.mark.parametrize("group", [None, 3])
def test_points_of_objects_outside_the_schema_are_no_fault(group: int | None) -> None:
    others = [BoxShape(0, "dog", RIGHT, group)]
    links = link_keypoints([], [at(1, "nose", 80, group)], SCHEMA, "a.json", others)
    assert not links.faults
    assert links.of_others == [1]


NOSE_LEFT = {("cow", "nose"): np.tile([0.1, 0.5], (40, 1)), ("cow", "tail"): np.tile([0.9, 0.5], (40, 1))}


def test_overlapping_boxes_are_told_apart_by_where_the_keypoint_usually_lies() -> None:
    boxes = [box(0, (0, 0, 60, 50)), box(1, (30, 0, 90, 50))]
    points = [at(2, "nose", 36), at(3, "tail", 54)]
    links = link_keypoints(boxes, points, SCHEMA, "a.json", places=NOSE_LEFT)
    assert links.owner == {2: 1, 3: 0}
    assert (links.by_place, links.by_list_order, links.faults) == ([2, 3], [], [])
    # Nothing learnt, neither is clear, and what is nearer to the middle of its box decides with the order.
    links = link_keypoints(boxes, points, SCHEMA, "a.json")
    assert links.owner == {2: 0, 3: 1}
    assert sorted(links.by_list_order) == [2, 3]


def test_two_points_of_a_name_are_assigned_together() -> None:
    boxes = [box(2, (0, 0, 60, 50)), box(3, (30, 0, 90, 50))]
    points = [at(0, "nose", 32), at(1, "nose", 56)]
    links = link_keypoints(boxes, points, SCHEMA, "a.json")
    assert links.owner == {0: 2, 1: 3}
    assert sorted(links.by_place) == [0, 1]


def test_a_point_that_place_decided_rules_its_box_out_for_others() -> None:
    boxes = [box(0, (0, 0, 60, 50)), box(1, (30, 0, 90, 50)), box(2, (31, 0, 91, 50))]
    points = [at(3, "nose", 37), at(4, "nose", 6)]
    links = link_keypoints(boxes, points, SCHEMA, "a.json", places=NOSE_LEFT)
    assert links.owner == {3: 2, 4: 0}
    assert links.by_list_order == [3]


def test_among_many_overlapping_boxes_nothing_is_decided_by_place_that_is_wrong() -> None:
    rng = random.Random(0)
    lefts = [rng.uniform(0, 400) for _ in range(25)]
    boxes = [box(index, (left, 0, left + 100, 50)) for index, left in enumerate(lefts)]
    points = [PointShape(100 + index, "nose", left + 10, 25.0, None) for index, left in enumerate(lefts)]
    for order in (points, points[::-1], rng.sample(points, len(points))):
        links = link_keypoints(boxes, order, SCHEMA, "a.json", places=NOSE_LEFT)
        assert len(links.by_place) == 8  # besides the certain ones; noses nearer than a tenth of a box stay unclear
        assert all(links.owner[shape] == shape - 100 for shape in links.by_place)


TWO = [box(0, (0, 0, 60, 50)), box(1, (30, 0, 90, 50))]


@pytest.mark.parametrize("places", [None, NOSE_LEFT])
def test_a_group_that_fits_into_several_boxes_goes_to_one_as_a_whole(places: Places | None) -> None:
    points = [at(2, "nose", 33, 7), at(3, "tail", 57, 7)]  # the nose alone would go right, the tail left
    links = link_keypoints(TWO, points, SCHEMA, "a.json", places=places)
    assert links.owner in ({2: 0, 3: 0}, {2: 1, 3: 1})
    assert sorted(links.by_place + links.by_list_order) == [2, 3]
    assert not links.faults


def test_groups_are_dealt_onto_boxes_one_each() -> None:
    points = [at(2, "nose", 36, 5), at(3, "tail", 58, 5), at(4, "nose", 32, 6), at(5, "tail", 54, 6)]
    links = link_keypoints(TWO, points, SCHEMA, "a.json", places=NOSE_LEFT)
    assert links.owner in ({2: 0, 3: 0, 4: 1, 5: 1}, {2: 1, 3: 1, 4: 0, 5: 0})
    right = [at(2, "nose", 33, 5), at(3, "tail", 59, 5), at(4, "nose", 10)]
    links = link_keypoints(TWO, right, SCHEMA, "a.json", places=NOSE_LEFT)
    assert links.owner == {2: 1, 3: 1, 4: 0}
    assert not links.by_place + links.by_list_order  # the other nose leaves them one box


def test_a_group_goes_where_its_points_together_lie_best() -> None:
    boxes = [box(0, (0, 0, 100, 50)), box(1, (20, 0, 90, 50))]
    links = link_keypoints(boxes, [at(2, "nose", 27, 3), at(3, "tail", 83, 3)], SCHEMA, "a.json", places=NOSE_LEFT)
    assert links.owner == {2: 1, 3: 1}
    assert links.by_place == [2, 3]


def test_a_group_with_a_name_twice_is_no_object_that_one_box_could_take() -> None:
    links = link_keypoints(TWO, [at(2, "nose", 35, 3), at(3, "nose", 55, 3)], SCHEMA, "a.json")
    assert links.owner == {2: 0, 3: 1}
    assert not links.faults


def test_a_group_that_no_box_can_take_as_a_whole_any_more_finds_boxes_one_by_one() -> None:
    points = [at(2, "nose", 40, 3), at(3, "tail", 50, 3), at(4, "nose", 10), at(5, "nose", 80)]
    links = link_keypoints(TWO, points, SCHEMA, "a.json")
    assert {4, 5, 3} <= links.owner.keys()
    assert [(fault.shape, fault.kind) for fault in links.faults] == [(2, "repeated-keypoint")]


def test_the_order_changes_nothing_that_groups_or_containment_decide() -> None:
    rng = random.Random(3)
    certain = [at(10, "nose", 10), at(11, "tail", 80), at(12, "nose", 45, 1), at(13, "tail", 44, 1)]
    for _ in range(20):
        boxes = [box(0, (0, 0, 60, 50)), box(1, (30, 0, 90, 50)), box(2, (0, 0, 90, 50), 1)]
        shapes = dict(zip(range(10, 14), rng.sample(range(3, 20), 4), strict=True))
        points = [msgspec.structs.replace(point, shape=shapes[point.shape]) for point in certain]
        links = link_keypoints(boxes, points, SCHEMA, "a.json", habit=np.full((3, 3, 3, 2), 9.0))
        assert links.owner == {shapes[10]: 0, shapes[11]: 1, shapes[12]: 2, shapes[13]: 2}
        assert not links.by_place + links.by_list_order
