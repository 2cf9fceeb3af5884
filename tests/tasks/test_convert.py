from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.dataset.coco import parse_coco, to_images
from keypipe.dataset.coco_stream import CocoLines
from tests.conftest import point, rectangle
from tests.workspace import dvc, run_stage, set_params

Snapshot = Callable[[Path], dict[str, tuple[bytes, int]]]


def convert(root: Path) -> str:
    done = run_stage(root, "convert")
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuse(root: Path) -> str:
    """Run convert on input at fault; return the message."""
    done = run_stage(root, "convert")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / ".keypipe/tmp").exists() or not list((root / ".keypipe/tmp").iterdir())
    return done.stderr


def separate(raw: Path) -> int:
    """Move the annotations of a folder into one of their own, with paths that lead nowhere; return their number."""
    sources = [path for path in sorted(raw.rglob("*.json")) if "jsons" not in path.parts]
    for path in sources:
        document = json.loads(path.read_text())
        document["imagePath"] = f"D:\\somewhere\\{document['imagePath']}"
        target = raw / "jsons" / path.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document))
        path.unlink()
    return len(sources)


def test_images_that_lie_elsewhere_are_taken_counted_and_shown(drawn: Path) -> None:
    convert(drawn)
    before = (drawn / "data/coco/keypoints.json").read_bytes()
    n = separate(drawn / "data/raw")
    assert f"convert: {n} images lie elsewhere than their JSON says" in convert(drawn)
    assert (drawn / "data/coco/keypoints.json").read_bytes().replace(b'"source":"jsons/', b'"source":"') == before
    summary = report(drawn)
    assert len(summary["images_found_elsewhere"]) == n
    assert summary["finding_counts"]["info"]["image-found-elsewhere"] == n
    assert f"{n} images lie elsewhere than their JSON says" in (drawn / "reports/convert/report.html").read_text()


def test_deep_images_become_copies_of_8_bits_and_the_dataset_says_so(drawn: Path) -> None:
    raw = drawn / "data/raw"
    sources = sorted(raw.rglob("*.json"))[:3]
    for path in sources:
        with Image.open(path.with_suffix(".jpg")) as picture:
            values = np.asarray(picture.convert("L")).astype(np.uint16) * 16
        path.with_suffix(".jpg").unlink()
        Image.fromarray(values).save(path.with_suffix(".png"))
        path.write_text(path.read_text().replace(".jpg", ".png"))
    convert(drawn)
    assert b'{"info":{"description":"keypipe"}' in (drawn / "data/coco/keypoints.json").read_bytes()
    assert not list((drawn / "data/derived").rglob("*.png"))
    set_params(drawn, **{"convert.depth": "scale"})
    convert(drawn)
    assert CocoLines(drawn / "data/coco/keypoints.json").depth == "scale"
    assert len(report(drawn)["derived_images"]) == 3
    for path in sorted((drawn / "data/derived").rglob("*.png")):
        with Image.open(path) as copy:
            assert (copy.format, copy.mode, *copy.getextrema()) == ("BMP", "L", 0, 255)
    content = (drawn / "data/coco/keypoints.json").read_bytes()
    for image in parse_coco(content).images:
        assert hashlib.md5((drawn / "data" / image.file_name).read_bytes()).hexdigest() == image.md5
    convert(drawn)
    assert (drawn / "data/coco/keypoints.json").read_bytes() == content


def report(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / "reports/convert/report.json").read_text())
    return loaded


def test_every_image_object_and_keypoint_arrives(drawn: Path, snapshot: Snapshot) -> None:
    before = snapshot(drawn / "data/raw")
    assert "12 images" in convert(drawn)
    assert snapshot(drawn / "data/raw") == before
    images = to_images(parse_coco((drawn / "data/coco/keypoints.json").read_bytes()))
    for image in images:
        shapes = json.loads((drawn / "data/raw" / image.source).read_text())["shapes"]
        boxes = [shape for shape in shapes if shape["shape_type"] == "rectangle"]
        points = {(shape["label"], *map(tuple, shape["points"])) for shape in shapes if shape["shape_type"] == "point"}
        assert len(image.instances) == len(boxes)
        assert points == {
            (name, (keypoint.x, keypoint.y))
            for instance in image.instances
            for name, keypoint in instance.keypoints.items()
        }
        occluded = {shape["label"] for shape in shapes if shape["flags"].get("occluded")}
        assert occluded == {
            name for i in image.instances for name, keypoint in i.keypoints.items() if keypoint.visibility == 1
        }
    assert any(not image.instances for image in images), "the demo has negatives"
    summary = report(drawn)
    assert summary["images"] == 12
    assert summary["objects"] == sum(len(image.instances) for image in images)


