"""What is found on many images in one file says what a JSON file for each says."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest
from PIL import Image

from keypipe.batch import command as predict_command
from keypipe.batch import one_file
from keypipe.batch.one_file import NAMES, Format
from keypipe.batch.prediction import INDEX, predict
from keypipe.dataset.coco import parse_coco, to_images
from keypipe.inference.results import ImageResult, Index
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.keypipe.batch.test_prediction import tree, write_video
from tests.onnx_files import metadata_of, raw_output, write_constant_model

SCHEMA = Schema({"cat": Skeleton(("tail",)), "奶牛": Skeleton(("nose", "ear"), (("nose", "ear"),))})
COW = ("奶牛", 0.9, [32.0, 32.0, 20.0, 10.0], {"nose": (30, 30, 0.75), "ear": (35, 33, 0.25)})
CAT = ("cat", 0.6, [50.0, 50.0, 8.0, 8.0], {"tail": (50, 50, 0.5)})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_constant_model(tmp_path / "model.onnx", raw_output(SCHEMA, [COW, CAT]), metadata_of(SCHEMA))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(25):
        Image.new("RGB", (64 + number, 64), (9 * number, 80, 120)).save(tmp_path / f"photos/{number:02d}.png")
    (tmp_path / "photos/07.png").write_text("hello")
    write_video(tmp_path / "photos/film.avi", 3)
    return tmp_path / "photos"


def by_file(folder: Path) -> dict[str, ImageResult]:
    found = [msgspec.json.decode(path.read_bytes(), type=ImageResult) for path in sorted(folder.glob("[0-9]*.json"))]
    return {result.file: result for result in found}


@pytest.mark.parametrize("kind", ["parquet", "coco"])
def test_one_file_holds_what_a_file_for_each_image_holds(
    photos: Path, model: Path, tmp_path: Path, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_file, "_ROWS", 10)
    predict(str(photos), model, tmp_path / "each")
    expected = by_file(tmp_path / "each")
    assert len(expected) == 24
    arguments = [str(photos), "--model", str(model), "--output", str(tmp_path / "out"), "--format", kind]
    assert predict_command.main([*arguments, "--no-pictures"]) == 2  # one of them is no image
    assert sorted(tree(tmp_path / "out")) == sorted(["film.json", INDEX, NAMES[kind]])
    index = msgspec.json.decode((tmp_path / "out" / INDEX).read_bytes(), type=Index)
    assert (index.complete, index.results, len(index.files), len(index.faults)) == (True, NAMES[kind], 25, 1)
    assert [entry.json for entry in index.files] == [""] * 24 + ["film.json"]
    found = read_parquet(tmp_path / "out") if kind == "parquet" else read_coco(tmp_path / "out")
    assert found == {file: (result.size_wh, result.predictions) for file, result in expected.items()}


def read_parquet(folder: Path) -> dict[str, tuple[tuple[int, int], list[Prediction]]]:
    table = pyarrow.parquet.read_table(folder / NAMES["parquet"])
    heading = json.loads(table.schema.metadata[b"keypipe"])
    assert heading["thresholds"]["conf"] == 0.25
    assert heading["keypoint_names"] == {"cat": ["tail"], "奶牛": ["nose", "ear"]}
    return {
        row["file"]: ((row["width"], row["height"]), msgspec.convert(row["objects"], list[Prediction]))
        for row in table.to_pylist()
    }


def read_coco(folder: Path) -> dict[str, tuple[tuple[int, int], list[Prediction]]]:
    content = (folder / NAMES["coco"]).read_bytes()
    document = json.loads(content)
    assert document["info"]["keypipe"]["thresholds"]["keypoint_conf"] == 0.5
    categories = {category["id"]: category for category in document["categories"]}
    assert categories[2]["skeleton"] == [[1, 2]]
    assert [entry["id"] for entry in document["annotations"]] == list(range(1, 49))
    assert [len(image.instances) for image in to_images(parse_coco(content))] == [2] * 24  # other programs read it too
    found = {entry["id"]: ((entry["width"], entry["height"]), []) for entry in document["images"]}
    for entry in document["annotations"]:
        left, top, width, height = entry["bbox"]
        names, flat = categories[entry["category_id"]]["keypoints"], entry["keypoints"]
        assert flat[2::3] == [2 if score >= 0.5 else 1 for score in entry["keypoint_scores"]]
        points = zip(names, flat[::3], flat[1::3], entry["keypoint_scores"], strict=True)
        found[entry["image_id"]][1].append(
            msgspec.convert(
                {
                    "class_name": categories[entry["category_id"]]["name"],
                    "score": entry["score"],
                    "box_xyxy": (left, top, round(left + width, 2), round(top + height, 2)),
                    "keypoints": [dict(zip(("name", "x", "y", "confidence"), point, strict=True)) for point in points],
                },
                Prediction,
            )
        )
    return {entry["file_name"]: found[entry["id"]] for entry in document["images"]}


@pytest.mark.parametrize("kind", ["parquet", "coco"])
def test_an_interruption_keeps_what_was_found(photos: Path, model: Path, tmp_path: Path, kind: Format) -> None:
    def tell(_what: str, done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(str(photos), model, tmp_path / "out", results=kind, progress=tell, threads=2)
    index = msgspec.json.decode((tmp_path / "out" / INDEX).read_bytes(), type=Index)
    assert 5 <= len(index.files) < 24
    found = read_rows(tmp_path / "out", kind)
    assert found == [entry.file for entry in index.files]
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def read_rows(folder: Path, kind: Format) -> list[str]:
    if kind == "parquet":
        return [str(name) for name in pyarrow.parquet.read_table(folder / NAMES[kind])["file"].to_pylist()]
    return [entry["file_name"] for entry in json.loads((folder / NAMES[kind]).read_bytes())["images"]]


def test_the_one_file_of_an_earlier_run_and_another_format_goes(photos: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "found"
    kinds: list[Format] = ["parquet", "coco", "json"]
    for kind in kinds:
        predict(str(photos), model, output, results=kind)
        left = {name for name in NAMES.values() if (output / name).exists()}
        assert left == ({NAMES[kind]} if kind in NAMES else set())
