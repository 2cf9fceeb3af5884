"""The benchmark's images, its pool that goes on where it was stopped, and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.drift.__main__ import print_table
from benchmarks.drift.pool import PIECE, Pool
from benchmarks.drift.shifts import SIZE_WH, STRENGTHS, draw
from benchmarks.serving.records import Records
from tests.keypipe.drift.samples import SHA, lit_predictor


@pytest.mark.parametrize("kind", ["same", *STRENGTHS])
def test_a_shift_is_the_same_for_its_seed_and_its_objects_lie_in_the_image(kind: str) -> None:
    strength = STRENGTHS[kind][-1] if kind in STRENGTHS else 0.0
    image, truth = draw(kind, strength, 3, 4)
    again, _ = draw(kind, strength, 3, 4)
    assert np.array_equal(image, again)
    assert image.shape == (SIZE_WH[1], SIZE_WH[0], 3)
    assert truth
    for _, (left, top, right, bottom), points in truth:
        assert 0 <= left < right <= SIZE_WH[0]
        assert 0 <= top < bottom <= SIZE_WH[1]
        assert points
    assert draw(kind, strength, 3, 5)[1] == []  # one in eleven shows no animal, as in the demo


def test_shifts_do_what_they_say() -> None:
    plain, truth = draw("same", 0.0, 3, 4)
    dark, same_truth = draw("darkened", 0.25, 3, 4)
    assert dark.mean() == pytest.approx(0.25 * plain.mean(), rel=0.05)
    assert same_truth == truth
    _, moved = draw("rescaled", 0.4, 3, 4)
    for (_, before, _), (_, after, _) in zip(truth, moved, strict=True):
        assert after[2] - after[0] == pytest.approx(0.4 * (before[2] - before[0]), abs=0.01)
    blurred = draw("blurred", 4.0, 3, 4)[0]
    assert np.abs(np.diff(blurred.astype(int), axis=1)).mean() < np.abs(np.diff(plain.astype(int), axis=1)).mean() / 2


def test_a_pool_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    lit_predictor(tmp_path / "model.onnx")
    rows, truth = Pool(tmp_path / "pool", tmp_path / "model.onnx", SHA).get("darkened", 0.7, PIECE, 1)
    assert (len(rows), len(truth), rows[0].sha256) == (PIECE, PIECE, SHA)
    (tmp_path / "model.onnx").unlink()  # what is there is not predicted on again
    again, _ = Pool(tmp_path / "pool", tmp_path / "model.onnx", SHA).get("darkened", 0.7, PIECE, 1)
    assert again == rows


def test_the_table_has_a_line_for_each_strength_and_exact_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = Records(tmp_path / "drift.jsonl")
    values: dict[str, Any] = {
        "found": 1.5,
        "expected": 0.9,
        "low": 0.85,
        "high": 0.95,
        "true": 0.88,
        "kept_back": False,
    }
    for number in range(20):
        kind = "drift" if number == 0 else "steady"
        records.add("same", f"0-{number}", {"strength": 0.0, "kind": kind, **values})
    records.add("darkened", "0.7-0", {"strength": 0.7, "kind": "drift", **values, "kept_back": True})
    print_table(Records(tmp_path / "drift.jsonl"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("false alarms: 1 of 20 (5.0%; exact 95 % bounds 0.1% to 24.9%)")
    assert "| same |  | 1 of 20 | 0 of 20 | 1.50 | 0.900 | 0.880 | 0.020 | 0 of 20 | 20 of 20 |" in lines
    assert "| darkened | 0.7 of the brightness | 1 of 1 | 0 of 1 | 1.50 | 0.900 | 0.880 | 0.020 | 1 of 1 | – |" in lines
