from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from keypipe.annotations.linking.drawing_order import Drawing, Habit, learn_habit, rank_keypoints
from keypipe.annotations.linking.linker import link_keypoints
from keypipe.annotations.linking.values import BoxShape, Links, PointShape
from keypipe.keypoints.skeleton import parse_schema

NAMES = ("nose", "ear", "tail")
SCHEMA = parse_schema({"classes": {"cow": {"keypoints": list(NAMES)}}})
RANKS = rank_keypoints(SCHEMA)
WHOLE = (0.0, 0.0, 100.0, 100.0)

Listed = Sequence[tuple[str, str | None]]
"""Objects and their keypoints as they follow each other, None for the object's box."""

BOX_FIRST = [("a", None), *(("a", name) for name in NAMES), ("b", None), *(("b", name) for name in NAMES)]
BOXES_FIRST = [("a", None), ("b", None), *((cow, name) for cow in "ab" for name in NAMES)]
POINTS_FIRST = [*(("a", name) for name in NAMES), ("a", None), *(("b", name) for name in NAMES), ("b", None)]
NAME_BY_NAME = [("a", None), ("b", None), *((cow, name) for name in NAMES for cow in "ab")]
ALL_POINTS_FIRST = [*((cow, name) for cow in "ab" for name in NAMES), ("a", None), ("b", None)]
HABITS = {
    "box, then points": BOX_FIRST,
    "boxes, then points": BOXES_FIRST,
    "points, then box": POINTS_FIRST,
    "keypoint by keypoint": NAME_BY_NAME,
    "points, then boxes": ALL_POINTS_FIRST,
}


def learn(*files: Listed) -> Habit:
    drawings = []
    for listed in files:
        owner = owners(listed)
        boxes = {index: NAMES for index, (_, name) in enumerate(listed) if name is None}
        points = {index: name for index, (_, name) in enumerate(listed) if name is not None}
        drawings.append((Drawing(boxes, points, RANKS), owner))
    return learn_habit(drawings)


def owners(listed: Listed) -> dict[int, int]:
    box_of = {cow: index for index, (cow, name) in enumerate(listed) if name is None}
    return {index: box_of[cow] for index, (cow, name) in enumerate(listed) if name is not None}


def link(
    listed: Listed,
    habit: Habit | None = None,
    boxes: dict[str, tuple[float, float, float, float]] | None = None,
    x: dict[str, float] | None = None,
) -> Links:
    """Link cows whose boxes are one and the same, and whose points all lie in its middle, unless others are given."""
    rectangles = [
        BoxShape(index, "cow", (boxes or {}).get(cow, WHOLE), None)
        for index, (cow, name) in enumerate(listed)
        if name is None
    ]
    points = [
        PointShape(index, name, (x or {}).get(cow, 50.0), 50.0, None)
        for index, (cow, name) in enumerate(listed)
        if name is not None
    ]
    return link_keypoints(rectangles, points, SCHEMA, "a.json", habit=habit)


@pytest.mark.parametrize("name", HABITS)
def test_the_habit_of_a_folder_decides_where_a_file_leaves_all_in_doubt(name: str) -> None:
    listed = HABITS[name]
    links = link(listed, learn(*[listed] * 5))
    assert links.owner == owners(listed)
    assert sorted(links.by_list_order) == sorted(links.owner)
    assert not links.faults


@pytest.mark.parametrize("name", HABITS)
def test_the_habit_of_a_file_beats_that_of_its_folder(name: str) -> None:
    """Two cows stand apart and show how the file was drawn; two have one box between them."""
    listed = HABITS[name]
    if name in ("box, then points", "points, then box"):
        file = [*listed, *((f"{cow}2", keypoint) for cow, keypoint in listed)]
    else:  # all boxes together, all points together

        def both(at: int) -> list[tuple[str, str | None]]:
            return [(cow, keypoint) for cow, keypoint in listed if (keypoint is None) == (at == 0)]

        parts = {at: [*both(at), *((f"{cow}2", keypoint) for cow, keypoint in both(at))] for at in (0, 1)}
        if name == "keypoint by keypoint":
            parts[1].sort(key=lambda shape: NAMES.index(str(shape[1])))
        file = parts[0] + parts[1] if listed[0][1] is None else parts[1] + parts[0]
    other = POINTS_FIRST if name.startswith("box") else BOX_FIRST
    apart = {"a": (200.0, 0.0, 300.0, 100.0), "b": (400.0, 0.0, 500.0, 100.0)}
    links = link(file, learn(*[other] * 50), apart, {"a": 250.0, "b": 450.0})
    assert links.owner == owners(file)
    assert len(links.by_list_order) == 2 * len(NAMES)


