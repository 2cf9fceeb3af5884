from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.serving.shadow.comparison import compare_predictions

LOOSE = Thresholds(conf=0.25, keypoint_conf=0.5)


def cow(
    left: float = 0.0,
    score: float = 0.9,
    moved_px: float = 0.0,
    class_name: str = "cow",
    ear: float = 0.9,
    names: tuple[str, ...] = ("nose", "ear"),
) -> Prediction:
    """An object in a box of 30 x 40 px, whose diagonal is 50 px."""
    confidences = {"ear": ear}
    points = [
        PredictedKeypoint(name, left + 10 + (moved_px if name == "nose" else 0), 20 + i, confidences.get(name, 0.8))
        for i, name in enumerate(names)
    ]
    return Prediction(class_name, score, (left, 0.0, left + 30, 40.0), points)


def test_what_is_the_same_is_no_difference() -> None:
    found = [cow(), cow(100)]
    same = compare_predictions(found, found, LOOSE)
    assert (same.matched, same.unmatched, same.keypoints, same.unsure) == (2, 0, 4, 0)
    assert (same.score, same.median_diagonals, same.max_diagonals, same.max_px) == (0, 0, 0, 0)


def test_nothing_was_found_by_either() -> None:
    nothing = compare_predictions([], [], LOOSE)
    assert (nothing.matched, nothing.unmatched, nothing.keypoints) == (0, 0, 0)
    assert (nothing.score, nothing.median_diagonals, nothing.max_px, nothing.worst) == (None, None, None, "")


def test_distances_are_in_diagonals_and_the_worst_is_named() -> None:
    difference = compare_predictions([cow()], [cow(moved_px=5, score=0.8)], LOOSE)
    assert difference.score == pytest.approx(0.1)
    assert (difference.max_px, difference.max_diagonals, difference.median_diagonals) == (5, 0.1, 0.05)
    assert difference.worst == "cow nose"


def test_objects_of_one_alone_are_counted_unless_they_are_at_the_threshold() -> None:
    assert compare_predictions([cow(), cow(100)], [cow()], LOOSE).unmatched == 1
    assert compare_predictions([cow()], [cow(), cow(100)], LOOSE).unmatched == 1
    assert compare_predictions([cow()], [cow(), cow(100, score=0.255)], LOOSE).unmatched == 0
    assert compare_predictions([cow()], [cow(class_name="calf")], LOOSE).unmatched == 2
    assert compare_predictions([cow()], [cow(20)], LOOSE).matched == 0  # a third of it


def test_keypoints_that_one_alone_is_sure_of() -> None:
    difference = compare_predictions([cow()], [cow(ear=0.4)], LOOSE)
    assert (difference.keypoints, difference.unsure) == (1, 1)
    neither = compare_predictions([cow(ear=0.1)], [cow(ear=0.2)], LOOSE)
    assert (neither.keypoints, neither.unsure) == (1, 0)


def test_another_schema_is_compared_by_names() -> None:
    difference = compare_predictions([cow()], [cow(names=("hoof", "nose"))], LOOSE)
    assert (difference.keypoints, difference.unsure) == (1, 1)
    assert difference.max_px == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0.3, 1), st.floats(-5, 5)), max_size=6))
def test_it_is_the_same_from_both_sides_in_what_it_counts(drawn: list[tuple[int, float, float]]) -> None:
    one = sorted((cow(float(left), score) for left, score, _ in drawn), key=lambda found: -found.score)
    two = sorted((cow(float(left), score, moved) for left, score, moved in drawn), key=lambda found: -found.score)
    there, back = compare_predictions(one, two, LOOSE), compare_predictions(two, one, LOOSE)
    assert there.champion_objects == back.challenger_objects == len(drawn)
    assert there.matched == len(drawn)
    assert there.unmatched == back.unmatched == 0
