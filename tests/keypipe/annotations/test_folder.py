from __future__ import annotations

import base64
import io
import json
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.annotations.folder import near_misses, read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.annotations.reader import read_derived
from keypipe.annotations.readings import Folder
from keypipe.dataset.yolo import to_yolo
from keypipe.demo import scene as demo
from keypipe.errors import AnnotationError
from keypipe.keypoints.skeleton import parse_schema
from tests.conftest import point, rectangle

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose"]}}})
COW = [rectangle("cow", (10, 10, 90, 90)), point("nose", 20, 20)]

Write = Callable[..., Path]


def read(raw: Path, **options: Any) -> Folder:
    return read_folder(raw, SCHEMA, LabelmeOptions(), **options)


def kinds(folder: Folder) -> list[str]:
    return [fault.kind for fault in folder.faults]


def paths(folder: Folder) -> list[str]:
    return [file.image.path for file in folder.files if file.image]


def test_subfolders_equal_stems_and_other_names_are_kept_apart(tmp_path: Path, write_labelme: Write) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "b/v1.2.jpg", "牛/奶牛 1.jpg"):
        write_labelme(name, COW)
    folder = read(tmp_path / "raw")
    assert paths(folder) == ["raw/a/1.jpg", "raw/b/1.jpg", "raw/b/v1.2.jpg", "raw/牛/奶牛 1.jpg"]
    assert not folder.faults


@pytest.mark.parametrize("image_path", ["..\\photos\\a.jpg", "C:\\other\\machine\\a.jpg", "wrong.jpg", "", None])
def test_the_image_is_found_by_path_with_windows_separators_else_by_stem(
    tmp_path: Path, write_labelme: Write, image_path: str | None
) -> None:
    write_labelme("photos/a.jpg", COW, imagePath=image_path)
    assert paths(read(tmp_path / "raw")) == ["raw/photos/a.jpg"]


def test_json_in_another_folder_than_the_image(tmp_path: Path, write_labelme: Write) -> None:
    json = write_labelme("photos/a.jpg", COW, imagePath="..\\photos\\a.jpg")
    (tmp_path / "raw/labels").mkdir()
    json.rename(tmp_path / "raw/labels/a.json")
    assert paths(read(tmp_path / "raw")) == ["raw/photos/a.jpg"]


def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, write_labelme: Write) -> None:
    json = write_labelme("a.jpg", COW, imagePath="../outside.jpg")
    json.with_suffix(".jpg").rename(tmp_path / "outside.jpg")
    folder = read(tmp_path / "raw")
    assert kinds(folder) == ["no-image"]
    assert "leaves the raw folder" in folder.faults[0].found


def test_an_embedded_image_is_derived(tmp_path: Path, write_labelme: Write) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100)).save(buffer, "PNG")
    json = write_labelme("sub/a.jpg", COW, imageData=base64.b64encode(buffer.getvalue()).decode())
    json.with_suffix(".jpg").unlink()
    folder = read(tmp_path / "raw")
    assert paths(folder) == ["derived/sub/a.png"]
    assert read_derived(tmp_path / "raw", folder.files[0]) == buffer.getvalue()


def test_a_png_name_on_jpeg_bytes_is_read_by_its_bytes(tmp_path: Path, write_labelme: Write) -> None:
    json = write_labelme("a.png", COW)
    Image.new("RGB", (200, 100)).save(json.with_suffix(".png"), "JPEG")
    folder = read(tmp_path / "raw")
    assert (paths(folder), folder.faults) == (["raw/a.png"], [])