def test_twice_gives_the_same_bytes(drawn: Path) -> None:
    outputs = ("data/coco/keypoints.json", "reports/convert/report.json", "reports/convert/report.html")
    convert(drawn)
    first = [(drawn / name).read_bytes() for name in outputs]
    convert(drawn)
    assert [(drawn / name).read_bytes() for name in outputs] == first


def test_chinese_names_stand_in_file_and_report(drawn: Path, write_labelme: Callable[..., Path]) -> None:
    set_params(drawn, **{"schema.classes": {"奶牛": {"keypoints": ["鼻", "左耳", "右耳"]}}})
    write_labelme("牛栏/一.jpg", [rectangle("奶牛", (5, 5, 90, 90)), point("左耳", 20, 20)], folder=drawn / "data/raw")
    convert(drawn)
    assert "奶牛" in (drawn / "data/coco/keypoints.json").read_text(encoding="utf-8")
    assert "左耳" in (drawn / "reports/convert/report.html").read_text(encoding="utf-8")


def test_what_was_derived_decided_or_renamed_is_told(drawn: Path, write_labelme: Callable[..., Path]) -> None:
    raw = drawn / "data/raw"
    set_params(drawn, **{"schema.aliases": {"snout": "nose"}, "convert.box_from_points": 0.2})
    write_labelme("points.jpg", [point("snout", 20, 20), point("withers", 60, 50)], folder=raw)
    boxes = [rectangle("cow", (10, 10, 90, 90)), rectangle("cow", (20, 12, 190, 98))]
    write_labelme("overlap.jpg", [*boxes, point("nose", 50, 50)], folder=raw)
    assert "1 boxes derived from points" in convert(drawn)
    summary = report(drawn)
    assert summary["read_by_alias"] == {"snout -> nose": 1}
    assert summary["boxes_from_points"] == {"points.json": [0]}
    assert {**summary["decided_by_place"], **summary["decided_by_list_order"]}.keys() == {"overlap.json"}
    page = (drawn / "reports/convert/report.html").read_text()
    assert "points.json: boxes derived from points" in page
    assert "snout -&gt; nose" in page or "snout -> nose" in page
    set_params(drawn, **{"convert.box_from_points": None})
    assert "lies in no box of a class that has it" in refuse(drawn)


def test_what_the_order_of_drawing_decided_is_counted_and_told(drawn: Path, write_labelme: Callable[..., Path]) -> None:
    convert(drawn)
    assert "decided by the order in the file" not in (drawn / "reports/convert/report.html").read_text()
    cow = rectangle("cow", (10, 10, 190, 90))
    shapes = [cow, point("nose", 95, 50), cow, point("nose", 105, 50)]
    write_labelme("twins.jpg", shapes, folder=drawn / "data/raw", size_wh=(200, 100))
    convert(drawn)
    summary = report(drawn)
    assert summary["decided_by_list_order"] == {"twins.json": [1, 3]}
    found = [item for item in summary["findings"] if item["kind"] == "decided-by-list-order"]
    assert [(item["file"], item["shape"]) for item in found] == [("twins.json", 1), ("twins.json", 3)]
    page = (drawn / "reports/convert/report.html").read_text()
    assert "Keypoints in overlapping boxes, decided by the order in the file" in page
    assert "twins.json: only the order in the file tells whose keypoints the shapes [1, 3] are" in page


def test_all_faults_come_at_once_and_nothing_is_written(drawn: Path, snapshot: Snapshot) -> None:
    convert(drawn)
    outputs = [drawn / "data/coco", drawn / "data/derived", drawn / "reports"]
    before = [snapshot(folder) for folder in outputs]
    sources = sorted((drawn / "data/raw").rglob("*.json"))
    sources[0].write_text("{")
    sources[1].with_suffix(".jpg").unlink()
    message = refuse(drawn)
    assert "2 faults in 2 files" in message
    for source in sources[:2]:
        assert source.relative_to(drawn / "data/raw").as_posix() in message
    assert "on_error: quarantine" in message
    assert [snapshot(folder) for folder in outputs] == before
    failure = json.loads((drawn / ".keypipe/failures/convert.json").read_text())
    assert [fault["kind"] for fault in failure["faults"]] == ["broken-json", "no-image"]


