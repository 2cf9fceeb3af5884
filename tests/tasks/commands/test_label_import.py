from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from keypipe.errors import AnnotationError, ConfigError, FaultsError
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.skeleton import schema_to_mapping
from tasks.check import check_workspace
from tasks.commands.label_export import Target, export_labels
from tasks.commands.label_import import ImportOptions, Source, import_labels
from tasks.convert import ConvertParams, read_raw
from tasks.workspace.params import load_schema, read_params
from tests.workspace import run_stages, set_params


def read(root: Path) -> dict[str, AnnotatedImage]:
    """Return what convert would read, by the image's file name."""
    folder = read_raw(ConvertParams(), load_schema(read_params(root)), root)
    assert not folder.faults
    return {Path(file.image.path).name: file.image for file in folder.files if file.image}


def comparable(images: dict[str, AnnotatedImage], digits: int) -> Any:
    def rounded(values: Any) -> tuple[float, ...]:
        return tuple(round(value, digits) + 0.0 for value in values)

    return {
        name: (
            image.size_wh,
            image.md5,
            [
                (
                    item.class_name,
                    rounded(item.box_xyxy),
                    {n: (*rounded((p.x, p.y)), p.visibility) for n, p in item.keypoints.items()},
                )
                for item in image.instances
            ],
        )
        for name, image in images.items()
    }


@pytest.mark.parametrize(("target", "source", "digits"), [("coco", "coco", 9), ("yolo", "yolo", 2)])
def test_what_is_exported_is_imported_whole(
    drawn: Path, empty: Path, tmp_path: Path, target: Target, source: Source, digits: int
) -> None:
    before = (empty / "params.yaml").read_text()
    set_params(drawn, **{"schema.aliases": {"heifer": "cow"}})
    export_labels(drawn, target, tmp_path / "out")
    told = import_labels(empty, source, tmp_path / "out", ImportOptions(name="farm"))
    assert "params.yaml: its schema holds these labels already" in told
    assert "repaired or assumed" not in told
    assert (empty / "params.yaml").read_text() == before
    original, arrived = read(drawn), read(empty)
    if digits == 2:  # YOLO keeps six digits of a share
        assert original.keys() == arrived.keys()
        for name, image in original.items():
            for ours, theirs in zip(image.instances, arrived[name].instances, strict=True):
                assert theirs.box_xyxy == pytest.approx(ours.box_xyxy, abs=1e-3)
                assert theirs.keypoints.keys() == ours.keypoints.keys()
                for key, point in ours.keypoints.items():
                    assert (theirs.keypoints[key].x, theirs.keypoints[key].y) == pytest.approx(
                        (point.x, point.y), abs=1e-3
                    )
                    assert theirs.keypoints[key].visibility is point.visibility
    else:
        assert comparable(arrived, digits) == comparable(original, digits)
    assert sorted(path.name for path in (empty / "data/raw").iterdir()) == ["farm"]
    run_stages(empty, "convert", "split")


@pytest.mark.parametrize("target", ["coco", "labelme"])
def test_real_diagrams_come_back_whole(
    shared_data: Callable[[str], Path], empty: Path, tmp_path: Path, target: Target
) -> None:
    keypoints = {"keypoints": ["Drain", "Source", "Gate"]}
    set_params(empty, **{"schema.classes": {"nmos": keypoints, "pmos": keypoints}})
    (empty / "data/raw").mkdir()
    for path in sorted((shared_data("circuit_mos") / "labelme").glob("1[01]*")):
        shutil.copy2(path, empty / "data/raw")
    set_params(empty, **{"convert.on_error": "quarantine"})  # one has a group with several boxes
    folder = read_raw(ConvertParams(), load_schema(read_params(empty)), empty)
    original = {Path(file.image.path).name: file.image for file in folder.files if file.image}
    told = export_labels(empty, target, tmp_path / "out")
    assert f"{len(original)} images" in told
    assert "shapes outside the schema (" in told
    shutil.rmtree(empty / "data/raw")
    if target == "coco":
        import_labels(empty, "coco", tmp_path / "out", ImportOptions(name="again"))
    else:
        shutil.copytree(tmp_path / "out", empty / "data/raw")
    assert comparable(read(empty), 9) == comparable(original, 9)


def test_labels_of_the_new_folder_open_in_labelme(drawn: Path, empty: Path, tmp_path: Path, labelme_files: Any) -> None:
    export_labels(drawn, "coco", tmp_path / "out")
    import_labels(empty, "coco", tmp_path / "out", ImportOptions(name="farm"))
    for path in sorted((empty / "data/raw").rglob("*.json")):
        loaded = labelme_files.load(path)
        assert loaded.image_path == path.with_suffix(".jpg").name


