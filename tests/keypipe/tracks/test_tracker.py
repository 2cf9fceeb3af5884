from __future__ import annotations

import numpy as np
import pytest

from keypipe.keypoints.predictions import Prediction
from keypipe.tracks.options import TrackOptions
from keypipe.tracks.tracker import Tracker
from tests.keypipe.tracks.frames import cow, dog, to_arrays

STEP = 0.04  # seconds between frames


def follow(frames: list[list[Prediction]], options: TrackOptions | None = None, step: float = STEP) -> list[list[int]]:
    tracker = Tracker(options or TrackOptions(), 2)
    return [tracker.step(number * step, to_arrays(found)).tolist() for number, found in enumerate(frames)]


def test_objects_keep_their_identity_whatever_their_order() -> None:
    frames = [[cow(100 + 2 * i), cow(300 - 2 * i, y=150)] for i in range(20)]
    frames[7].reverse()
    given = follow(frames)
    assert given[7] == [2, 1]
    assert [ids for number, ids in enumerate(given) if number != 7] == [[1, 2]] * 19


def test_animals_that_cross_are_told_apart_by_their_motion_and_keypoints() -> None:
    frames = [[cow(100 + 3 * i, facing=1), cow(280 - 3 * i, y=53, facing=-1)] for i in range(60)]
    assert follow(frames) == [[1, 2]] * 60


def test_a_missed_object_is_known_again_within_the_gap_and_not_after_it() -> None:
    def with_gap(length: int) -> list[list[int]]:
        frames = [[cow(100 + i)] for i in range(60)]
        frames[20 : 20 + length] = [[]] * length
        return follow(frames, TrackOptions(max_gap_s=0.5))

    assert {ids[0] for ids in with_gap(10) if ids} == {1}
    assert {ids[0] for ids in with_gap(15) if ids} == {1, 2}


def test_the_gap_is_a_time_and_no_number_of_frames() -> None:
    frames = [[cow(100)] for _ in range(40)]
    frames[20:30] = [[]] * 10
    options = TrackOptions(max_gap_s=0.5)
    assert {ids[0] for ids in follow(frames, options, step=0.04) if ids} == {1}
    assert {ids[0] for ids in follow(frames, options, step=0.2) if ids} == {1, 2}


def test_nobody_takes_the_object_of_one_who_was_missed_on_the_last_frame() -> None:
    """Two stand close; one is missed, and when it is seen again the other one is not."""
    frames = [[cow(100), cow(125)] for _ in range(10)]
    frames += [[cow(100)], [cow(125)], [cow(100), cow(125)]]
    assert follow(frames)[-3:] == [[1], [2], [1, 2]]


def test_weak_objects_go_on_with_an_identity_and_begin_none() -> None:
    frames = [[cow(100, score=0.1)], [cow(100)], [cow(100, score=0.1)], [cow(100), cow(300, score=0.1)]]
    assert follow(frames) == [[0], [1], [1], [1, 0]]


def test_a_second_detection_of_an_object_begins_none() -> None:
    assert follow([[cow(100)], [cow(100), cow(102, score=0.6)]]) == [[1], [1, 0]]


def test_identities_stay_within_their_class() -> None:
    assert follow([[cow(100)], [dog(100)], [dog(100), cow(100)]]) == [[1], [2], [2, 1]]


def test_a_frame_without_objects_and_a_time_that_stands_still() -> None:
    tracker = Tracker(TrackOptions(), 2)
    assert tracker.step(0.0, to_arrays([])).tolist() == []
    assert tracker.step(0.0, to_arrays([cow(100)])).tolist() == [1]
    assert tracker.step(0.0, to_arrays([cow(101)])).tolist() == [1]


def test_an_animal_that_leaps_over_its_own_length() -> None:
    """It starts slowly; by the end its boxes share nothing from frame to frame, but its speed is known."""
    places = np.cumsum([3.0 * min(number, 15) for number in range(40)])
    assert np.diff(places).max() > 40
    assert follow([[cow(100 + x)] for x in places], step=0.1) == [[1]] * 40


def test_the_same_frames_give_the_same_identities() -> None:
    rng = np.random.default_rng(3)
    frames = [
        [cow(100 + i + x, y, score) for x, y, score in rng.uniform([0, 0, 0.1], [300, 200, 1.0], (6, 3))]
        for i in range(50)
    ]
    assert follow(frames) == follow(frames)


@pytest.mark.parametrize("n_frames", [2, 200])
def test_what_is_gone_is_forgotten(n_frames: int) -> None:
    tracker = Tracker(TrackOptions(max_gap_s=0.2), 2)
    for number in range(n_frames):
        tracker.step(number * STEP, to_arrays([cow(100 + 200 * (number % 7), y=50 + 40 * (number % 5))]))
    assert len(tracker._ids) <= 8
