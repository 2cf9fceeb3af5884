from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.drawing.markings import DrawnObject, overlap
from keypipe.drawing.text import Place, draw_caption, draw_names, draw_tags, place_labels, place_tags
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.skeleton import Schema, Skeleton

SCHEMA = Schema({"cow": Skeleton(("nose",)), "dog": Skeleton(("nose",))})


def meet(a: Place, b: Place) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = draw(st.floats(-20, 390)), draw(st.floats(-20, 290))
    return left, top, left + draw(st.floats(0, 200)), top + draw(st.floats(0, 200))


@given(st.lists(boxes(), max_size=20), st.tuples(st.integers(5, 90), st.integers(5, 30)))
def test_tags_lie_in_the_picture_and_the_first_has_the_first_place(around: list[Box], size: tuple[int, int]) -> None:
    places = place_tags(around, [size] * len(around), (400, 300))
    for place in places:
        assert (place[2] - place[0], place[3] - place[1]) == size
        assert 1 <= place[0] <= place[2] <= 399
        assert 1 <= place[1] <= place[3] <= 299
    if around:
        left, top = around[0][0], around[0][1] - size[1] - 2
        expected = (min(max(round(left), 1), 399 - size[0]), min(max(round(top), 1), 299 - size[1]))
        assert places[0][:2] == expected


def test_tags_keep_out_of_each_others_way_while_there_is_room() -> None:
    around = [(200.0, 150.0, 300.0, 250.0)] * 8
    places = place_tags(around, [(60, 16)] * 8, (600, 400))
    assert not any(meet(a, b) for i, a in enumerate(places[:4]) for b in places[:i])
    assert places[7] == places[0]  # six places around a box, and no more


def test_equal_tags_look_equal_wherever_they_lie() -> None:
    picture = np.full((300, 400, 3), 90, np.uint8)
    objects = [DrawnObject("dog", "dog 0.87", (left, 100.0, left + 80, 200.0), {}) for left in (20.0, 200.0)]
    draw_tags(picture, objects, SCHEMA)
    first, second = picture[80:100, 20:110], picture[80:100, 200:290]
    np.testing.assert_array_equal(first, second)
    assert (first != 90).any()


def test_objects_without_a_label_get_no_tag() -> None:
    picture = np.full((300, 400, 3), 90, np.uint8)
    draw_tags(picture, [DrawnObject("dog", "", (20, 100, 100, 200), {})], SCHEMA)
    assert (picture == 90).all()


@pytest.mark.parametrize(
    "text", ["two\nlines", "\r\x1c\x1d\x1e\x85\u2029", "\x00\x1b[31m\u202e", "x" * 1_000_000, "{$\\frac"]
)
def test_any_name_of_a_file_can_be_a_caption(text: str) -> None:
    picture = np.full((100, 150, 3), 255, np.uint8)
    draw_caption(picture, text)
    assert (picture != 255).any()


def test_names_keep_out_of_each_others_way() -> None:
    apart, one = (np.full((200, 200, 3), 90, np.uint8) for _ in range(2))
    draw_names(one, [("left ear", (100, 100))])
    draw_names(apart, [("left ear", (100, 100)), ("left ear", (100, 100))])
    covered = [(picture != 90).any(axis=2).sum() for picture in (one, apart)]
    assert covered[1] == pytest.approx(2 * covered[0], rel=0.02)


@pytest.mark.parametrize("size_wh", [(1, 1), (12, 9), (40, 300), (640, 480)])
def test_text_on_pictures_of_any_size(size_wh: tuple[int, int]) -> None:
    picture = np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)
    draw_caption(picture, "annotated")
    draw_names(picture, [("a long name of a keypoint", (size_wh[0] / 2, 0.0))])
    draw_tags(picture, [DrawnObject("cow", "cow 0.5", (0, 0, *size_wh), {})], SCHEMA)
    assert (picture != 90).any() == (size_wh != (1, 1))


def test_labels_cover_neither_each_other_nor_points_and_stay_in_the_picture() -> None:
    rng = np.random.default_rng(0)
    for spread in (100.0, 15.0):
        points = [(200 + spread * x, 150 + spread * y) for x, y in rng.uniform(-1, 1, (14, 2)).tolist()]
        sizes = [(int(width), 17) for width in rng.integers(30, 90, 14)]
        places = place_labels(points, sizes, (400, 300), gap_px=10)
        for index, (left, top, right, bottom) in enumerate(places):
            assert 0 < left < right < 400
            assert 0 < top < bottom < 300
            assert (right - left, bottom - top) == sizes[index]
            assert not any(overlap(places[index], other) for other in places[:index])
            assert not any(left < x < right and top < y < bottom for x, y in points)


def test_a_label_without_room_covers_as_little_as_it_can() -> None:
    places = place_labels([(20.0, 10.0)] * 6, [(30, 12)] * 6, (48, 30), gap_px=6)
    assert len(places) == 6
    assert all(left > 0 and right < 48 and top > 0 and bottom < 30 for left, top, right, bottom in places)
