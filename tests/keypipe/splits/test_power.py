from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from keypipe.evaluation.keypoint_errors import CLOSE_SHARE, pck_name
from keypipe.gate.comparison import measure, score
from keypipe.gate.noninferiority import find_levels
from keypipe.splits.power import (
    AP,
    CLOSE,
    JOINT_POWER,
    LEVEL,
    MIN_GROUPS,
    SHIPPED_MARGINS,
    TYPICAL_SPREADS,
    decidable_margin,
    find_power,
    groups_needed,
)
from tests.keypipe.gate.models import draw_truth, images_of, sigmas_of
from tests.keypipe.gate.test_noninferiority import pulls_of


def test_more_groups_and_less_spread_decide_smaller_margins() -> None:
    margins = [decidable_margin(0.15, n_groups) for n_groups in (36, 100, 400, 1600)]
    assert margins == sorted(margins, reverse=True)
    assert decidable_margin(0.1, 100) < decidable_margin(0.2, 100)


@pytest.mark.parametrize("spread", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("margin", [0.01, 0.02, 0.1])
def test_the_number_that_is_needed_decides_the_margin(spread: float, margin: float) -> None:
    n_groups = groups_needed(spread, margin)
    assert n_groups is not None
    assert decidable_margin(spread, n_groups) <= margin
    assert n_groups == MIN_GROUPS or decidable_margin(spread, n_groups - 1) > margin


def test_no_number_decides_a_margin_of_nothing() -> None:
    assert groups_needed(0.2, 1e-5) is None
    assert groups_needed(0.001, 0.5) == MIN_GROUPS


def test_an_equal_challenger_passes_as_often_as_was_said() -> None:
    spread, margin = 0.15, 0.05
    n_groups = groups_needed(spread, margin, power=0.8)
    assert n_groups is not None
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(500):
        values = rng.normal(0, spread, n_groups)
        passed += find_levels(np.array([-margin]), np.array([values.mean()]), pulls_of(values), 0).above[0] <= LEVEL
    assert 0.75 < passed / 500 < 0.85


def test_it_is_said_beforehand() -> None:
    margins = {AP: 0.02, CLOSE: 0.02}
    needed = max(groups_needed(TYPICAL_SPREADS[name], 0.02, JOINT_POWER) or 0 for name in margins)
    assert dict(SHIPPED_MARGINS) == margins
    found = find_power(36, "image")
    demo = found.text
    assert found.decides == {name: decidable_margin(TYPICAL_SPREADS[name], 36, JOINT_POWER) for name in (AP, CLOSE)}
    assert f"{decidable_margin(TYPICAL_SPREADS[AP], 36, JOINT_POWER):.3f} of {AP}" in demo
    assert demo.endswith(f"; 0.02 would want about {needed} images")
    assert "want" not in find_power(needed, "image", margins).text
    assert "below 20 the gate decides nothing" in find_power(19, "group", margins).text
    assert "more than any test split has" in find_power(30, "image", {AP: 1e-6}).text


def test_the_headlines_are_called_as_the_evaluation_calls_them() -> None:
    assert pck_name(CLOSE_SHARE) == CLOSE
    assert AP in measure(score(draw_truth(8), [], sigmas_of(draw_truth(8)), 0.25), images_of(draw_truth(8))).names


def test_asking_for_the_rules_loads_no_scipy() -> None:
    code = "import sys, keypipe.gate.rules; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