def test_coco8_pose_arrives_and_leaves_byte_for_byte(
    shared_data: Callable[[str], Path], empty: Path, tmp_path: Path
) -> None:
    source = shared_data("coco8-pose")
    told = import_labels(empty, "yolo", source, ImportOptions(name="people", write_schema=True))
    assert "8 images, " in told
    assert "taken as COCO's" in told
    check_workspace(empty)
    assert load_schema(read_params(empty)).class_names == ("person",)  # nothing was there that needed the old one
    assert sorted(path.name for path in (empty / "data/raw/people").iterdir()) == ["train", "val"]
    run_stages(empty, "convert")
    export_labels(empty, "yolo", tmp_path / "again")
    texts = {path.name: path.read_text() for path in (source / "labels").rglob("*.txt")}
    again = {path.name: path.read_text() for path in (tmp_path / "again/labels").rglob("*.txt")}
    assert again.keys() == texts.keys()
    lines = [(a, b) for name in texts for a, b in zip(texts[name].splitlines(), again[name].splitlines(), strict=True)]
    for ours, theirs in lines:
        numbers = [[float(value) for value in line.split()] for line in (ours, theirs)]
        assert numbers[1] == pytest.approx(numbers[0], abs=1.1e-6)  # a box that rounding put outside ends at the edge
    assert sum(ours == theirs for ours, theirs in lines) >= 0.8 * len(lines)


def test_set_squares_as_their_annotators_yolo_files(
    shared_data: Callable[[str], Path], empty: Path, tmp_path: Path
) -> None:
    data = shared_data("setsquare")
    names = sorted(path.stem for path in (data / "oracle_yolo").glob("*.txt") if path.stem != "classes")[:20]
    for name in names:
        (tmp_path / "yolo/labels").mkdir(parents=True, exist_ok=True)
        (tmp_path / "yolo/images").mkdir(exist_ok=True)
        shutil.copy2(data / "oracle_yolo" / f"{name}.txt", tmp_path / "yolo/labels")
        shutil.copy2(data / "labelme" / f"{name}.jpg", tmp_path / "yolo/images")
    (tmp_path / "yolo/classes.txt").write_text("sjb_rect\n")
    keypoints = ("angle_30", "angle_60", "angle_90")
    told = import_labels(empty, "yolo", tmp_path / "yolo", ImportOptions(keypoints=keypoints, write_schema=True))
    assert "kpt_shape [3, 3] told from the number of columns" in told
    arrived = read(empty)
    shutil.rmtree(empty / "data/raw/yolo")
    for name in names:
        for suffix in ("json", "jpg"):
            shutil.copy2(data / "labelme" / f"{name}.{suffix}", empty / "data/raw")
    original = read(empty)
    assert arrived.keys() == original.keys()
    for name, image in original.items():
        for ours, theirs in zip(image.instances, arrived[name].instances, strict=True):
            assert theirs.box_xyxy == pytest.approx(ours.box_xyxy, abs=1)  # they cut off to whole pixels
            assert theirs.keypoints.keys() == ours.keypoints.keys()


def write_coco(folder: Path, **changes: Any) -> Path:
    """Write a blog script's COCO folder: two images of one size, one of them in a subfolder."""
    (folder / "imgs/a").mkdir(parents=True)
    Image.new("RGB", (100, 80), "red").save(folder / "imgs/a/1.jpg")
    Image.new("RGB", (100, 80), "blue").save(folder / "imgs/1.png")
    document = {
        "license": "unknown",
        "categories": [{"id": 0, "name": "horse", "keypoint": [1, 2]}],
        "images": [
            {"id": "1", "file_name": "C:\\data\\a\\1.jpg", "width": 100, "height": 80, "license": 1},
            {"id": "2", "file_name": "1.png", "width": 100, "height": 80},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": "1",
                "category_id": 0,
                "bbox": [10, 10, 50, 50],
                "area": 1.0,
                "keypoints": [20, 20, 1, 30, 30, 1],
            }
        ],
    }
    (folder / "coco.json").write_text(json.dumps(document | changes))
    return folder / "coco.json"


def test_a_folder_of_a_blog_script_is_mended_with_a_report(empty: Path, tmp_path: Path) -> None:
    told = import_labels(empty, "coco", write_coco(tmp_path / "blog"), ImportOptions(write_schema=True))
    assert "data/raw/coco: 2 images, 1 objects, 2 keypoints (0 occluded); classes horse" in told
    for line in (
        "`keypoint` of categories read as `keypoints` (1)",
        "`area` absent or 1.0; computed from the box (1)",
        "visibility 1 for every labelled keypoint, taken as visible (1)",
        "`license` of images (1)",
    ):
        assert line in told
    arrived = read(empty)
    assert arrived.keys() == {"1.jpg", "1.png"}
    assert [item.box_xyxy for item in arrived["1.jpg"].instances] == [(10, 10, 60, 60)]
    assert load_schema(read_params(empty)).slots == ("1", "2")


