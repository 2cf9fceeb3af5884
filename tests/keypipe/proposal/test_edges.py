from __future__ import annotations

import numpy as np

from keypipe.proposal.edges import measure_distances, propose_edges


def test_a_chain_is_found_whatever_its_place_size_and_turn() -> None:
    rng = np.random.default_rng(0)
    chain = np.array([0, 1, 2 + 0.3j, 3, 4])
    turns = rng.uniform(1, 50, 40) * np.exp(1j * rng.uniform(0, 2 * np.pi, 40))
    points = turns[:, None] * chain + rng.uniform(0, 500, (40, 1)) * (1 + 1j)
    points[::3, 2] = np.nan
    assert propose_edges(points, np.arange(5)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_legs_that_lie_near_each_other_are_not_joined() -> None:
    # neck, left and right knee, left and right hoof: the legs swing past each other
    rng = np.random.default_rng(1)
    swing = rng.uniform(-0.3, 0.3, (200, 2))
    knees = 1j + swing
    hooves = 2j + 2 * swing
    points = np.column_stack([np.zeros(200), knees, hooves]) * 30
    partners = np.array([0, 2, 1, 4, 3])
    assert propose_edges(points, partners) == [(0, 1), (0, 2), (1, 3), (2, 4)]
    without_pairs = propose_edges(points, np.arange(5))
    assert (1, 2) in without_pairs  # which is why pairs count


def test_keypoints_that_are_never_there_together_are_not_joined() -> None:
    points = np.full((10, 3), np.nan + 0j)
    points[:5, :2] = [0, 10]
    points[5:, 2] = 3
    assert propose_edges(points, np.arange(3)) == [(0, 1)]
    assert propose_edges(points[:, :1], np.arange(1)) == []
    assert propose_edges(np.empty((0, 3), complex), np.arange(3)) == []


def test_keypoints_on_one_spot_are_joined() -> None:
    points = np.tile(np.array([0, 0, 10 + 0j]), (5, 1))
    assert (0, 1) in propose_edges(points, np.arange(3))


def test_distances_are_in_sizes_of_the_object() -> None:
    points = np.array([[0, 6, 3 + 0j]]) * np.array([[1], [7]])
    size = np.sqrt((9 + 9 + 0) / 3)
    assert np.allclose(measure_distances(points)[0], [0, 6 / size, 3 / size])
