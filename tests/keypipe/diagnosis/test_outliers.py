from __future__ import annotations

import numpy as np
import pytest

from keypipe.diagnosis.outliers import MIN_INSTANCES, Examination, learn_shapes
from keypipe.diagnosis.shape_model import Shapes

# A beast from the side: nose, tail, and a left and a right leg of two joints before and behind.
MEAN = np.array(
    [-3 - 1j, 2 - 1j, -2 + 1j, -1.8 + 0.8j, -2 + 2j, -1.8 + 1.8j, 1.5 + 1j, 1.7 + 0.8j, 1.5 + 2j, 1.7 + 1.8j]
)
PARTNERS = [0, 1, 3, 2, 5, 4, 7, 6, 9, 8]
EDGES = [(2, 4), (3, 5), (6, 8), (7, 9)]


def draw_herd(n: int = 200, seed: int = 0, noise: float = 0.04) -> Shapes:
    """Beasts of any size, at any place, half of them facing the other way."""
    rng = np.random.default_rng(seed)
    shapes = MEAN + noise * (rng.normal(size=(n, len(MEAN))) + 1j * rng.normal(size=(n, len(MEAN))))
    other_way = rng.random(n) < 0.5
    shapes[other_way] = -shapes[other_way].conj()[:, PARTNERS]
    size = rng.uniform(5, 80, (n, 1)) * np.exp(1j * rng.normal(0, 0.1, (n, 1)))
    moved: Shapes = size * shapes + rng.uniform(0, 500, (n, 1)) + 1j * rng.uniform(0, 500, (n, 1))
    return moved


def examine(shapes: Shapes) -> Examination:
    examiner = learn_shapes(shapes, PARTNERS, EDGES)
    assert examiner is not None
    return examiner.examine(shapes)


def size_of(shape: Shapes) -> float:
    return float(np.sqrt(np.nanmean(np.abs(shape - np.nanmean(shape)) ** 2)))


def test_sound_shapes_give_no_findings() -> None:
    found = examine(draw_herd())
    assert not found.outliers
    assert not found.exchanges
    assert not found.unusual


def test_a_displaced_keypoint_is_found_with_the_place_where_it_belongs() -> None:
    shapes = draw_herd()
    for row, column in ((3, 0), (60, 4), (121, 9)):
        true = shapes[row, column]
        shapes[row, column] += 0.6 * size_of(shapes[row]) * np.exp(1j * row)
        (outlier,) = examine(shapes).outliers
        assert (outlier.instance, outlier.keypoint) == (row, column)
        assert abs(outlier.expected - true) < 0.15 * size_of(shapes[row])
        assert outlier.distance == pytest.approx(0.6, abs=0.15)
        shapes[row, column] = true


@pytest.mark.parametrize("group", [[(2, 3)], [(4, 5)], [(2, 3), (4, 5)], [(2, 3), (4, 5), (6, 7), (8, 9)]])
def test_exchanged_left_and_right_is_named_whichever_way_the_beast_faces(group: list[tuple[int, int]]) -> None:
    shapes = draw_herd()
    first, second = (list(side) for side in zip(*group, strict=True))
    rows = [5, 6, 7, 8]
    for row in rows:
        shapes[row, first + second] = shapes[row, second + first]
    found = examine(shapes)
    assert {exchange.instance: list(exchange.pairs) for exchange in found.exchanges} == dict.fromkeys(rows, group)
    assert not found.outliers
    assert all(exchange.after < 2 < exchange.before for exchange in found.exchanges)


def test_names_of_no_pair_can_be_exchanged_as_well() -> None:
    shapes = draw_herd()
    shapes[10, [0, 6]] = shapes[10, [6, 0]]
    (exchange,) = examine(shapes).exchanges
    assert (exchange.instance, exchange.pairs) == (10, ((0, 6),))


def test_missing_keypoints_do_not_matter() -> None:
    shapes = draw_herd(400)
    shapes[np.random.default_rng(1).random(shapes.shape) < 0.2] = np.nan
    assert not examine(shapes).outliers
    row = next(row for row in range(400) if np.isfinite(shapes[row]).sum() >= 8 and np.isfinite(shapes[row, 0]))
    shapes[row, 0] += size_of(shapes[row])
    assert [(found.instance, found.keypoint) for found in examine(shapes).outliers] == [(row, 0)]


def test_a_tenth_of_faulty_instances_hides_none_of_them() -> None:
    shapes = draw_herd(300)
    for row in range(30):
        shapes[row, row % 10] += 0.7 * size_of(shapes[row]) * np.exp(2j * row)
    assert {(found.instance, found.keypoint) for found in examine(shapes).outliers} == {(r, r % 10) for r in range(30)}


def test_place_size_and_turn_do_not_matter() -> None:
    shapes = draw_herd()
    shapes[4, 1] += size_of(shapes[4])
    rng = np.random.default_rng(2)
    turned = shapes * np.exp(1j * rng.uniform(0, 2 * np.pi, (len(shapes), 1))) * rng.uniform(0.1, 10, (len(shapes), 1))
    for found in (examine(shapes), examine(turned - 1000)):
        assert [(outlier.instance, outlier.keypoint) for outlier in found.outliers] == [(4, 1)]


def test_the_mean_shape_is_laid_over_every_instance() -> None:
    shapes = draw_herd(noise=0.01)
    found = examine(shapes)
    sizes = np.array([size_of(shape) for shape in shapes])
    assert (np.abs(found.placed - shapes).max(axis=1) / sizes).max() < 0.1


def test_few_instances_or_keypoints_say_nothing() -> None:
    assert learn_shapes(draw_herd(MIN_INSTANCES - 1), PARTNERS) is None
    two = draw_herd()
    two[:, 2:] = np.nan
    assert learn_shapes(two, PARTNERS) is None


def test_of_three_keypoints_none_is_blamed() -> None:
    shapes = draw_herd()[:, [0, 1, 2]]
    shapes[7, 1] += 2 * size_of(shapes[7])
    examiner = learn_shapes(shapes, [0, 1, 2])
    assert examiner is not None
    found = examiner.examine(shapes)
    assert not found.outliers
    assert found.unusual == [7]


def test_a_keypoint_that_hardly_occurs_is_left_out() -> None:
    shapes = draw_herd()
    shapes[5:, 0] = np.nan
    examiner = learn_shapes(shapes, PARTNERS, EDGES)
    assert examiner is not None
    assert np.isnan(examiner.mean[0])
    assert np.isfinite(examiner.mean[1:]).all()
    assert np.isnan(examiner.examine(shapes).aligned[:, 0]).all()


def test_equal_points_do_no_harm() -> None:
    shapes = draw_herd()
    shapes[3] = 10 + 10j
    assert not [found for found in examine(shapes).outliers if found.instance != 3]


def test_instances_may_be_examined_some_at_a_time() -> None:
    shapes = draw_herd()
    shapes[3, 0] += size_of(shapes[3])
    shapes[150, [2, 3]] = shapes[150, [3, 2]]
    examiner = learn_shapes(shapes, PARTNERS, EDGES)
    assert examiner is not None
    whole, parts = examiner.examine(shapes), [examiner.examine(part) for part in np.split(shapes, 4)]
    np.testing.assert_array_equal(whole.placed, np.concatenate([part.placed for part in parts]))
    assert [found.instance for part in parts for found in part.outliers] == [3]
    assert [found.instance for found in whole.outliers] == [3]
    assert [found.instance for found in whole.exchanges] == [150]
    assert [[found.instance for found in part.exchanges] for part in parts] == [[], [], [], [0]]
