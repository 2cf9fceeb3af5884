"""The benchmark's models have the difference that they should have, and its file of draws goes on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks import gate
from benchmarks.gate_models import HARMS, Model, Population, Seen, harm_to, make_error
from keypipe.gate.comparison import measure, score
from keypipe.splits.power import AP, CLOSE
from tests.keypipe.gate.models import draw_truth, images_of, see, sigmas_of


@pytest.fixture(scope="module")
def population() -> Population:
    truth = draw_truth(300)
    return Population(Seen(truth, [see(truth, 16, seed=1), see(truth, 14, seed=2)]))


def whole(population: Population, training: int) -> Model:
    return Model(population, np.full(population.n_images, training))


def test_a_model_without_error_has_the_figures_of_its_training(population: Population) -> None:
    truth = draw_truth(300)
    measures = measure(score(truth, see(truth, 14, seed=2), sigmas_of(truth), 0.0), images_of(truth))
    expected = dict(zip(measures.names, measures.values, strict=True))
    figures = whole(population, 1).figures()
    assert figures[0] == pytest.approx(expected[AP], abs=0.005)
    assert figures[1] == pytest.approx(expected[CLOSE])


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("column", [0, 1])
def test_an_error_brings_a_figure_where_it_should_be(population: Population, harm: str, column: int) -> None:
    model = whole(population, 1)
    target = model.figures()[column] - 0.05
    reached = harm_to(model, make_error(population, harm, 3), column, target)
    assert reached == (abs(model.figures()[column] - target) < 0.002)
    assert reached or harm == "groups"  # of which there are few here


def test_images_that_are_drawn_twice_count_twice(population: Population) -> None:
    model = whole(population, 0)
    images = np.array([5, 7, 5])
    table = model.score_on(images).tables[0]
    counts = np.bincount(table.image, minlength=3)
    assert counts[0] == counts[2] == population.objects[5]
    np.testing.assert_array_equal(
        table.distance_diagonals[table.image == 0], table.distance_diagonals[table.image == 2]
    )


def test_every_split_is_promoted_rejected_or_undecided(population: Population) -> None:
    cell = gate.Cell("rates", "image", 60, "apart", "all", 0, -2.0)
    counts = gate.run_pair(population, cell, 0, 20)
    assert counts is not None
    assert counts["truth"][0] == pytest.approx(-0.04, abs=0.002)
    assert counts.get("promoted", 0) + counts.get("rejected", 0) <= counts["draws"] == 20
    groups = gate.run_pair(population, cell._replace(part="margin", unit="group", size=25), 0, 5)
    assert groups is not None
    struck = gate.run_pair(population, gate.Cell("vetoes", "image", 200, "near", "keypoint", 1, -10.0), 0, 5)
    assert struck is not None
    assert struck["vetoed rightly"] == 5


def test_a_better_model_is_shown_better_and_an_equal_one_seldom(population: Population) -> None:
    cell = gate.Cell("superior", "image", 400, "apart", "all", 0, 4.0)
    better = gate.run_pair(population, cell, 0, 10)
    equal = gate.run_pair(population, cell._replace(margins=0.0), 0, 20)
    assert better is not None
    assert equal is not None
    assert better["truth"][0] == pytest.approx(0.08, abs=0.004)
    assert equal["truth"][0] == pytest.approx(0.0, abs=0.004)
    assert better["promoted"] > 7
    assert equal.get("promoted", 0) <= 4


def test_the_rule_against_creep_keeps_a_history_at_least_as_high(population: Population) -> None:
    library = gate.make_library(population, 60)
    below = {
        with_rule: sum(gate.live_history(library, 300, 1.25, with_rule, seed)["below"] for seed in range(4))
        for with_rule in (False, True)
    }
    assert below[True] <= below[False]


def test_draws_go_on_after_a_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "draws.jsonl"
    draws = gate.Draws(path)
    cell = list(gate.Cell("margin", "image", 50, "near", "all", 0, -1.0))
    draws.add(
        "margin", cell, 0, {"draws": 50, "truth": [-0.02, -0.01], "spread": [0.1, 0.1], f"passed {gate.LEVEL}": 2}
    )
    with path.open("a") as file:
        file.write('{"part": "margin", "cell": [')  # killed while it wrote
    again = gate.Draws(path)
    assert again.has("margin", cell, 0)
    assert not again.has("margin", cell, 1)
    again.add(
        "margin", cell, 1, {"draws": 50, "truth": [-0.02, -0.01], "spread": [0.1, 0.1], f"passed {gate.LEVEL}": 1}
    )
    assert [json.loads(line)["pair"] for line in path.read_text().splitlines()] == [0, 1]
    gate.print_tables(again)
    low, high = gate.interval(3, 100)
    assert f"| 50 | near | 3.0 ({100 * low:.1f} to {100 * high:.1f})" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "total"), [(0, 1000), (3, 100), (50, 1000), (20, 20)])
def test_bounds_are_exact(count: int, total: int) -> None:
    expected = binomtest(count, total).proportion_ci(0.95, "exact")
    assert gate.interval(count, total) == pytest.approx((expected.low, expected.high))