def test_negatives_stay_and_unlabelled_images_are_counted_or_taken(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("negative.jpg", [])
    write_labelme("alone.jpg", COW).unlink()
    folder = read(tmp_path / "raw")
    assert paths(folder) == ["raw/negative.jpg"]
    assert folder.unlabelled == ["alone.jpg"]
    assert paths(read(tmp_path / "raw", unlabelled_images="negative")) == ["raw/negative.jpg", "raw/alone.jpg"]


def test_faults_of_files_are_collected_from_all_of_them(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("broken.jpg", COW).write_text("{")
    write_labelme("lost.jpg", COW).with_suffix(".jpg").unlink()
    size = write_labelme("size.jpg", COW, imageWidth=100)
    image = write_labelme("short.jpg", COW).with_suffix(".jpg")
    image.write_bytes(image.read_bytes()[:-300])
    write_labelme("twin.jpg", COW, imagePath="size.jpg")
    write_labelme("good.jpg", COW)
    folder = read(tmp_path / "raw")
    assert (
        sorted((fault.file, fault.kind) for fault in folder.faults)
        == [
            ("broken.json", "broken-json"),
            ("lost.json", "no-image"),
            ("short.json", "bad-image"),
            ("size.json", "size-mismatch"),
            ("twin.json", "image-claimed-twice"),
            ("twin.json", "size-mismatch"),
        ]
        or size
    )
    assert "raw/good.jpg" in paths(folder)


def test_the_same_in_any_number_of_processes(
    tmp_path: Path, write_labelme: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(9):
        write_labelme(f"{index}.jpg", COW)
    alone = read(tmp_path / "raw", processes=1)
    monkeypatch.setattr("keypipe.annotations.folder._FILES_PER_PROCESS", 3)
    assert read(tmp_path / "raw", processes=2) == alone


def overlapping(write: Write, names: Callable[[int], str]) -> None:
    """Write cows with their nose at the left end, alone; then two that overlap, without groups, points first."""
    for index in range(20):
        left = 5 + 3 * index
        write(names(index), [rectangle("cow", (left, 20, left + 100, 80)), point("nose", left + 6, 50)])
    boxes = [rectangle("cow", (20, 20, 120, 80)), rectangle("cow", (25, 22, 190, 140))]
    write("contested.jpg", [point("nose", 35, 75), *boxes, point("nose", 27, 50)], size_wh=(200, 150))


def test_overlapping_boxes_are_decided_by_what_the_other_images_taught(
    tmp_path: Path, write_labelme: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlapping(write_labelme, "{}.jpg".format)
    folder = read(tmp_path / "raw", processes=1)
    (contested,) = [file for file in folder.files if file.source == "contested.json"]
    assert contested.image is not None
    assert [instance.keypoints["nose"].x for instance in contested.image.instances] == [27, 35]
    assert sorted(contested.by_place) == [0, 3]
    assert not folder.faults
    # The same in other processes, and when the files come in another order.
    monkeypatch.setattr("keypipe.annotations.folder._FILES_PER_PROCESS", 3)
    assert read(tmp_path / "raw", processes=2) == folder
    overlapping(partial(write_labelme, folder=tmp_path / "renamed"), lambda index: f"{(index * 7) % 20}-{index}.jpg")
    renamed = read(tmp_path / "renamed", processes=1)
    assert [file.by_place for file in renamed.files if file.source == "contested.json"] == [contested.by_place]


def test_an_empty_or_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no such folder; put your labelme"):
        read(tmp_path / "raw")
    (tmp_path / "raw").mkdir()
    with pytest.raises(AnnotationError, match="no labelme JSON"):
        read(tmp_path / "raw")


def test_reading_changes_nothing(tmp_path: Path, write_labelme: Write) -> None:
    image = write_labelme("a.jpg", COW).with_suffix(".jpg")
    image.write_bytes(image.read_bytes() + b"tail")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "raw").iterdir()}
    assert paths(read(tmp_path / "raw")) == ["derived/a.jpg"]
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "raw").iterdir()}


def test_near_misses() -> None:
    assert near_misses(["point Nosee", "rectangle dog", "rectangle cows"], SCHEMA) == {"Nosee": "nose", "cows": "cow"}
    aliased = parse_schema({"classes": {"cow": {"keypoints": ["nose"]}}, "aliases": {"snout": "nose"}})
    assert near_misses(["point Snouts", "oriented_rectangle cwo"], aliased) == {"Snouts": "nose"}


def test_set_squares_agree_with_their_annotators_own_yolo_labels(shared_data: Callable[[str], Path]) -> None:
    data = shared_data("setsquare")
    schema = parse_schema({"classes": {"sjb_rect": {"keypoints": ["angle_30", "angle_60", "angle_90"]}}})
    folder = read_folder(data / "labelme", schema, LabelmeOptions())
    assert not folder.faults
    assert folder.ignored == {"polygon sjb_poly": 21}
    compared = 0
    for file in folder.files:
        assert file.image is not None
        ours = np.array([_row(to_yolo(item, file.image.size_wh, schema)) for item in file.image.instances])
        text = (data / "oracle_yolo" / Path(file.source).with_suffix(".txt")).read_text()
        theirs = np.array([[float(value) for value in line.split()] for line in text.splitlines()])
        assert ours.shape == theirs.shape
        # The annotator's script wrote the boxes in file order as well.
        assert np.abs(ours - theirs).max() < 1e-3
        compared += len(ours)
    assert compared == 413


