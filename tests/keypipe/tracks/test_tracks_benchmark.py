"""The benchmark's film, its detections, and its figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.film import Film
from benchmarks.tracks import Figures, Moment, draw_detections, follow_keypipe, follow_overlap, judge, measure
from keypipe.tracks.similarity import Objects


def moment(number: int, cows: list[int], found: list[int]) -> Moment:
    """Return a frame with cows side by side; ``found`` are those that a detector found."""
    boxes = np.array([(50.0 * cow, 0.0, 50.0 * cow + 40, 40.0) for cow in cows]).reshape(-1, 4)
    seen = np.array([(50.0 * cow, 0.0, 50.0 * cow + 40, 40.0) for cow in found]).reshape(-1, 4)
    objects = Objects(np.zeros(len(found), np.int64), np.ones(len(found)), seen, np.zeros((len(found), 13, 3)))
    return Moment(number / 25, [(cow, 0) for cow in cows], boxes, objects)


def test_the_figures_by_hand() -> None:
    moments = [moment(number, [0, 1], [0, 1] if number != 3 else [0]) for number in range(6)]
    given = [np.array(ids) for ids in ([1, 2], [1, 2], [1, 2], [1], [2, 1], [2, 1])]
    figures = Figures()
    judge(moments, given, figures)
    assert figures.switches == 2
    assert (figures.found, figures.true, figures.identities, figures.visits) == (11, 12, 2, 2)
    assert figures.hits == 4 + 3  # cow 0 is identity 1 on four frames, cow 1 identity 2 on three
    assert figures.idf1 == pytest.approx(14 / 23)


def test_a_perfect_tracker_is_perfect() -> None:
    moments = [moment(number, [0, 1], [0, 1]) for number in range(5)]
    figures = Figures()
    judge(moments, [np.array([7, 3])] * 5, figures)
    assert (figures.switches, figures.idf1, figures.idf1_visits) == (0, 1.0, 1.0)


def test_a_film_is_the_same_for_its_seed_and_its_cows_lie_in_the_picture() -> None:
    film = Film(5, size_wh=(160, 96))
    assert np.array_equal(film.draw(1.2), Film(5, size_wh=(160, 96)).draw(1.2))
    assert not np.array_equal(film.draw(1.2), film.draw(1.6))
    for cow in film.cows(1.2):
        left, top, right, bottom = cow.box_xyxy
        assert 0 <= left < right <= 160
        assert 0 <= top < bottom <= 96


def test_keypipe_keeps_identities_better_than_the_overlap_with_the_last_frame() -> None:
    films = [draw_detections(200, 5, 25)]
    own, overlap = (measure(films, 25, follow) for follow in (follow_keypipe, follow_overlap))
    assert own.switches < overlap.switches / 10
    assert own.idf1_visits > overlap.idf1_visits + 0.2
    assert own.true == overlap.true
