from __future__ import annotations

import numpy as np

from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.tracks.similarity import empty_objects, join_objects, similarities
from tests.keypipe.tracks.frames import cow, dog, to_arrays

SURE = np.zeros(1)


def test_the_same_is_1_and_another_class_0() -> None:
    one = to_arrays([cow(100)])
    assert similarities(one, SURE, to_arrays([cow(100), dog(100)]), 0.1).tolist() == [[1.0, 0.0]]


def test_by_hand() -> None:
    """Boxes of 40 x 20 that are 4 px apart share 36 x 20; keypoints 4 px off at a tolerance of 0.53 * 800 * 0.04."""
    overlap = 36 / 44
    nearness = np.exp(-16 / (2 * 0.53 * 800 * 0.04))
    found = similarities(to_arrays([cow(100)]), SURE, to_arrays([cow(104)]), 0.1)
    np.testing.assert_allclose(found, [[(overlap + nearness) / 2]])


def test_keypoints_tell_apart_what_boxes_do_not() -> None:
    (row,) = similarities(to_arrays([cow(100)]), SURE, to_arrays([cow(100, facing=-1), cow(101)]), 0.1)
    assert row[0] < 0.51
    assert row[1] > 0.95


def test_an_unsure_place_widens_the_tolerance() -> None:
    near, far = (
        similarities(to_arrays([cow(100)]), np.array([spread]), to_arrays([cow(130)]), 0.1)[0, 0]
        for spread in (0.0, 900.0)
    )
    assert near < 0.1
    assert far > 0.35


def test_without_a_sure_keypoint_the_middles_count() -> None:
    hidden = Prediction("dog", 0.9, (90.0, 40.0, 110.0, 60.0), [PredictedKeypoint("nose", 0.0, 0.0, 0.0)])
    assert similarities(to_arrays([dog(100)]), SURE, to_arrays([hidden]), 0.1)[0, 0] == 1.0


def test_none() -> None:
    joined = join_objects(empty_objects(2), to_arrays([cow(1)]))
    assert len(joined) == 1
    assert similarities(empty_objects(2), np.empty(0), joined, 0.1).shape == (0, 1)
