from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.evaluation.oks import compute_oks, keypoint_distances

coordinate = st.floats(0, 100, allow_nan=False)


@given(st.lists(st.tuples(coordinate, coordinate, st.integers(0, 2)), min_size=1, max_size=5), st.floats(1, 1e4))
def test_oks_is_one_for_the_truth_and_falls_with_distance(points: list[tuple[float, float, int]], area: float) -> None:
    truth = np.array(points, dtype=float)
    sigmas = np.full(len(points), 0.1)
    value = compute_oks(truth, truth[:, :2], np.array(area), sigmas)
    if not (truth[:, 2] > 0).any():
        assert np.isnan(value)
        return
    assert value == pytest.approx(1)
    near, far = (compute_oks(truth, truth[:, :2] + shift, np.array(area), sigmas) for shift in (1.0, 5.0))
    assert 0 <= far <= near < 1


def test_oks_by_hand() -> None:
    truth = np.array([[10.0, 10.0, 2], [20.0, 20.0, 0]])
    value = compute_oks(truth, np.array([[13.0, 14.0], [0.0, 0.0]]), np.array(100.0), np.array([0.1, 0.1]))
    assert value == pytest.approx(math.exp(-25 / (2 * 100 * 0.2**2)))
    assert np.isnan(keypoint_distances(truth, truth)[1])
