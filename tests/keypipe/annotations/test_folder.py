from __future__ import annotations

import base64
import io
import json
import os
import random
import shutil
import struct
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


def test_every_suffix_of_a_format_that_is_read(tmp_path: Path, write_labelme: Write) -> None:
    for number, suffix in enumerate((".JPG", ".JPeG", ".jpe", ".jfif", ".jfi")):
        json = write_labelme(f"{number}.jpg", COW, imagePath=f"{number}{suffix}")
        json.with_suffix(".jpg").rename(json.with_suffix(suffix))
    folder = read(tmp_path / "raw")
    assert (paths(folder), folder.faults) == (
        ["raw/0.JPG", "raw/1.JPeG", "raw/2.jpe", "raw/3.jfif", "raw/4.jfi"],
        [],
    )
    assert not any(file.found_by for file in folder.files)


def test_formats_that_ultralytics_refuses_are_derived(tmp_path: Path, write_labelme: Write) -> None:
    for suffix in (".avif", ".jp2", ".ppm", ".pgm"):
        write_labelme(f"x_{suffix[1:]}{suffix}", COW)
    folder = read(tmp_path / "raw")
    assert paths(folder) == ["raw/x_avif.avif", "raw/x_jp2.jp2", "derived/x_pgm.pgm", "derived/x_ppm.ppm"]
    for file in folder.files:
        if file.derived:
            assert Image.open(io.BytesIO(read_derived(tmp_path / "raw", file))).format == "BMP"


def test_a_file_of_a_format_that_is_not_read_is_there(tmp_path: Path, write_labelme: Write) -> None:
    gif = write_labelme("a.gif", COW)
    heic = write_labelme("b.jpg", COW, imagePath="b.HEIC")
    heic.with_suffix(".jpg").unlink()
    heic.with_suffix(".HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 2000)
    raw = write_labelme("c.jpg", COW, imagePath="c.CR2")
    raw.with_suffix(".jpg").unlink()
    Image.new("RGB", (160, 120)).save(raw.with_suffix(".CR2"), "TIFF")
    write_labelme("d.jpg", COW, imagePath="d.HEIC")  # a copy that is read lies beside it
    (tmp_path / "raw/d.HEIC").write_bytes(heic.with_suffix(".HEIC").read_bytes())
    (tmp_path / "raw/alone.heif").write_bytes(b"")
    folder = read(tmp_path / "raw")
    assert gif
    assert [(fault.kind, fault.found) for fault in folder.faults] == [
        ("image-not-read", "a.gif: its format, GIF, is not read"),
        ("image-not-read", "b.HEIC: its format, HEIC, is not read"),
        ("image-not-read", "c.CR2: its format, a camera's RAW, is not read"),
    ]
    assert all("save it as JPEG or PNG" in fault.fix for fault in folder.faults)
    assert paths(folder) == ["raw/d.jpg"]
    assert folder.unread == ["alone.heif", "d.HEIC"]
    negative = read(tmp_path / "raw", unlabelled_images="negative")
    assert [fault.file for fault in negative.faults if fault.kind == "image-not-read"][3:] == ["d.HEIC"]


def separate(write: Write, root: Path) -> None:
    """Write annotations and images into folders of their own, with three kinds of paths."""
    for number, image_path in enumerate((r"D:\data\cows\images\0.jpg", r"..\images\1.jpg", "2.jpg")):
        json = write(f"images/{number}.jpg", COW, imagePath=image_path)
        (root / "jsons").mkdir(exist_ok=True)
        json.rename(root / "jsons" / json.name)


def test_annotations_in_one_folder_and_images_in_another(tmp_path: Path, write_labelme: Write) -> None:
    raw = tmp_path / "raw"
    separate(write_labelme, raw)
    for _ in range(2):  # with a cache as well
        folder = read(raw, cache=tmp_path / "cache")
        assert (paths(folder), folder.faults) == ([f"raw/images/{number}.jpg" for number in range(3)], [])
        assert [file.found_by for file in folder.files] == ["place", "", "place"]
        assert not folder.unlabelled


def test_the_cache_knows_when_another_image_is_meant(tmp_path: Path, write_labelme: Write) -> None:
    raw = tmp_path / "raw"
    separate(write_labelme, raw)
    for path in raw.rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert paths(read(raw, cache=tmp_path / "cache"))[2] == "raw/images/2.jpg"
    write_labelme("masks/2.jpg", COW).unlink()
    folder = read(raw, cache=tmp_path / "cache")
    assert kinds(folder) == ["several-images"]
    assert folder.faults[0].found == "2 images could be meant: images/2.jpg, masks/2.jpg"
    assert folder.unlabelled == ["images/2.jpg", "masks/2.jpg"]


def test_an_image_that_was_found_twice_is_a_fault(tmp_path: Path, write_labelme: Write) -> None:
    raw = tmp_path / "raw"
    for name in ("labels/a/1", "labels/b/1"):
        write_labelme(f"{name}.jpg", COW).with_suffix(".jpg").unlink()
    write_labelme("images/a/1.jpg", COW).unlink()
    assert kinds(read(raw)) == ["image-claimed-twice"]


def test_an_embedded_image_is_surer_than_one_elsewhere(tmp_path: Path, write_labelme: Write) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100)).save(buffer, "PNG")
    json = write_labelme("jsons/a.jpg", COW, imageData=base64.b64encode(buffer.getvalue()).decode())
    (tmp_path / "raw/images").mkdir()
    json.with_suffix(".jpg").rename(tmp_path / "raw/images/a.jpg")
    folder = read(tmp_path / "raw")
    assert (paths(folder), folder.unlabelled) == (["derived/jsons/a.png"], ["images/a.jpg"])


