"""The benchmark of recipes deals into folds, trains every cell once, and compares in pairs."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from benchmarks.beetles import KEYPOINT_NAMES, SCHEMA, write_beetles
from benchmarks.few_images import cells, comparison
from benchmarks.few_images.cells import Cell
from benchmarks.few_images.recipes import EPOCHS, MIRRORED, RECIPES, SHIPPED
from benchmarks.loss_sigma import measure
from benchmarks.trainings import PROTOCOLS
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.dataset.coco import format_coco
from keypipe.evaluation.matching import Detection
from keypipe.keypoints.skeleton import parse_schema
from tasks.train import TrainParams
from tests.keypipe.gate.models import draw_truth, see

CELL = Cell("beetles", 600, 0, 1, "light")


def test_every_recipe_is_one_that_the_stage_takes() -> None:
    assert RECIPES[SHIPPED] == {}
    for name, values in RECIPES.items():
        arguments = {**PROTOCOLS["demo"].arguments, **values}
        assert TrainParams.model_validate(arguments), name
        assert TrainParams.find_problems(arguments) == {}, name
    assert set(EPOCHS) | set(MIRRORED.values()) <= set(RECIPES)
    assert not set(MIRRORED) & set(RECIPES)


def test_recipes_see_each_image_equally_often_unless_they_say_so() -> None:
    assert cells.count_epochs(CELL, 160) == cells.count_epochs(CELL._replace(recipe="batch 8"), 160) == 60
    assert cells.count_epochs(CELL._replace(recipe="yolo26 in equal time"), 160) == 42
    assert cells.count_epochs(CELL._replace(steps=1), 160) == 1


def test_mirrored_images_are_looked_at_where_a_training_has_seen_them() -> None:
    found = list(cells.list_cells(["demo", "setsquare"], [600], [0], [1], [SHIPPED, "mirrored"]))
    assert [(cell.data, cell.recipe) for cell in found] == [
        ("demo", SHIPPED),
        ("demo", "mirrored"),
        ("setsquare", SHIPPED),
    ]


def test_the_recipes_of_a_fold_follow_one_another() -> None:
    found = list(cells.list_cells(["demo", "mos"], [600, 1800], [0], [1, 2], [SHIPPED, "light"]))
    assert len(found) == len(set(found)) == 16
    assert [(cell.data, cell.fold, cell.recipe) for cell in found[:3]] == [
        ("demo", 1, SHIPPED),
        ("demo", 1, "light"),
        ("demo", 2, SHIPPED),
    ]


def test_rows_of_a_recipe_that_has_changed_are_left_out_and_so_is_half_a_line(tmp_path: Path) -> None:
    rows = [
        {"cell": list(CELL), "parameters": RECIPES["light"]},
        {"cell": list(CELL._replace(recipe=SHIPPED)), "parameters": {"scale": 0.3}},
        {"cell": list(CELL._replace(recipe="gone")), "parameters": {}},
        {"cell": list(CELL._replace(recipe="mirrored")), "parameters": {}},
    ]
    path = tmp_path / cells.RESULTS
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"cell": ["dem')
    assert cells.read_rows(tmp_path) == {CELL: rows[0]}
    assert path.read_text().endswith("}\n")


def test_what_is_measured_is_what_the_evaluation_says_and_weights_are_copies() -> None:
    truth = draw_truth(12)
    detections = see(truth, seed=1)
    weighed = comparison.weigh(truth, detections)
    found = measure(truth, detections)
    ones = np.ones(12, dtype=np.int64)
    assert weighed.measure(ones) == pytest.approx([found[name] for name in comparison.FIGURES])
    assert weighed.measure(3 * ones) == pytest.approx(weighed.measure(ones))
    assert np.isnan(weighed.measure(0 * ones)).all()


def test_a_recipe_is_compared_on_the_folds_that_both_have(tmp_path: Path) -> None:
    rows = {}
    (tmp_path / "found").mkdir()
    for fold in (1, 2, 3):
        truth = draw_truth(10 + fold)
        (tmp_path / f"found/beetles-{fold}.truth.json").write_bytes(format_coco(truth))
        for recipe, error in ((SHIPPED, 25.0), ("light", 10.0)):
            cell = CELL._replace(fold=fold, recipe=recipe)
            if (fold, recipe) == (3, SHIPPED):
                continue
            detections: list[Detection] = see(truth, error, seed=fold)
            (tmp_path / f"found/{cell.name}.json").write_bytes(msgspec.json.encode(detections))
            seconds = 30.0 if recipe == "light" else 20.0
            rows[cell] = {"held_out": len(truth.images), "processor_seconds": seconds, **measure(truth, detections)}
    lines = {line["figure"]: line for line in comparison.compare(tmp_path, rows, draws=100)}
    assert set(lines) == {"AP", "AP50", "within"}
    line = lines["AP"]
    assert (line["trainings"], line["images"], line["better"]) == (2, 11 + 12, 2)
    mean = np.mean([rows[CELL._replace(fold=fold)]["AP"] for fold in (1, 2)])
    assert line["value"][0] == pytest.approx(mean)
    assert line["difference"][0] == pytest.approx(line["value"][0] - line["base"][0])
    value, low, high = line["difference"]
    assert 0 < low < value < high
    table = comparison.format_table(list(lines.values()))
    assert f"| beetles | 600 | light | AP | 2 | {line['base'][0]:.3f} |" in table
    assert "| 2 of 2 | 1.50 |" in table
    del rows[CELL._replace(recipe=SHIPPED)]["processor_seconds"]
    assert comparison.compare(tmp_path, rows, draws=10)[0]["time"] is None, "rows of before say nothing of it"


def test_a_recipe_that_is_the_same_differs_by_nothing() -> None:
    truth = draw_truth(10)
    weighed = comparison.weigh(truth, see(truth, seed=1))
    first, second = comparison.draw([(1, weighed)], 50), comparison.draw([(1, weighed), (1, weighed)], 50)
    assert np.allclose(first, second), "the same draws for all models of a fold"
    other = comparison.draw([(2, weighed)], 50)
    assert np.array_equal(first[0], other[0])
    assert not np.allclose(first[1:], other[1:]), "folds of one size are drawn apart"


def test_beetles_are_the_same_every_time_and_as_they_are_annotated(tmp_path: Path) -> None:
    write_beetles(tmp_path / "first", 8)
    write_beetles(tmp_path / "second", 5)
    for path in (tmp_path / "second").iterdir():
        assert path.read_bytes() == (tmp_path / "first" / path.name).read_bytes()
    read = read_folder(tmp_path / "first", parse_schema(SCHEMA), LabelmeOptions(), processes=1)
    assert (read.faults, read.unlabelled, dict(read.ignored)) == ([], [], {})
    images = [file.image for file in read.files if file.image is not None]
    objects = [instance for image in images for instance in image.instances]
    assert len(images) == 8
    assert len(objects) >= 7
    assert {name for item in objects for name in item.keypoints} == set(KEYPOINT_NAMES)
    with Image.open(tmp_path / "first/beetle_0000.jpg") as picture:
        assert picture.size == (320, 240)


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_the_benchmark_trains_a_cell_once(tmp_path: Path) -> None:
    cell = Cell("beetles", 11, 0, 2, "rising")
    seconds = cells.estimate(tmp_path, [cell], {})
    assert seconds > 0
    row = cells.run_cell(tmp_path, cell)
    assert cells.read_rows(tmp_path) == {cell: row}
    assert (row["epochs"], row["steps"]) == (1, 11)
    assert 150 < row["images"] < 190
    assert 30 < row["held_out"] < 60
    assert (tmp_path / f"found/{cell.name}.json").exists()
    assert not (tmp_path / cell.name).exists()
    assert row["processor_seconds"] > 5


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_the_benchmark_looks_at_mirrored_images_with_the_same_weights(tmp_path: Path) -> None:
    cell = Cell("beetles", 11, 0, 2, SHIPPED)
    cells.run_cell(tmp_path, cell)
    row = cells.run_cell(tmp_path, cell._replace(recipe="mirrored"))
    assert row["processor_seconds"] == 0
    assert row["steps"] == 11
    assert cells.read_rows(tmp_path).keys() == {cell, cell._replace(recipe="mirrored")}