def test_quarantine_sets_the_faulty_images_aside_and_says_so(drawn: Path) -> None:
    source = sorted((drawn / "data/raw").rglob("*.json"))[0]
    source.write_text("{")
    set_params(drawn, **{"convert.on_error": "quarantine"})
    assert "11 images" in convert(drawn)
    assert report(drawn)["set_aside"] == [source.relative_to(drawn / "data/raw").as_posix()]
    assert "broken-json" in (drawn / "reports/convert/report.html").read_text()
    assert not (drawn / ".keypipe/failures/convert.json").exists()


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ("rectangle", "polygon", "objects with an outline and no rectangle in 2 of 12 files"),
        ("point", "circle", "keypoints drawn as circles in 2 of 12 files"),
        ("point", "line", "classes or keypoints drawn with other shapes in 2 of 12 files"),
    ],
)
def test_quarantine_leaves_out_no_large_part_that_is_drawn_in_another_way(
    drawn: Path, changed: str, kind: str, message: str
) -> None:
    set_params(drawn, **{"convert.on_error": "quarantine"})
    sources = sorted((drawn / "data/raw").rglob("*.json"))
    for number, source in enumerate(sources[:2]):
        document = json.loads(source.read_text())
        for shape in document["shapes"]:
            if shape["shape_type"] == changed:
                (x0, y0), (x1, y1) = shape["points"][0], shape["points"][-1]
                shape["shape_type"] = kind
                shape["points"] = [[x0, y0], [x1, y0], [x1, y1]] if kind == "polygon" else [[x0, y0], [x0 + 2, y0]]
        source.write_text(json.dumps(document))
        if number == 0:
            assert "11 images" in convert(drawn), "one may be a slip"
    refusal = refuse(drawn)
    assert message in refusal
    assert "quarantine would leave them all out; " in refusal


def test_names_that_are_chinese_or_not_are_asked_about(drawn: Path) -> None:
    params = drawn / "params.yaml"
    params.write_bytes(params.read_bytes() + "# 牛\n".encode("gbk"))
    assert "a word in it fits UTF-8 and Chinese encodings alike" in refuse(drawn)


def test_quarantine_of_everything_is_refused(drawn: Path) -> None:
    for source in (drawn / "data/raw").rglob("*.json"):
        source.write_text("{")
    set_params(drawn, **{"convert.on_error": "quarantine"})
    assert "no object of the classes cow" in refuse(drawn)


def test_a_schema_that_names_no_label_lists_what_is_there(drawn: Path) -> None:
    set_params(drawn, **{"schema.classes": {"horse": {"keypoints": ["nose"]}}})
    message = refuse(drawn)
    assert "no object of the classes horse" in message
    assert "rectangle cow" in message


@pytest.mark.parametrize("state", ["empty", "missing"])
def test_an_empty_or_missing_raw_folder(drawn: Path, state: str) -> None:
    shutil.rmtree(drawn / "data/raw")
    if state == "empty":
        (drawn / "data/raw").mkdir()
    assert "put your labelme" in refuse(drawn) or "save annotations there first" in refuse(drawn)


def test_a_truncated_image_is_a_fault_and_one_with_a_tail_is_derived(drawn: Path, snapshot: Snapshot) -> None:
    images = sorted((drawn / "data/raw").rglob("*.jpg"))
    images[0].write_bytes(images[0].read_bytes() + b"tail of a phone")
    before = snapshot(drawn / "data/raw")
    convert(drawn)
    name = images[0].relative_to(drawn / "data/raw").as_posix()
    assert report(drawn)["derived_images"] == [f"derived/{name}"]
    assert (drawn / "data/derived" / name).read_bytes().endswith(b"\xff\xd9")
    assert snapshot(drawn / "data/raw") == before
    images[1].write_bytes(images[1].read_bytes()[:-500])
    message = refuse(drawn)
    assert "truncated" in message
    assert images[1].name in message


