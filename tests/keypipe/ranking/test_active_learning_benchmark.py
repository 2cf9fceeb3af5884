"""The benchmark of choosing images: every way sees the same, goes on after a stop, and is told with its interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.active_learning import (
    RESULTS,
    WAYS,
    Budget,
    Cell,
    format_table,
    learn_examiners,
    list_cells,
    read_rows,
    summarise,
)
from keypipe.demo.scene import SCHEMA
from keypipe.keypoints.skeleton import parse_schema
from tests.keypipe.gate.models import draw_truth

BUDGET = Budget(20, 20, 40, 128)


def test_every_training_comes_after_the_one_that_chooses_its_images() -> None:
    cells = list(list_cells(["demo", "setsquare"], [0, 1], 3))
    assert len(cells) == len(set(cells)) == 2 * 2 * (1 + 3 * len(WAYS))
    for index, cell in enumerate(cells):
        assert (cell.before is None) == (cell.way == "start")
        if cell.before is not None:
            assert cells.index(cell.before) < index
            assert cell.before.way == ("start" if cell.round == 1 else cell.way)


def row(cell: Cell, ap: float, budget: Budget = BUDGET) -> dict[str, Any]:
    return {"cell": list(cell), "budget": list(budget), "images": 40, "test": {"AP": ap, "within": ap / 2}}


def test_rows_of_another_budget_and_torn_lines_are_passed_over(tmp_path: Path) -> None:
    mine, other = Cell("demo", 0, 1, "random"), Cell("demo", 1, 1, "random")
    lines = [json.dumps(row(mine, 0.5)), json.dumps(row(other, 0.5, Budget(5, 5, 1, 64))), '{"cell": ["demo"']
    (tmp_path / RESULTS).write_text("\n".join(lines))
    assert list(read_rows(tmp_path, BUDGET)) == [mine]
    assert (tmp_path / RESULTS).read_text().count("\n") == 2  # the next row begins a line of its own
    assert read_rows(tmp_path / "none", BUDGET) == {}


def test_the_difference_from_random_is_paired_and_has_its_interval() -> None:
    figures = {"random": [0.50, 0.40, 0.60], "ranking": [0.56, 0.44, 0.65], "uncertainty": [0.50, 0.40, 0.60]}
    rows = {
        Cell("demo", seed, 1, way): row(Cell("demo", seed, 1, way), ap)
        for way, values in figures.items()
        for seed, ap in enumerate(values)
    }
    lines = {line["way"]: line for line in summarise(rows)}
    assert lines["ranking"]["AP_difference"] == pytest.approx(0.05)
    assert lines["ranking"]["AP_half"] == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-3)  # t of two degrees of freedom
    assert lines["uncertainty"]["AP_difference"] == 0
    assert "+0.050 ± 0.025" in format_table(list(lines.values()))
    del rows[Cell("demo", 2, 1, "random")]
    assert {line["seeds"] for line in summarise(rows)} == {2}  # those that all ways have


def test_shapes_are_learnt_from_what_is_labelled_alone() -> None:
    truth = draw_truth(80)
    schema = parse_schema(SCHEMA)
    if truth.categories[0].keypoints != list(schema.classes["cow"].keypoints):
        names = {"classes": {item.name: {"keypoints": item.keypoints, "pairs": []} for item in truth.categories}}
        schema = parse_schema(names)
    assert learn_examiners(truth, range(3), schema) == {}
    assert learn_examiners(truth, range(80), schema)