@pytest.mark.parametrize("listed", [BOX_FIRST, BOXES_FIRST, POINTS_FIRST])
def test_the_usual_habits_are_known_where_nothing_was_learnt(listed: Listed) -> None:
    assert link(listed).owner == owners(listed)


@pytest.mark.parametrize("listed", [BOX_FIRST, BOXES_FIRST, POINTS_FIRST])
def test_in_a_folder_of_mixed_habits_the_list_itself_tells_which_one_it_is(listed: Listed) -> None:
    habit = learn(*[BOX_FIRST, BOXES_FIRST, POINTS_FIRST] * 5)
    assert link(listed, habit).owner == owners(listed)


def test_points_before_all_boxes_are_asked_about_unless_that_habit_was_seen() -> None:
    links = link(ALL_POINTS_FIRST)
    assert (links.owner, links.by_list_order) == ({}, [])
    assert {fault.kind for fault in links.faults} == {"ambiguous-keypoint"}
    assert len(links.faults) == 2 * len(NAMES)
    assert not link(ALL_POINTS_FIRST, learn(*[POINTS_FIRST] * 5)).faults


def shuffled() -> list[Listed]:
    rng = random.Random(0)
    return [rng.sample(BOX_FIRST, len(BOX_FIRST)) for _ in range(400)]


@pytest.mark.parametrize(
    ("files", "ears"),
    [([], {3: 0, 6: 1}), ([BOXES_FIRST] * 5, {3: 0, 6: 1}), (shuffled(), {3: 1, 6: 0})],
    ids=["nothing learnt", "object by object", "no order"],
)
def test_a_point_in_the_midst_of_one_objects_points_is_that_ones(files: list[Listed], ears: dict[int, int]) -> None:
    """The ears lie in both boxes and nearer to the middle of the wrong one; nose and tail are certain."""
    boxes = [
        BoxShape(0, "cow", (0.0, 0.0, 60.0, 100.0), None),
        BoxShape(1, "cow", (30.0, 0.0, 90.0, 100.0), None),
    ]
    xs = {2: 10.0, 3: 50.0, 4: 12.0, 5: 80.0, 6: 40.0, 7: 82.0}
    points = [PointShape(shape, NAMES[(shape - 2) % 3], x, 50.0, None) for shape, x in xs.items()]
    links = link_keypoints(boxes, points, SCHEMA, "a.json", habit=learn(*files))
    assert links.owner == {2: 0, 4: 0, 5: 1, 7: 1, **ears}
    assert sorted(links.by_list_order) == [3, 6]


def test_names_that_begin_again_are_the_next_objects() -> None:
    """No name is repeated: the first cow has no nose, the second no tail."""
    listed = [("a", None), ("b", None), ("a", "ear"), ("a", "tail"), ("b", "nose"), ("b", "ear")]
    assert link(listed, learn(*[BOXES_FIRST] * 5)).owner == owners(listed)


def test_the_list_may_come_in_any_order_and_its_numbers_may_have_gaps() -> None:
    habit = learn(*[BOXES_FIRST] * 5)
    expected = link(BOXES_FIRST, habit).owner
    rectangles = [BoxShape(2 * box, "cow", WHOLE, None) for box in sorted(set(expected.values()))]
    points = [PointShape(2 * index, str(name), 50.0, 50.0, None) for index, (_, name) in enumerate(BOXES_FIRST) if name]
    random.Random(1).shuffle(points)
    links = link_keypoints(rectangles[::-1], points, SCHEMA, "a.json", habit=habit)
    assert links.owner == {2 * point: 2 * box for point, box in expected.items()}


def test_images_with_one_object_teach_nothing() -> None:
    assert not learn([("a", None), *(("a", name) for name in NAMES)]).any()
    assert learn(BOX_FIRST)[..., 0].sum() == 2 * len(NAMES)


def test_a_shuffled_folder_shows_no_habit_and_points_before_all_boxes_are_asked_about() -> None:
    assert {fault.kind for fault in link(ALL_POINTS_FIRST, learn(*shuffled())).faults} == {"ambiguous-keypoint"}


def test_of_more_readings_than_can_be_tried_the_likeliest_is_found() -> None:
    """Ten cows with one box between them."""
    cows = "abcdefghij"
    listed = [(cow, None) for cow in cows] + [(cow, name) for cow in cows for name in NAMES]
    assert link(listed, learn(*[BOXES_FIRST] * 5)).owner == owners(listed)


def test_what_was_learnt_is_not_changed_by_using_it() -> None:
    habit = learn(BOX_FIRST)
    before = habit.copy()
    link(BOX_FIRST, habit)
    np.testing.assert_array_equal(habit, before)