def test_real_annotations_apart_from_their_images(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = shared_data("setsquare/labelme")
    schema = parse_schema({"classes": {"sjb_rect": {"keypoints": ["angle_30", "angle_60", "angle_90"]}}})
    together = read_folder(source, schema, LabelmeOptions())
    for number, path in enumerate(sorted(source.rglob("*.json"))):
        place = f"session{number % 3}/{path.relative_to(source).with_suffix('').as_posix()}"
        document = json.loads(path.read_text())
        image = path.parent / document["imagePath"].replace("\\", "/")
        document["imagePath"] = f"C:\\somebody\\else\\{image.name}"
        for kind, suffix in (("labels", ".json"), ("images", image.suffix)):
            (tmp_path / f"{kind}/{place}{suffix}").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"labels/{place}.json").write_text(json.dumps(document))
        shutil.copy(image, tmp_path / f"images/{place}{image.suffix}")
    apart = read_folder(tmp_path, schema, LabelmeOptions())
    assert not apart.faults
    assert {file.found_by for file in apart.files} == {"place"}

    def contents(folder: Folder) -> list[tuple[str, Any]]:
        return sorted((file.image.md5, file.image.instances) for file in folder.files if file.image)

    assert [md5 for md5, _ in contents(apart)] == [md5 for md5, _ in contents(together)]


def test_samples_of_more_than_8_bits_are_scaled_where_that_is_wanted(tmp_path: Path, write_labelme: Write) -> None:
    raw = tmp_path / "raw"
    ramp = np.tile(np.linspace(0, 1, 200), (100, 1))
    for name, values in {"twelve.png": (ramp * 4095).astype(np.uint16), "float.tif": ramp.astype(np.float32)}.items():
        write_labelme(name, COW)
        Image.fromarray(values).save(raw / name)
    write_labelme("usual.png", COW)
    cut = read(raw)
    assert paths(cut) == ["raw/twelve.png", "raw/usual.png"]
    assert [(fault.file, fault.kind) for fault in cut.faults] == [("float.json", "image-without-range")]
    assert "set convert.depth: scale" in cut.faults[0].fix
    scaled = read_folder(raw, SCHEMA, LabelmeOptions(depth="scale"))
    assert (paths(scaled), scaled.faults) == (["derived/float.tif", "derived/twelve.png", "raw/usual.png"], [])
    for file in scaled.files:
        if file.derived:
            pixels = np.asarray(Image.open(io.BytesIO(read_derived(raw, file, "scale"))))
            assert (pixels.dtype, pixels.min(), pixels.max()) == (np.uint8, 0, 255)


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


def points_first(write: Write, names: Callable[[int], str]) -> None:
    """Write cows whose nose was drawn before their box, beside each other; then two with one box between them."""
    for index in range(6):
        left, right = rectangle("cow", (5, 20, 80 + index, 80)), rectangle("cow", (100, 20, 195, 80))
        write(names(index), [point("nose", 40, 50), left, point("nose", 150, 50), right], size_wh=(200, 150))
    boxes = [rectangle("cow", (20, 20, 180, 140)), rectangle("cow", (20, 20, 180, 140))]
    write("contested.jpg", [point("nose", 90, 80), point("nose", 110, 80), *boxes], size_wh=(200, 150))


