"""Drift is found where there is some, hardly where there is none, and units count instead of frames."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keypipe.drift.comparison import Comparison, compare, holm, permute, places_among
from keypipe.drift.features import Feature, extract_features
from keypipe.drift.rows import Row
from tests.keypipe.drift.samples import SCHEMA, make_rows, number


def compared(reference: list[Row], window: list[Row], seed: int = 0, **rules: float) -> Comparison:
    before, now = number(reference), number(window)
    settings = {"alpha": 0.01, "effect": 0.33} | rules
    return compare(
        extract_features(reference, before, SCHEMA, {}),
        extract_features(window, now, SCHEMA, {}),
        len(set(before)),
        len(set(now)),
        seed=seed,
        permutations=4999,
        **settings,  # type: ignore[arg-type]
    )


def test_lower_scores_are_an_alarm_that_names_them() -> None:
    found = compared(make_rows(60, 1), make_rows(40, 2, score=0.7))
    assert found.alarm
    names = {item.name for item in found.clear()}
    assert names == {"best", "cow/score"}
    (score,) = [item for item in found.clear() if item.name == "cow/score"]
    assert score.question == "level"
    assert score.effect < -0.7
    assert score.window < score.reference


def test_keypoints_elsewhere_in_the_box_are_an_alarm() -> None:
    found = compared(make_rows(60, 1), make_rows(40, 2, shift=0.05))
    assert {item.name for item in found.clear("geometry")} == {
        f"cow/{name}/y" for name in SCHEMA.classes["cow"].keypoints
    }
    assert not found.clear("outputs", "pixels")


def test_other_pixels_alone_are_told_and_are_no_alarm() -> None:
    found = compared(make_rows(60, 1), make_rows(40, 2, brightness=0.3))
    assert {item.name for item in found.clear()} == {"brightness"}
    assert not found.alarm


def test_more_spread_scores_are_found_though_their_level_is_the_same() -> None:
    found = compared(make_rows(80, 1, spread=0.0, score=0.6), make_rows(80, 2, spread=0.15, score=0.6))
    assert ("cow/score", "spread") in {(item.name, item.question) for item in found.clear()}
    assert ("cow/score", "level") not in {(item.name, item.question) for item in found.clear()}


def test_a_difference_that_is_significant_and_small_is_no_alarm() -> None:
    found = compared(make_rows(400, 1), make_rows(400, 2, score=0.78))
    (score,) = [item for item in found.differences if (item.name, item.question) == ("cow/score", "level")]
    assert score.adjusted < 0.01
    assert abs(score.effect) < 0.33
    assert not found.alarm


def test_frames_of_few_videos_are_not_taken_for_independent_witnesses() -> None:
    """Two samples of 12 videos whose scores differ by video: frame by frame they would nearly always differ."""
    alarms = 0
    for seed in range(20):
        before = make_rows(12, 2 * seed, per_group=30, spread=0.1)
        now = make_rows(12, 2 * seed + 1, per_group=30, spread=0.1)
        alarms += compared(before, now, seed).alarm
    assert alarms <= 1


def test_hours_of_many_images_beside_single_images_are_no_drift() -> None:
    """The means of large units vary less than those of single images; that alone must not alarm."""
    alarms = sum(compared(make_rows(80, 2 * s), make_rows(12, 2 * s + 1, per_group=25), s).alarm for s in range(20))
    assert alarms <= 1


def test_few_units_tell_nothing() -> None:
    found = compared(make_rows(60, 1), make_rows(4, 2, per_group=20, score=0.3))
    assert not found.enough
    assert not found.differences


def test_permutations_are_as_good_as_welchs_test_where_that_holds() -> None:
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 1, 30), rng.normal(0.7, 2, 50)
    p = permute(np.concatenate([first, second])[:, None], 30, 40_000, 0)[0]
    assert p == pytest.approx(ttest_ind(first, second, equal_var=False).pvalue, rel=0.15)


def test_p_values_are_even_where_nothing_differs_though_units_vary_unlike() -> None:
    rng = np.random.default_rng(4)
    means = np.concatenate([rng.normal(0, 1, (15, 400)), rng.normal(0, 4, (60, 400))])
    p = permute(means, 15, 999, 0)
    assert 0.02 < (p < 0.05).mean() < 0.09


def test_missing_means_are_left_out() -> None:
    rng = np.random.default_rng(5)
    means = rng.normal(0, 1, (60, 1))
    means[:30] += 3
    whole = permute(means, 30, 999, 0)[0]
    means[[3, 4, 40]] = np.nan
    assert permute(means, 30, 999, 0)[0] == whole == 1 / 1000


def test_holm_against_values_worked_out_by_hand() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]


def test_places_among_the_reference_count_units_alike() -> None:
    values, units = np.array([1.0, 1.0, 1.0, 2.0]), np.array([0, 0, 0, 1])
    reference = Feature("", "", "outputs", values, units)
    assert places_among(reference, np.array([0.0, 1.0, 1.5, 2.0, 3.0])).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_effects_are_cliffs_delta() -> None:
    found = compared(make_rows(50, 1, score=0.3), make_rows(50, 2, score=0.9))
    (score,) = [item for item in found.differences if (item.name, item.question) == ("cow/score", "level")]
    assert score.effect == pytest.approx(1.0)
    assert math.isclose(score.reference, 0.3, abs_tol=0.03)
