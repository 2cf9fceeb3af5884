from __future__ import annotations

import numpy as np

from keypipe.diagnosis.columns import Rows
from keypipe.diagnosis.outliers import learn_shapes
from keypipe.keypoints.instances import Visibility
from keypipe.ranking.examples import choose_examples, rate_objects

SQUARE = np.array([20 + 20j, 40 + 20j, 40 + 40j, 20 + 40j])


def objects(n: int = 60) -> Rows:
    """Return squares in images of 100x100, a little unlike each other."""
    rng = np.random.default_rng(0)
    points = SQUARE + rng.normal(0, 0.3, (n, 4)) + 1j * rng.normal(0, 0.3, (n, 4))
    boxes = np.tile([18.0, 18.0, 42.0, 42.0], (n, 1))
    return Rows(0, boxes, points, np.full((n, 4), 2, np.uint8), np.full((n, 2), 100, np.int32))


def rate(rows: Rows) -> np.ndarray:
    examiner = learn_shapes(objects().points, range(4))
    assert examiner is not None
    return rate_objects(rows, examiner)


def test_small_odd_and_incomplete_objects_are_poor_examples() -> None:
    rows = objects()
    rows.boxes_xyxy[0] = (28, 28, 32, 32)
    rows.points[1, 2] = 21 + 21j
    rows.points[2, 3], rows.states[2, 3] = np.nan, 0
    ratings = rate(rows)
    assert np.median(ratings[3:]) > max(ratings[:3])
    assert (ratings <= 1).all()


def test_a_keypoint_is_shown_where_it_is_seen_and_not_at_the_edge() -> None:
    rows = objects()
    rows.states[:, 0] = Visibility.OCCLUDED
    rows.states[[5, 6], 0] = Visibility.VISIBLE
    rows.points[5, 0] = 0.5 + 20j
    files = np.arange(60, dtype=np.int32)
    assert choose_examples(rows, rate(rows), files, 3, 0) == [6]
    hidden = choose_examples(rows, rate(rows), files, 1, 0, Visibility.OCCLUDED)
    assert len(hidden) == 1
    assert hidden[0] not in (5, 6)


def test_one_of_each_image() -> None:
    rows = objects()
    files = np.repeat(np.arange(2, dtype=np.int32), 30)
    chosen = choose_examples(rows, rate(rows), files, 5)
    assert sorted(files[chosen].tolist()) == [0, 1]


def test_too_few_objects_to_know_what_is_usual() -> None:
    rows = objects(2)
    assert rate_objects(rows, None).tolist() == [0.5, 0.5]
    none = Rows(0, np.zeros((0, 4)), np.zeros((0, 4), complex), np.zeros((0, 4), np.uint8), np.zeros((0, 2), np.int32))
    assert choose_examples(none, rate_objects(none, None), np.zeros(0, np.int32), 3) == []
