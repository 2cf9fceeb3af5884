from __future__ import annotations

import pytest

from keypipe.annotations.linking.derived_boxes import derive_boxes
from keypipe.annotations.linking.values import BoxShape, PointShape
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}, "bird": {"keypoints": ["beak", "tail"]}}})


def at(shape: int, name: str, x: float, group: int | None = None) -> PointShape:
    return PointShape(shape, name, x, x, group)


RECTANGLE = BoxShape(9, "cow", (0.0, 0.0, 100.0, 100.0), None)

CASES: dict[str, tuple[list[PointShape], list[BoxShape], list[tuple[int, str]], list[tuple[int, str]]]] = {
    "two groups": (
        [at(0, "nose", 1, 1), at(1, "tail", 5, 1), at(2, "beak", 1, 2), at(3, "tail", 9, 2)],
        [],
        [(0, "cow"), (2, "bird")],
        [],
    ),
    "all points of an image": ([at(0, "nose", 1), at(1, "tail", 5)], [], [(0, "cow")], []),
    "a name twice without a group": ([at(0, "nose", 1), at(1, "tail", 5), at(2, "nose", 9)], [], [], []),
    "a rectangle in the group": ([at(0, "nose", 1, 1)], [BoxShape(5, "cow", (50.0, 50.0, 60.0, 60.0), 1)], [], []),
    "a rectangle around all": ([at(0, "nose", 1, 1), at(1, "tail", 5, 1)], [RECTANGLE], [], []),
    "a rectangle somewhere else": (
        [at(0, "nose", 200, 1), at(1, "tail", 250, 1)],
        [RECTANGLE],
        [(0, "cow")],
        [],
    ),
    "points without a group beside a rectangle": ([at(0, "nose", 200), at(1, "tail", 250)], [RECTANGLE], [], []),
    "a class cannot be told": ([at(0, "tail", 1, 1)], [], [], [(0, "ambiguous-class")]),
    "no class has them all": ([at(0, "nose", 1, 1), at(1, "beak", 5, 1)], [], [], [(0, "ambiguous-class")]),
    "a single point": ([at(0, "nose", 1, 1)], [], [], [(0, "no-extent")]),
}


@pytest.mark.parametrize("case", CASES)
def test_derive_boxes(case: str) -> None:
    points, rectangles, boxes, faults = CASES[case]
    derived = derive_boxes(points, rectangles, [], SCHEMA, 0.1, "a.json")
    assert [(box.shape, box.class_name) for box in derived.boxes] == boxes
    assert [(fault.shape, fault.kind) for fault in derived.faults] == faults
    assert derived.left_out == ({point.shape for point in points} if faults else set())


def test_a_rectangle_of_another_class_counts_as_one() -> None:
    points = [at(0, "nose", 1, 1), at(1, "tail", 5, 1)]
    dog = BoxShape(2, "dog", (0.0, 0.0, 10.0, 10.0), 1)
    assert derive_boxes(points, [], [dog], SCHEMA, 0.1, "a.json").boxes == []
