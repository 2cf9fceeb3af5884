from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from keypipe.gate.noninferiority import RESAMPLES, find_bounds, find_levels, standard_errors, studentise
from keypipe.splits.power import LEVEL


def pulls_of(values: np.ndarray) -> np.ndarray:
    """Return what each group pulls at the mean of some values, one a group."""
    return ((values - values.mean()) / len(values))[:, None]


def test_the_error_of_a_mean_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(0, 3, 50)
    assert standard_errors(pulls_of(values))[0] == pytest.approx(values.std(ddof=1) / np.sqrt(50))


def test_the_ratio_of_a_resample_is_its_own_t() -> None:
    values = np.random.default_rng(1).exponential(1, 30)
    pulls = pulls_of(values)
    rng = np.random.default_rng(9)
    drawn = rng.integers(0, 30, (RESAMPLES, 30))
    samples = values[drawn]
    expected = (samples.mean(1) - values.mean()) / (samples.std(1, ddof=1) / np.sqrt(30))
    np.testing.assert_allclose(studentise(pulls, seed=9)[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_bounds_of_normal_values_are_those_of_student_and_an_unseen_group() -> None:
    values = np.random.default_rng(2).normal(0.1, 1, 4000)
    (bounds,) = find_bounds(np.array([values.mean()]), pulls_of(values), seed=0)
    error = values.std(ddof=1) / np.sqrt(4000)
    wanted = 1 / 4000 + student.ppf(1 - LEVEL, 3999) * np.hypot(error, 1 / 4000)
    assert bounds.low == pytest.approx(values.mean() - wanted, abs=0.1 * error)
    assert bounds.high == pytest.approx(values.mean() + student.ppf(1 - LEVEL, 3999) * error, abs=0.1 * error)


def test_bounds_and_levels_say_the_same() -> None:
    rng = np.random.default_rng(3)
    for n_groups in (25, 80, 300):
        values = -rng.exponential(0.1, n_groups)
        pulls, mean = pulls_of(values), np.array([values.mean()])
        (bounds,) = find_bounds(mean, pulls, seed=0)
        for limit in np.linspace(-0.4, 0.1, 40):
            levels = find_levels(np.array([limit]), mean, pulls, seed=0)
            if bounds.low is not None and abs(limit - bounds.low) > 1e-3:
                assert (levels.above[0] <= LEVEL) == (bounds.low > limit)
            if bounds.high is not None and abs(limit - bounds.high) > 1e-3:
                assert (levels.below[0] <= LEVEL) == (bounds.high < limit)


def test_harm_that_no_image_shows_is_reckoned_with() -> None:
    """Equal predictions on 40 images do not prove that no image in fifty is lost; on 400 they do."""
    for n_groups, proven in ((40, False), (400, True)):
        levels = find_levels(np.array([-0.02]), np.zeros(1), np.zeros((n_groups, 1)), seed=0)
        assert (levels.above[0] <= LEVEL) == proven
        (bounds,) = find_bounds(np.zeros(1), np.zeros((n_groups, 1)), seed=0)
        assert bounds.low is not None
        assert (bounds.low > -0.02) == proven


def test_rare_losses_weigh_more_than_student_gives_them() -> None:
    """One lost image in 200 may be two in a hundred elsewhere: there is a resample without any."""
    values = np.zeros(200)
    values[0] = -1.0
    (bounds,) = find_bounds(np.array([values.mean()]), pulls_of(values), seed=0)
    assert bounds.low is None
    assert find_levels(np.array([-0.02]), np.array([values.mean()]), pulls_of(values), seed=0).above[0] > 0.3


@pytest.mark.parametrize("n_groups", [40, 150])
def test_a_mean_at_the_limit_passes_as_seldom_as_it_should(n_groups: int) -> None:
    rng = np.random.default_rng(4)
    passed = 0
    for _ in range(400):
        values = rng.normal(-0.3, 1, n_groups)
        passed += find_levels(np.array([-0.3]), np.array([values.mean()]), pulls_of(values), seed=0).above[0] <= LEVEL
    assert passed <= 30  # 20 expected, and the unseen group makes it fewer
