from __future__ import annotations

import numpy as np

from keypipe.keypoints.predictions import Prediction
from keypipe.tracks.following import TrackedFrame, TrackedObject
from keypipe.tracks.pictures import TRAIL_S, TrackPainter, track_colour
from tests.keypipe.tracks.frames import SCHEMA, cow

GREY = np.full((120, 400, 3), 90, np.uint8)


def frame(number: int, *objects: tuple[int, Prediction], gaps: list[int] | None = None) -> TrackedFrame:
    told = [TrackedObject(item.class_name, item.score, item.box_xyxy, item.keypoints, track) for track, item in objects]
    return TrackedFrame(number, number / 10, told, gaps or [])


def test_colours_of_neighbours_differ_and_stay() -> None:
    colours = [track_colour(track) for track in range(1, 9)]
    assert colours == [track_colour(track) for track in range(1, 9)]
    assert min(np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colours) for b in colours[:i]) > 40


def test_the_way_is_drawn_and_fades_and_the_image_stays() -> None:
    painter = TrackPainter(SCHEMA, 0.5)
    image = GREY.copy()
    for number in range(30):
        ways = painter.see(frame(number, (1, cow(40 + 10 * number))))
    drawn = painter.draw(image, frame(29, (1, cow(330))), ways)
    assert np.array_equal(image, GREY)
    changed = np.abs(drawn.astype(int) - 90).sum(-1)[50]  # along the way, at the height of the boxes' middles
    assert changed[300] > changed[200] > 0
    assert changed[100] == 0  # longer ago than the trail
    assert len(ways[1]) == round(10 * TRAIL_S) + 1


def test_no_line_across_a_gap() -> None:
    painter = TrackPainter(SCHEMA, 0.5)
    for number, x in enumerate((40, 60, 80)):
        painter.see(frame(number, (1, cow(x))))
    for number in (3, 4):
        painter.see(frame(number, gaps=[1]))
    ways = painter.see(frame(5, (1, cow(300))))
    assert [place is None for place in ways[1]] == [False, False, False, True, False]
    drawn = painter.draw(GREY, frame(5, (1, cow(300))), ways)
    assert (drawn[50, 120:270] == 90).all()
    assert (drawn[50, 45:75] != 90).any()


def test_what_ended_is_forgotten() -> None:
    painter = TrackPainter(SCHEMA, 0.5)
    painter.see(frame(0, (1, cow(40))))
    assert painter.see(frame(30)) == {}
    assert np.array_equal(painter.draw(GREY, frame(30), {}), GREY)