def test_sizes_come_from_the_header_upright(drawn: Path, write_labelme: Callable[..., Path]) -> None:
    raw = drawn / "data/raw"
    json_path = write_labelme("turned.jpg", [rectangle("cow", (5, 5, 90, 190))], size_wh=(100, 200), folder=raw)
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (200, 100)).save(json_path.with_suffix(".jpg"), exif=exif)
    convert(drawn)
    images = parse_coco((drawn / "data/coco/keypoints.json").read_bytes()).images
    turned = next(image for image in images if image.file_name == "raw/turned.jpg")
    assert (turned.width, turned.height) == (100, 200)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"convert.on_eror": "fail"}, "convert.on_eror: unknown parameter (known: occluded_flag"),
        ({"convert.on_error": "stop"}, "convert.on_error: Input should be 'fail' or 'quarantine', got 'stop'"),
        ({"convert.box_from_points": -0.1}, "convert.box_from_points: Input should be greater than or equal to 0"),
        ({"schema.aliases": {"nose": "tail_base", "x": "y"}}, "'y' is neither a class nor a keypoint"),
        ({"schema.aliases": {"nose": "tail_base", "x": "y"}}, "'nose' is a keypoint itself"),
        ({"convert.occluded_flag": 3}, "convert.occluded_flag: Input should be a valid string, got 3"),
        ({"schema.classes.cow.keypoints": []}, "schema.classes.cow.keypoints: expected a list of names"),
    ],
)
def test_bad_parameters_name_file_and_line(drawn: Path, params: dict[str, Any], message: str) -> None:
    set_params(drawn, **params)
    said = refuse(drawn)
    assert message in said
    assert "params.yaml:" in said


def test_a_bare_dvc_repro_that_fails_says_how_to_get_the_outputs_back(drawn: Path) -> None:
    assert dvc(drawn, "repro", "convert").returncode == 0
    good = (drawn / "data/coco/keypoints.json").read_bytes()
    source = sorted((drawn / "data/raw").rglob("*.json"))[0]
    source.write_text("{")
    failed = dvc(drawn, "repro", "convert")
    assert failed.returncode != 0
    assert "dvc checkout convert" in failed.stdout + failed.stderr
    assert dvc(drawn, "checkout", "convert").returncode == 0
    assert (drawn / "data/coco/keypoints.json").read_bytes() == good


def test_images_that_wait_for_a_person_are_left_out_and_told(drawn: Path) -> None:
    sources = sorted((drawn / "data/raw").rglob("*.json"))[:2]
    for path in sources:
        mark_as_machine(path)
    told = convert(drawn)
    assert "2 images left out" in told
    assert "tick the image's flag confirmed" in told
    summary = report(drawn)
    assert list(summary["unconfirmed"]) == [path.relative_to(drawn / "data/raw").as_posix() for path in sources]
    assert "2 unconfirmed left out" in summary["headline"]
    assert summary["finding_counts"]["info"]["unconfirmed"] == 2
    assert not {path.stem for path in sources} & {Path(image.file_name).stem for image in coco_images(drawn)}
    document = json.loads(sources[0].read_text())
    sources[0].write_text(json.dumps(document | {"flags": {"confirmed": True}}))
    assert "1 image left out" in convert(drawn)
    set_params(drawn, **{"convert.machine": "refuse"})
    assert "that a model drew and nobody has confirmed" in refuse(drawn)
    set_params(drawn, **{"convert.machine": "take"})
    assert "left out" not in convert(drawn)


def test_nothing_but_unconfirmed_images_is_said_so(drawn: Path) -> None:
    for path in (drawn / "data/raw").rglob("*.json"):
        mark_as_machine(path)
    assert "that a model drew and nobody has confirmed (convert.machine)" in refuse(drawn)


def mark_as_machine(path: Path) -> None:
    """Mark all shapes of a file as a model's."""
    document = json.loads(path.read_text())
    for shape in document["shapes"]:
        shape["flags"] = {**shape["flags"], "machine": True}
    path.write_text(json.dumps(document))


def coco_images(root: Path) -> list[Any]:
    return list(parse_coco((root / "data/coco/keypoints.json").read_bytes()).images)
