from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.annotations.linking.placement import (
    CLEAR_MARGIN,
    MAX_PLACES,
    MIN_PLACES,
    find_plausible_links,
    learn_places,
    placement_costs,
)
from keypipe.keypoints.instances import Instance, Keypoint


def cow(nose: tuple[float, float], box: tuple[float, float, float, float] = (0, 0, 100, 50)) -> Instance:
    return Instance("cow", box, {"nose": Keypoint(*nose)})


def test_places_are_shares_of_the_box_and_too_few_teach_nothing() -> None:
    (places,) = learn_places([cow((20, 30), (10, 10, 30, 50))] * MIN_PLACES).values()
    assert places.tolist() == [[0.5, 0.5]] * MIN_PLACES
    assert learn_places([cow((1, 1))] * (MIN_PLACES - 1)) == {}


def test_many_places_are_thinned_evenly() -> None:
    places = learn_places([cow((index / 10, 0)) for index in range(1000)])["cow", "nose"]
    assert len(places) == MAX_PLACES
    assert places[[0, -1], 0].tolist() == pytest.approx([0.0, 0.999])


def test_both_ends_of_the_box_are_likely_for_an_animal_that_faces_either_way() -> None:
    known = np.array([[0.05, 0.5], [0.95, 0.5]] * 20)
    ends_and_middle = np.array([[5.0, 25.0], [95.0, 25.0], [50.0, 25.0]])
    left, right, middle = placement_costs(ends_and_middle, np.array([[0.0, 0, 100, 50]]), [known])[:, 0]
    assert left == pytest.approx(right)
    assert middle - left > CLEAR_MARGIN


def test_a_small_box_around_a_point_says_more_than_a_large_one() -> None:
    boxes = np.array([[0.0, 0, 100, 100], [40.0, 40, 60, 60]])
    costs = placement_costs(np.array([[50.0, 50.0]]), boxes, [None, None])
    assert costs[0, 0] - costs[0, 1] == pytest.approx(np.log(25))


INF = np.inf


@pytest.mark.parametrize(
    ("costs", "plausible"),
    [
        ([[0, 5], [5, 0]], [[1, 0], [0, 1]]),
        ([[0, 1], [1, 0]], [[1, 1], [1, 1]]),  # swapped it would be only 2 more
        ([[0, 9], [0, 9]], [[1, 1], [1, 1]]),  # which of the two takes the bad one cannot be told
        ([[0, 1.6], [1.6, 0]], [[1, 0], [0, 1]]),  # each alone is unclear, both together are clear
        ([[0, INF], [0, 9]], [[1, 0], [0, 1]]),  # the more links the better, at any cost
        ([[0, 2, 4]], [[1, 1, 0]]),
        ([[0], [2], [4]], [[1], [1], [0]]),
        ([[INF, INF], [0, 4]], [[0, 0], [1, 0]]),
    ],
)
def test_find_plausible_links(costs: list[list[float]], plausible: list[list[int]]) -> None:
    assert find_plausible_links(np.array(costs, dtype=float)).astype(int).tolist() == plausible


@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(st.floats(0, 10), min_size=3, max_size=3), min_size=n)))
def test_plausible_links_are_those_of_assignments_near_the_best(costs: list[list[float]]) -> None:
    table = np.array(costs[:3])
    sums = {
        columns: sum(table[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(3), len(table))
    }
    best = min(sums.values())
    for (point, box), found in np.ndenumerate(find_plausible_links(table)):
        margin = min(total for columns, total in sums.items() if columns[point] == box) - best
        if abs(margin - CLEAR_MARGIN) > 1e-9:
            assert found == (margin < CLEAR_MARGIN)
