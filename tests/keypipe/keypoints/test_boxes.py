from __future__ import annotations

import numpy as np
import pytest

from keypipe.keypoints.boxes import CONTAINMENT_SLACK, box_around, box_iou, contains


@pytest.mark.parametrize(
    ("points", "margin", "box"),
    [
        ([(10, 10), (30, 20)], 0, (10, 10, 30, 20)),
        ([(10, 10), (30, 20)], 0.5, (0, 0, 40, 30)),
        ([(10, 10), (10, 20)], 0.1, (9, 9, 11, 21)),
        ([(10, 10), (10, 20)], 0, None),
        ([(10, 10)], 0.5, None),
        ([(10, 10), (10, 10)], 0.5, None),
    ],
)
def test_box_around(points: list[tuple[float, float]], margin: float, box: tuple[float, ...] | None) -> None:
    assert box_around(points, margin) == box


@pytest.mark.parametrize(
    ("x", "inside"), [(10, True), (60, True), (111, True), (112 + 1e-9, False), (8, True), (8 - 1e-9, False)]
)
def test_a_box_holds_what_lies_a_little_outside(x: float, inside: bool) -> None:
    assert CONTAINMENT_SLACK == 0.02
    assert contains((10, 0, 110, 50), x, 25) == inside


def test_iou_of_every_pair_and_pair_by_pair() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 55, 55], [0, 0, 0, 0]])
    every = box_iou(boxes[:, None], boxes)
    assert every[0].tolist() == pytest.approx([1, 50 / 150, 0, 0])
    assert every[3, 3] == 0
    assert (every == every.T).all()
    assert box_iou(boxes, boxes[::-1]).tolist() == [every[i, 3 - i] for i in range(4)]