def test_the_schema_is_told_and_written_only_when_asked(drawn: Path, tmp_path: Path) -> None:
    before = (drawn / "params.yaml").read_text()
    source = write_coco(tmp_path / "blog")
    told = import_labels(drawn, "coco", source)
    assert "--write-schema" in told
    assert "horse:" in told
    assert (drawn / "params.yaml").read_text() == before
    import_labels(drawn, "coco", source, ImportOptions(name="again", write_schema=True))
    check_workspace(drawn)
    schema = load_schema(read_params(drawn))
    assert schema.class_names == ("cow", "horse")  # there were cows, and they stay
    assert yaml.safe_load(before)["schema"]["classes"]["cow"]["keypoints"] == list(schema.classes["cow"].keypoints)
    assert [list(edge) for edge in schema.classes["cow"].edges] == schema_to_mapping(schema)["classes"]["cow"][
        "skeleton"
    ]
    assert "# Every random draw" in (drawn / "params.yaml").read_text()


def test_nothing_is_overwritten(drawn: Path, tmp_path: Path) -> None:
    source = write_coco(tmp_path / "blog")
    taken = next(path.name for path in (drawn / "data/raw").iterdir())
    with pytest.raises(ConfigError, match="is there already"):
        import_labels(drawn, "coco", source, ImportOptions(name=taken))
    for name in ("../x", "a/b", ".x"):
        with pytest.raises(ConfigError, match="cannot name a folder"):
            import_labels(drawn, "coco", source, ImportOptions(name=name))


def test_all_faults_come_at_once_and_nothing_is_written_unless_they_are_to_be_skipped(
    empty: Path, tmp_path: Path
) -> None:
    source = write_coco(tmp_path / "blog")
    document = json.loads(source.read_text())
    document["images"] += [
        {"id": "3", "file_name": "gone.jpg", "width": 100, "height": 80},
        {"id": "4", "file_name": "2.jpg", "width": 80, "height": 100},
        {"id": "5", "file_name": "3.jpg", "width": 100, "height": 80},
    ]
    document["annotations"].append({"id": 9, "image_id": "5", "category_id": 0, "bbox": "x", "keypoints": []})
    for name in ("2.jpg", "3.jpg"):
        Image.new("RGB", (100, 80)).save(source.parent / "imgs" / name)
    source.write_text(json.dumps(document))
    with pytest.raises(FaultsError) as caught:
        import_labels(empty, "coco", source)
    assert [(fault.file, fault.kind) for fault in caught.value.faults] == [
        ("2.jpg", "size-mismatch"),
        ("coco.json", "bad-annotation"),
        ("gone.jpg", "no-image"),
    ]
    assert "EXIF" in str(caught.value)
    assert not (empty / "data/raw/coco").exists()
    told = import_labels(empty, "coco", source, ImportOptions(skip_faulty=True))
    assert "2 images" in told.splitlines()[0]
    assert "left out: 3 faults in 3 files" in told


@pytest.mark.parametrize(
    ("kind", "message"), [("coco", "no COCO JSON"), ("yolo", "no image that can be read"), ("dlc", "no Collected")]
)
def test_a_folder_of_something_else_is_refused(empty: Path, tmp_path: Path, kind: Source, message: str) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises((AnnotationError, ConfigError), match=message):
        import_labels(empty, kind, tmp_path / "other")


LAYOUTS = {
    "Ultralytics": ("images/train/1.jpg", "labels/train/1.txt", "train/1.jpg"),
    "Roboflow": ("train/images/1.jpg", "train/labels/1.txt", "train/1.jpg"),
    "flat": ("images/1.jpg", "labels/1.txt", "1.jpg"),
    "side by side": ("1.jpg", "1.txt", "1.jpg"),
    "labels below": ("1.jpg", "labels/1.txt", "1.jpg"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_yolo_folders(empty: Path, tmp_path: Path, layout: str) -> None:
    image, label, target = LAYOUTS[layout]
    for name in (image, label):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80)).save(tmp_path / "set" / image)
    (tmp_path / "set" / label).write_text("0  0.5 0.5  0.4 0.2  0.45 0.5 3  0.5 0.5 1\n")
    (tmp_path / "set/classes.txt").write_text("horse\n")
    (tmp_path / "set/data.yaml").write_text("kpt_shape: [2, 3]\ndownload: import os\n")
    told = import_labels(empty, "yolo", tmp_path / "set", ImportOptions(write_schema=True))
    assert "visibility counted from 1" in told
    assert "`download` of data.yaml" in told
    assert (empty / "data/raw/set" / target).exists()
    (arrived,) = read(empty).values()
    assert arrived.instances[0].class_name == "horse"
    assert arrived.instances[0].keypoints.keys() == {"1"}


