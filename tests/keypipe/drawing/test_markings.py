from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.drawing.colours import keypoint_colours
from keypipe.drawing.markings import DrawnObject, DrawnPoint, draw_objects, group_regions, overlap
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.skeleton import Schema, Skeleton

SCHEMA = Schema({"cow": Skeleton(("nose", "tail"), (("nose", "tail"),))})


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.integers(0, 90)), draw(st.integers(0, 90))
    return left, top, left + draw(st.integers(1, 30)), top + draw(st.integers(1, 30))


@given(st.lists(boxes(), max_size=25))
def test_every_region_is_in_one_group_and_groups_do_not_touch(regions: list[Box]) -> None:
    groups = group_regions(regions)
    assert sorted(index for _, members in groups for index in members) == list(range(len(regions)))
    for frame, members in groups:
        assert members == sorted(members)
        corners = np.array([regions[index] for index in members])
        assert frame == (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
    for index, (frame, _) in enumerate(groups):
        assert not any(overlap(frame, other) for other, _ in groups[:index])


def make_object(left: float, top: float, side: float) -> DrawnObject:
    points = {"nose": DrawnPoint((left + 0.2 * side, top + 0.3 * side)), "tail": DrawnPoint((left + side, top + side))}
    return DrawnObject("cow", "", (left, top, left + side, top + side), points)


def test_objects_far_apart_look_as_they_do_alone() -> None:
    objects = [make_object(20, 20, 60), make_object(300, 200, 60)]
    together, apart = (np.full((400, 500, 3), 90, np.uint8) for _ in range(2))
    draw_objects(together, objects, SCHEMA)
    for item in objects:
        draw_objects(apart, [item], SCHEMA)
    np.testing.assert_array_equal(together, apart)


def test_the_first_object_is_on_top() -> None:
    first, second = make_object(100, 100, 100), make_object(110, 90, 100)
    both, alone = (np.full((300, 400, 3), 90, np.uint8) for _ in range(2))
    draw_objects(both, [first, second], SCHEMA)
    draw_objects(alone, [first], SCHEMA)
    nose = both[125:136, 115:126]
    np.testing.assert_array_equal(nose, alone[125:136, 115:126])


@pytest.mark.parametrize("distance", [0.0, 0.5, 400.0])
def test_edges_of_any_length(distance: float) -> None:
    picture = np.full((100, 500, 3), 90, np.uint8)
    points = {"nose": DrawnPoint((50, 50)), "tail": DrawnPoint((50 + distance, 50))}
    draw_objects(picture, [DrawnObject("cow", "", (20, 20, 480, 80), points)], SCHEMA)
    changed = (picture[50] != 90).any(axis=1)
    assert changed[48 : int(50 + distance) + 2].all()


def test_an_edge_goes_over_from_colour_to_colour() -> None:
    picture = np.full((100, 500, 3), 90, np.uint8)
    points = {"nose": DrawnPoint((50, 50.5)), "tail": DrawnPoint((450, 50.5))}
    draw_objects(picture, [DrawnObject("cow", "", (20, 20, 480, 80), points)], SCHEMA)
    along = [tuple(colour) for colour in picture[50, 50:450].tolist()]
    lengths = Counter(along)
    first, last = (np.array(keypoint_colours(SCHEMA)[name], dtype=int) for name in ("nose", "tail"))
    steps = len([colour for colour, length in lengths.items() if length > 35])
    assert steps == math.ceil(np.abs(last - first).max() / 40)
    assert np.abs(along[15] - (first + (last - first) / (2 * steps))).max() <= 1
    assert np.abs(along[-15] - (last - (last - first) / (2 * steps))).max() <= 1