def _row(instance: Any) -> list[float]:
    return [instance.class_id, *instance.box_xywhn, *(value for keypoint in instance.keypoints for value in keypoint)]


def test_every_circuit_diagram_is_used_or_listed_with_its_reason(shared_data: Callable[[str], Path]) -> None:
    data = shared_data("circuit_mos")
    keypoints = {"keypoints": ["Drain", "Source", "Gate"]}
    schema = parse_schema({"classes": {"nmos": keypoints, "pmos": keypoints}})
    folder = read_folder(data / "labelme", schema, LabelmeOptions())
    used = {file.source for file in folder.files if file.image}
    faulty = {fault.file for fault in folder.faults}
    assert len(used) + len(faulty) == len(list((data / "labelme").glob("*.json"))) == 300
    assert not used & faulty
    assert [(fault.file, fault.shape, fault.kind) for fault in folder.faults] == [
        ("1068.json", 29, "several-boxes-in-group")
    ]
    assert folder.ignored["rectangle resistor"] == 678


def test_drawn_animals_that_overlap_are_told_apart_without_their_groups(tmp_path: Path) -> None:
    """What place decides is right, even when the shapes come in no order."""
    written = demo.write_demo(tmp_path / "raw", 150, seed=5, size_wh=(160, 120))
    schema = parse_schema(demo.SCHEMA)
    truth = read_folder(tmp_path / "raw", schema, LabelmeOptions())
    rng = random.Random(0)
    for path in (path.with_suffix(".json") for path in written):
        document = json.loads(path.read_text())
        for shape in document["shapes"]:
            shape["group_id"] = None
        rng.shuffle(document["shapes"])
        path.write_text(json.dumps(document))
    found = read_folder(tmp_path / "raw", schema, LabelmeOptions())
    owners = {
        (file.source, name, keypoint.x, keypoint.y): instance.box_xyxy
        for file in truth.files
        if file.image
        for instance in file.image.instances
        for name, keypoint in instance.keypoints.items()
    }
    decided = 0
    for file in found.files:
        shapes = json.loads((tmp_path / "raw" / file.source).read_text())["shapes"]
        by_place = {(shapes[index]["label"], *shapes[index]["points"][0]) for index in file.by_place}
        decided += len(by_place)
        for instance in file.image.instances if file.image else ():
            for name, keypoint in instance.keypoints.items():
                if (name, keypoint.x, keypoint.y) in by_place:
                    assert instance.box_xyxy == owners[file.source, name, keypoint.x, keypoint.y]
    assert decided >= 10


def test_the_image_of_a_broken_json_is_not_one_without_objects(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", COW)
    write_labelme("b.jpg", COW).write_text("{", encoding="utf-8")
    folder = read(tmp_path / "raw", unlabelled_images="negative")
    assert paths(folder) == ["raw/a.jpg"]
    assert kinds(folder) == ["broken-json"]


def test_a_link_to_nothing_and_a_name_that_is_no_text_are_named(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", COW)
    link = tmp_path / "raw/lost.json"
    link.symlink_to("nowhere.json")
    with pytest.raises(AnnotationError, match=r"lost\.json: gone since it was listed"):
        read(tmp_path / "raw")
    link.unlink()
    Path(os.fsdecode(os.fsencode(tmp_path / "raw") + b"/K\xfche.jpg")).write_bytes(b"")
    with pytest.raises(AnnotationError, match=r"K.udcfche\.jpg' is not UTF-8"):
        read(tmp_path / "raw")


def test_two_files_may_not_make_one_image(tmp_path: Path, write_labelme: Write) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100)).save(buffer, "PNG")
    json = write_labelme("a.jpg", COW, imageData=base64.b64encode(buffer.getvalue()).decode())
    json.with_suffix(".jpg").unlink()
    json.with_suffix(".JSON").write_bytes(json.read_bytes())
    assert kinds(read(tmp_path / "raw")) == ["image-claimed-twice"]