def test_a_label_file_without_image_is_a_fault(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.new("RGB", (100, 80)).save(tmp_path / "set/1.jpg")
    for name in ("1.txt", "2.txt"):
        (tmp_path / "set" / name).write_text("0 0.5 0.5 0.4 0.2 0.45 0.5 2\n")
    with pytest.raises(FaultsError, match=r"2\.txt: no image has this label file's name"):
        import_labels(empty, "yolo", tmp_path / "set")


def test_a_deeplabcut_project(empty: Path, tmp_path: Path) -> None:
    video = tmp_path / "project/labeled-data/day 1"
    video.mkdir(parents=True)
    for name in ("img1.png", "img2.png", "img3.png"):
        Image.new("RGB", (100, 80), (len(name), 3, 4)).save(video / name)
    rows = ["scorer,A,A,A,A", "bodyparts,left_ear,left_ear,right_ear,right_ear", "coords,x,y,x,y"]
    rows += [f"labeled-data/day 1/img{n}.png,{values}" for n, values in enumerate(("20,20,40,30", ",,,", "20,20,,"), 1)]
    (video / "CollectedData_A.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "project/config.yaml").write_text("skeleton:\n- [left_ear, right_ear]\n")
    options = ImportOptions(classes=("mouse",), box_margin=0.25, write_schema=True)
    told = import_labels(empty, "dlc", tmp_path / "project", options)
    assert "boxes derived from the points, with a margin of 0.25 of their extent (--box-margin) (1)" in told
    assert "convert will find: 1 fault in 1 file" in told  # a lone point has no box, and is not lost
    assert "keypoint-without-object" not in told
    schema = load_schema(read_params(empty))
    assert schema.classes["mouse"].edges == schema.classes["mouse"].pairs == (("left_ear", "right_ear"),)
    folder = read_raw(ConvertParams(), schema, empty)
    assert [fault.kind for fault in folder.faults] == ["keypoint-without-object"]
    assert [item.box_xyxy for file in folder.files if file.image for item in file.image.instances] == [(15, 15, 45, 35)]


def test_how_far_it_is_is_told(empty: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    options = ImportOptions(write_schema=True)
    import_labels(empty, "coco", write_coco(tmp_path / "blog"), options, lambda *now: told.append(now))
    assert list(dict.fromkeys(what for what, _, _ in told)) == [
        "reading labels",
        "looking for the images",
        "copying images",
        "reading what was written",
    ]
    for what in ("looking for the images", "copying images"):
        assert [now[1:] for now in told if now[0] == what] == [(0, 2), (1, 2), (2, 2)]


def test_other_spellings_are_the_schemas_names(drawn: Path, empty: Path, tmp_path: Path) -> None:
    export_labels(drawn, "coco", tmp_path / "out")
    path = tmp_path / "out/keypoints.json"
    document = json.loads(path.read_text())
    del document["info"]
    (category,) = document["categories"]
    category["name"] = "Cow"
    category["keypoints"] = [name.replace("_", " ").title() for name in category["keypoints"]]
    path.write_text(json.dumps(document))
    told = import_labels(empty, "coco", tmp_path / "out", ImportOptions(name="farm"))
    assert "names read in another spelling: 'Cow' as 'cow'" in told
    assert "params.yaml: its schema holds these labels already" in told
    assert comparable(read(empty), 9) == comparable(read(drawn), 9)


@pytest.mark.parametrize("keypoints", [None, [0, 0, 0]])
def test_labels_without_keypoints_are_not_said_to_fit(drawn: Path, tmp_path: Path, keypoints: Any) -> None:
    path = write_coco(tmp_path / "boxes")
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation.pop("keypoints", None)
        if keypoints:
            annotation["keypoints"] = keypoints * 2
    if not keypoints:
        for category in document["categories"]:
            category.pop("keypoints", None)
            category.pop("keypoint", None)
    path.write_text(json.dumps(document))
    told = import_labels(drawn, "coco", path, ImportOptions(name="boxes"))
    assert "holds these labels already" not in told
    assert "a pose model cannot be trained on them" in told
    assert ("no keypoint is labelled" in told) == bool(keypoints)