def test_overlapping_boxes_are_decided_by_the_order_in_which_the_other_files_were_drawn(
    tmp_path: Path, write_labelme: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    points_first(write_labelme, "{}.jpg".format)
    cache = tmp_path / "cache.msgpack"
    folder = read(tmp_path / "raw", processes=1, cache=cache)
    (contested,) = [file for file in folder.files if file.source == "contested.json"]
    assert contested.image is not None
    assert [instance.keypoints["nose"].x for instance in contested.image.instances] == [90, 110]
    assert sorted(contested.by_list_order) == [0, 1]
    assert not folder.faults
    assert read(tmp_path / "raw", processes=1, cache=cache) == folder
    monkeypatch.setattr("keypipe.annotations.folder._FILES_PER_PROCESS", 3)
    assert read(tmp_path / "raw", processes=2) == folder
    points_first(partial(write_labelme, folder=tmp_path / "renamed"), lambda index: f"{5 - index}.jpg")
    renamed = read(tmp_path / "renamed", processes=1)
    assert [file.shapes for file in renamed.files if file.source == "contested.json"] == [contested.shapes]
    # Alone, the file shows no habit, and a person is asked.
    for path in (tmp_path / "raw").glob("?.*"):
        path.unlink()
    assert kinds(read(tmp_path / "raw", processes=1)) == ["ambiguous-keypoint"] * 2


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
    drawn = ["circle nosee", "polygon cowz", "mask coww", "line cwo", "point cow"]
    assert near_misses(drawn, SCHEMA) == {"nosee": "nose", "cowz": "cow", "coww": "cow"}
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
    assert not folder.faults
    shared = {file.source: file.shared_groups for file in folder.files if file.shared_groups}
    assert shared == {"1068.json": [29]}
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


def test_a_name_that_is_no_text_is_named(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", COW)
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


def test_shares_of_the_image_are_a_fault(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", [rectangle("cow", (0.1, 0.1, 0.9, 0.9)), point("nose", 0.5, 0.5)])
    (fault,) = read(tmp_path / "raw").faults
    assert (fault.file, fault.kind) == ("a.json", "not-in-pixels")


def test_links_that_cannot_be_read_are_faults(tmp_path: Path, write_labelme: Write) -> None:
    for name in ("good.jpg", "other.jpg"):
        write_labelme(name, COW)
    raw = tmp_path / "raw"
    (raw / ".kept").mkdir()
    (raw / "good.jpg").rename(raw / ".kept/good.jpg")
    (raw / "good.jpg").symlink_to(raw / ".kept/good.jpg")
    assert not read(raw).faults
    (raw / "dead.json").symlink_to("nowhere.json")
    (raw / "far").symlink_to(tmp_path)
    (raw / ".kept/good.jpg").unlink()
    folder = read(raw)
    assert [(fault.file, fault.kind) for fault in folder.faults] == [
        ("dead.json", "not-readable"),
        ("far", "not-readable"),
        ("good.jpg", "not-readable"),
        ("good.json", "no-image"),
    ]
    assert "a link to nothing (nowhere.json) -> put the file itself there" in str(folder.faults[0])
    assert paths(folder) == ["raw/other.jpg"]
    for name in ("good.json", "other.json"):
        (raw / name).unlink()
    with pytest.raises(AnnotationError, match=r"no labelme JSON in it .* dead\.json, a link to nothing"):
        read(raw)


def test_links_that_lead_out_of_the_folder_are_faults_and_not_read(tmp_path: Path, write_labelme: Write) -> None:
    raw = tmp_path / "raw"
    for name in ("good.jpg", "image.jpg", "labels.jpg"):
        write_labelme(name, COW)
    for name in ("image.jpg", "labels.json"):
        (raw / name).rename(tmp_path / name)
        (raw / name).symlink_to(f"../{name}")
    folder = read(raw)
    assert paths(folder) == ["raw/good.jpg"]
    assert [(fault.file, fault.kind) for fault in folder.faults] == [
        ("image.jpg", "not-readable"),
        ("labels.json", "not-readable"),
        ("image.json", "no-image"),
    ]
    assert f"a link to a file outside ({tmp_path.resolve()}/image.jpg)" in str(folder.faults[0])


@pytest.mark.parametrize(
    "path",
    ["/etc/hostname", "\\\\server\\share\\a.jpg", "//server/share/a.jpg", "C:\\a.jpg", "..\\..\\a.jpg", "~/a.jpg"],
)
def test_absolute_paths_and_shares_lead_nowhere(tmp_path: Path, write_labelme: Write, path: str) -> None:
    json = write_labelme("a.jpg", COW, imagePath=path)
    json.with_suffix(".jpg").rename(tmp_path / "a.jpg")
    folder = read(tmp_path / "raw")
    assert kinds(folder) == ["no-image"]
    assert not paths(folder)


def test_coordinates_beyond_all_images_are_shown_in_few_digits(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", [rectangle("cow", (10, 10, 90, 90)), point("nose", 1e300, 20)])
    (fault,) = read(tmp_path / "raw").faults
    assert "'nose' at (1e+300, 20) lies outside the image" in str(fault)


def test_an_image_that_is_too_large_is_to_be_cut(tmp_path: Path, write_labelme: Write) -> None:
    path = write_labelme("a.bmp", COW).with_suffix(".bmp")
    content = path.read_bytes()
    path.write_bytes(content[:18] + struct.pack("<ii", 40_000, 40_000) + content[26:])
    (fault,) = read(tmp_path / "raw").faults
    assert "a.bmp: image of more than 178 megapixels -> cut it into tiles" in str(fault)
