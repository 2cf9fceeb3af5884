"""The benchmark of warm starts trains every cell once, goes on after a stop, and says what the steps come to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import warm_start
from keypipe.dataset.coco import format_coco, parse_coco
from tests.keypipe.gate.models import draw_truth


def test_quarters_grow_by_the_same_images(tmp_path: Path) -> None:
    path = tmp_path / warm_start.TRAIN
    path.parent.mkdir(parents=True)
    kept: list[set[str]] = []
    for quarters in warm_start.QUARTERS:
        path.write_bytes(format_coco(draw_truth(30)))
        assert warm_start.take_quarters(tmp_path, quarters, seed=3) == [8, 15, 23, 30][quarters - 1]
        part = parse_coco(path.read_bytes())
        kept.append({image.file_name for image in part.images})
        assert {item.image_id for item in part.annotations} <= {image.id for image in part.images}
    assert kept[0] < kept[1] < kept[2] < kept[3]


def test_every_training_comes_after_the_one_whose_weights_it_starts_from() -> None:
    cells = list(warm_start.list_cells(["demo"], [0], 20, 128))
    assert len(cells) == len(set(cells)) == 10
    for index, cell in enumerate(cells):
        assert (cell.before is None) == (cell.way == "cold")
        if cell.before is not None:
            assert cells.index(cell.before) < index
            assert cell.before.quarter == cell.quarter - 1
            assert cell.before.way == (cell.way if cell.quarter > 2 else "cold")
    assert {cell.trained_epochs for cell in cells} == {20, 10}


def row(way: str, quarter: int, val: list[float]) -> dict[str, object]:
    cell = warm_start.Cell("demo", 4, 128, 0, quarter, way)
    return {
        **cell._asdict(),
        "images": 84,
        "test_images": 48,
        "steps_an_epoch": 6,
        "seconds": 10.0,
        "val_AP": val,
        "val_within": val,
        "test": {"AP": 0.5, "AP50": 0.9, "within": 0.8},
    }


def test_steps_saved_are_those_to_the_best_of_the_cold_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("cold", 2, [0.1, 0.2, 0.4, 0.3]), row("warm", 2, [0.35, 0.45, 0.4, 0.4])]
    rows.append(row("warm, half the epochs", 2, [0.35, 0.38]))
    lines = [json.dumps(item) + "\n" for item in rows]
    (tmp_path / warm_start.RESULTS).write_text("".join(lines) + '{"data": "de')  # killed while it wrote
    read = warm_start.read_rows(tmp_path)
    assert read == rows
    assert (tmp_path / warm_start.RESULTS).read_text() == "".join(lines)
    warm_start.print_table(read)
    cold, warm, half = capsys.readouterr().out.splitlines()[2:]
    assert cold.endswith("| 24 | 0.500 | 0.800 | 0.400 | 18 |  |")
    assert warm.endswith("| 24 | 0.500 | 0.800 | 0.450 | 12 | 33% |")
    assert half.endswith("| 12 | 0.500 | 0.800 | 0.380 | never |  |")


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_the_benchmark_trains_each_cell_once(tmp_path: Path) -> None:
    cold = warm_start.Cell("demo", 1, 64, 0, 1, "cold")
    cells = [cold, cold._replace(quarter=2, way="warm")]
    rows = [warm_start.run_cell(tmp_path, cell) for cell in cells]
    assert warm_start.read_rows(tmp_path) == rows
    assert [item["images"] for item in rows] == [42, 84]
    assert warm_start.estimate(tmp_path, cells, rows) > 0
