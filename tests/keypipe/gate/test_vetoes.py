from __future__ import annotations

import itertools

import numpy as np
import pytest

from keypipe.gate.comparison import Comparison, compare, measure
from keypipe.gate.vetoes import LEVEL, Veto, correct_by_holm, find_vetoes, flip_signs
from keypipe.keypoints.boxes import Array
from keypipe.splits.power import HEADLINES
from tests.keypipe.gate.models import draw_truth, images_of, scored


@pytest.mark.parametrize(
    ("ps", "worse"),
    [
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),  # S. Holm's steps: 0.0125, 0.0167, 0.025, 0.05
        ([0.04, 0.04], [False, False]),
        ([0.04, 0.02], [True, True]),
        ([0.05], [True]),
        ([], []),
    ],
)
def test_holm(ps: list[float], worse: list[bool]) -> None:
    assert correct_by_holm(np.array(ps), 0.05).tolist() == worse


def test_flips_are_those_of_every_sign() -> None:
    shares = np.array([-0.5, -0.2, -0.4, 0.1, -0.3, 0.05, -0.1, -0.2])
    sums = [float(np.dot(signs, shares)) for signs in itertools.product((-1, 1), repeat=len(shares))]
    exact = np.mean([value <= shares.sum() + 1e-9 for value in sums])
    assert flip_signs(shares[:, None], seed=0)[0] == pytest.approx(exact, abs=0.01)


def test_equal_groups_are_no_sign_of_anything() -> None:
    assert flip_signs(np.zeros((30, 1)), seed=0)[0] == 1.0


def find(thrown: dict[str, float], n_images: int, veto_drop: float = 0.02) -> dict[str, Veto]:
    truth = draw_truth(n_images)
    units = images_of(truth)
    comparison = compare(
        measure(scored(truth, seed=1, thrown=thrown), units),
        measure(scored(truth, seed=2), units),
    )
    names = [name for name in comparison.names if name not in HEADLINES]
    return {item.name: item for item in find_vetoes(comparison, names, veto_drop, seed=0)}


def test_a_keypoint_that_fell_is_vetoed_and_no_other() -> None:
    vetoes = find({"nose": 0.15}, 200)
    assert [name for name, veto in vetoes.items() if veto.vetoed] == ["cow nose"]
    assert vetoes["cow nose"].champion - vetoes["cow nose"].challenger > 0.08
    assert 0.02 < vetoes["cow nose"].detectable < 0.15


def test_a_loss_is_weighed_against_what_counts() -> None:
    lost = {"nose": 0.2}
    assert find(lost, 400)["cow nose"].vetoed
    veto = find(lost, 400, veto_drop=0.18)["cow nose"]
    assert veto.champion - veto.challenger > 0.18  # seen, and yet not shown
    assert not veto.vetoed
    assert veto.detectable > find(lost, 400)["cow nose"].detectable


def test_a_loss_of_what_just_counts_is_seldom_vetoed() -> None:
    """Every keypoint loses exactly what does not count yet."""
    rng = np.random.default_rng(8)
    vetoed = 0
    for _ in range(300):
        differences: Array = (rng.random((150, 6)) < 0.05).astype(float) * -1 / 150
        names = tuple(f"cow k{index}" for index in range(6))
        sums = differences.sum(0)
        comparison = Comparison(names, np.zeros(6), sums, differences - sums / 150)
        vetoed += any(item.vetoed for item in find_vetoes(comparison, names, 0.05, seed=0))
    assert vetoed / 300 <= LEVEL + 0.025  # two standard errors


def test_three_groups_are_too_few_for_a_veto_however_the_bounds_lie() -> None:
    """Three losses and no gain come up by chance once in eight times."""
    differences: Array = np.zeros((25, 1))
    differences[:3] = -1 / 25
    sums = differences.sum(0)
    comparison = Comparison(("cow nose",), np.zeros(1), sums, differences - sums / 25)
    (veto,) = find_vetoes(comparison, ["cow nose"], 0.0, seed=0)
    assert veto.p == pytest.approx(1 / 8, abs=0.02)
    assert not veto.vetoed


def test_a_class_is_looked_at_by_its_ap() -> None:
    truth = draw_truth(300, {"cow": ["nose", "tail"], "calf": ["head", "hoof"]})
    units = images_of(truth)
    worse = scored(truth, seed=1, thrown={"head": 0.3, "hoof": 0.3})
    comparison = compare(measure(worse, units), measure(scored(truth, seed=2), units))
    vetoes = {item.name: item.vetoed for item in find_vetoes(comparison, ["cow", "calf"], 0.02, seed=0)}
    assert vetoes == {"cow": False, "calf": True}


def test_equal_models_are_seldom_vetoed() -> None:
    rng = np.random.default_rng(6)
    vetoed = 0
    for _ in range(400):
        differences: Array = rng.choice([-0.02, -0.01, 0, 0, 0, 0.01, 0.02], (60, 13))
        sums = differences.sum(0)
        names = tuple(f"cow k{index}" for index in range(13))
        comparison = Comparison(names, np.zeros(13), sums, differences - sums / 60)
        vetoed += any(item.vetoed for item in find_vetoes(comparison, names, 0.0, seed=0))
    assert vetoed / 400 <= LEVEL + 0.022  # two standard errors
