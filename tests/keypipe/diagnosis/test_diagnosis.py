from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.diagnosis.diagnosis import Diagnosis, diagnose
from keypipe.diagnosis.duplicates import find_duplicates
from keypipe.diagnosis.findings import (
    KINDS,
    Finding,
    at_or_above,
    count_findings,
    describe_kind,
    put_splits,
    sort_findings,
    to_finding,
)
from keypipe.errors import Fault
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint
from keypipe.keypoints.skeleton import Schema, parse_schema
from tests.conftest import point, rectangle

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}, "dog": {"keypoints": ["nose"]}}})
COW = [rectangle("cow", (20, 20, 90, 90)), point("nose", 30, 30), point("tail", 80, 80)]

Write = Callable[..., Path]


def examine(raw: Path, schema: Schema = SCHEMA, **options: Any) -> Diagnosis:
    return diagnose(read_folder(raw, schema, LabelmeOptions()), raw, schema, **options)


def placed(name: str, md5: str) -> AnnotatedImage:
    return AnnotatedImage(f"raw/{name}.jpg", (100, 100), md5, (), f"{name}.json")


def test_copies_in_two_splits_are_found_where_the_first_one_has_none() -> None:
    images = [placed("a", "1"), placed("b", "1"), placed("c", "1"), placed("d", "2"), placed("e", "3")]
    splits = {"raw/b.jpg": "train", "raw/c.jpg": "test", "raw/d.jpg": "train", "raw/e.jpg": "test"}
    found = {item.file: item for item in find_duplicates(images, splits, [["1", "2", "3"]]) if "across" in item.kind}
    assert (found["c.json"].kind, found["c.json"].severity) == ("duplicate-across-sides", "error")
    assert found["c.json"].others == ("b.json", "raw/b.jpg")
    assert (found["e.json"].kind, found["e.json"].others[0]) == ("near-duplicate-across-sides", "b.json")
    assert found.keys() == {"c.json", "e.json"}


def test_other_spellings_and_look_alikes_are_shown(tmp_path: Path, write_labelme: Write) -> None:
    schema = parse_schema(
        {"classes": {"cow": {"keypoints": ["nose", "Tail", "tail"]}}, "aliases": {"Nose": "nose", "snout": "nose"}}
    )
    shapes = [rectangle("cow ", (20, 20, 90, 90)), point("tail", 80, 80), point("Tail", 30, 80)]
    for number, name in enumerate(("nose", "Nose", "ｎｏｓｅ", "snout", "snout")):
        write_labelme(f"{number}.jpg", [*shapes, point(name, 30, 30)])
    diagnosis = examine(tmp_path / "raw", schema)
    found = [(item.kind, item.message) for item in diagnosis.findings if item.severity == "warning"]
    assert found == [
        ("look-alike-names", "the keypoints 'Tail' and 'tail' differ only in how they are spelt"),
        ("other-spelling", "the label 'Nose' (1 time) is read as 'nose'"),
        ("other-spelling", "the label 'cow ' (5 times) is read as 'cow'"),
        ("other-spelling", "the label 'ｎｏｓｅ' (1 time) is read as 'nose'"),
    ]  # snout is somebody's word
    schema = parse_schema({"classes": {name: {"keypoints": ["nose"]} for name in ("cow", "Cow", "horse")}})
    alike = [item.message for item in examine(tmp_path / "raw", schema).findings if item.kind == "look-alike-names"]
    assert alike == ["the classes 'cow' and 'Cow' differ only in how they are spelt"]


def found_in(diagnosis: Diagnosis, file: str) -> list[tuple[str, str, int | None]]:
    return [(found.kind, found.severity, found.shape) for found in diagnosis.findings if found.file == file]


def write_many(write_labelme: Write, shapes: list[dict[str, Any]], count: int = 20) -> None:
    for number in range(count):
        write_labelme(f"good{number}.jpg", shapes)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (COW, []),
        (COW[:2], [("missing-keypoint", "warning", 0)]),
        ([rectangle("cow", (0, 20, 90, 90)), *COW[1:2]], [("missing-keypoint", "info", 0)]),
        (COW[:1], [("no-keypoints", "warning", 0)]),
        ([*COW, rectangle("cow", (120, 20, 122, 60))], [("no-keypoints", "warning", 3), ("tiny-box", "warning", 3)]),
        ([*COW, point("nosee", 40, 40)], [("misspelt-label", "warning", 3)]),
        ([*COW, point("Nose", 40, 40)], [("misspelt-label", "warning", 3)]),
        ([*COW, rectangle("cows", (100, 20, 150, 60))], [("misspelt-label", "warning", 3)]),
        ([*COW, {**point("nose", 40, 40), "shape_type": "circle"}], [("circle-for-keypoint", "error", 3)]),
        ([*COW, {**rectangle("cow", (0, 0, 5, 5)), "shape_type": "line"}], [("wrong-shape-type", "error", 3)]),
        ([*COW, {**rectangle("cow", (30, 30, 35, 30)), "shape_type": "line"}], [("wrong-shape-type", "warning", 3)]),
        ([*COW, point("cow", 150, 40)], [("wrong-shape-type", "error", 3)]),
        ([*COW, point("cow", 40, 40)], [("wrong-shape-type", "warning", 3)]),
        ([*COW[:2], rectangle("tail", (60, 40, 64, 44))], [("wrong-shape-type", "error", 2)]),
        ([*COW, {**point("nosee", 40, 40), "shape_type": "circle"}], [("misspelt-label", "warning", 3)]),
        (
            [*COW, {**rectangle("cows", (100, 20, 150, 60)), "shape_type": "polygon"}],
            [("misspelt-label", "warning", 3)],
        ),
        ([*COW, point("nose", 40, 40)], [("repeated-keypoint", "error", 3)]),
        ([*COW, point("nose", 150, 40)], [("keypoint-without-object", "error", 3)]),
        ([*COW, point("nose", 250, 40)], [("keypoint-outside-image", "error", 3)]),
    ],
)
def test_a_fault_is_found_at_its_shape(
    tmp_path: Path, write_labelme: Write, shapes: list[dict[str, Any]], expected: list[tuple[str, str, int]]
) -> None:
    write_many(write_labelme, COW)
    write_labelme("odd.jpg", shapes)
    diagnosis = examine(tmp_path / "raw")
    assert found_in(diagnosis, "odd.json") == expected
    assert not [found for found in diagnosis.findings if found.file.startswith("good")]


def grouped(shapes: list[dict[str, Any]], group: int = 1) -> list[dict[str, Any]]:
    return [{**shape, "group_id": group} for shape in shapes]


def test_a_keypoint_far_outside_its_box_is_found_unless_all_are_drawn_so(tmp_path: Path, write_labelme: Write) -> None:
    outside = grouped([*COW[:2], point("tail", 120, 80)])
    write_many(write_labelme, COW)
    write_labelme("odd.jpg", outside)
    assert found_in(examine(tmp_path / "raw"), "odd.json") == [("keypoint-outside-box", "warning", 2)]
    write_many(write_labelme, outside)
    assert found_in(examine(tmp_path / "raw"), "odd.json") == []


def test_a_keypoint_that_is_often_left_out_is_not_missing(tmp_path: Path, write_labelme: Write) -> None:
    write_many(write_labelme, COW, 15)
    for number in range(5):
        write_labelme(f"half{number}.jpg", COW[:2])
    assert {found.kind for found in examine(tmp_path / "raw").findings} == {"class-without-objects"}


def test_a_group_with_several_boxes_hides_no_repeats(tmp_path: Path, write_labelme: Write) -> None:
    other = [rectangle("cow", (0, 0, 180, 90)), point("nose", 120, 30), point("tail", 170, 80)]
    write_labelme("odd.jpg", grouped([*COW, *other]))
    found = examine(tmp_path / "raw").findings
    assert [(item.kind, item.shape) for item in found if item.file == "odd.json"] == [
        ("several-boxes-in-group", 3),
        ("repeated-keypoint", 4),
        ("repeated-keypoint", 5),
    ]
    nose = next(item for item in found if item.shape == 4)
    assert (nose.class_name, nose.points, nose.box_xyxy) == ("cow", ((120, 30),), (0, 0, 180, 90))


def test_repeats_under_an_alias_are_found_too(tmp_path: Path, write_labelme: Write) -> None:
    classes = {"cow": {"keypoints": ["nose", "tail"]}}
    schema = parse_schema({"classes": classes, "aliases": {"snout": "nose", "heifer": "cow"}})
    boxes = [rectangle("heifer", (10, 10, 60, 60), 1), rectangle("cow", (15, 10, 120, 60), 1)]
    write_labelme("a.jpg", [*boxes, point("nose", 20, 20, 1), point("snout", 90, 20, 1)])
    findings = examine(tmp_path / "raw", schema).findings
    (repeat,) = [finding for finding in findings if finding.kind == "repeated-keypoint"]
    assert (repeat.shape, repeat.class_name) == (3, "cow")


def test_an_object_annotated_twice(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("odd.jpg", [*grouped(COW, 1), *grouped(COW, 2)])
    assert found_in(examine(tmp_path / "raw"), "odd.json") == [("duplicate-object", "warning", 3)]


def test_bytes_that_are_not_what_the_name_says(tmp_path: Path, write_labelme: Write) -> None:
    Image.new("RGB", (200, 100)).save(write_labelme("odd.jpg", COW).with_suffix(".jpg"), "PNG")
    assert found_in(examine(tmp_path / "raw"), "odd.json") == [("image-format", "info", None)]


def test_other_labels_are_named_once_with_an_example(tmp_path: Path, write_labelme: Write) -> None:
    write_many(write_labelme, [*COW, rectangle("tree", (100, 20, 150, 60))], 3)
    unknown = [found for found in examine(tmp_path / "raw").findings if found.kind == "unknown-label"]
    assert [(found.file, found.shape) for found in unknown] == [("good0.json", 3)]
    assert "3 times" in unknown[0].message


def test_images_without_annotations(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", COW)
    write_labelme("alone.jpg", COW).unlink()
    assert found_in(examine(tmp_path / "raw"), "alone.jpg") == [("unlabelled-image", "info", None)]


def test_boxes_are_measured_at_the_models_input(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", [rectangle("dog", (10, 10, 22, 22)), point("nose", 15, 15)])
    assert not found_in(examine(tmp_path / "raw", input_px=200), "a.json")
    assert found_in(examine(tmp_path / "raw", input_px=100), "a.json") == [("tiny-box", "warning", 0)]


def test_what_the_dataset_lacks(tmp_path: Path, write_labelme: Write) -> None:
    write_many(write_labelme, COW[:2])
    splits = {f"raw/good{number}.jpg": "train" if number else "val" for number in range(20)}
    write_labelme("dog.jpg", [rectangle("dog", (10, 10, 90, 90)), point("nose", 15, 15)])
    diagnosis = examine(tmp_path / "raw", splits=splits | {"raw/dog.jpg": "train"})
    whole = [(found.kind, found.class_name, found.split) for found in diagnosis.findings if found.file == ""]
    assert whole == [
        ("class-missing-on-side", "dog", "val"),
        ("keypoint-never-labelled", "cow", ""),
        ("rare-class", "dog", ""),
    ]
    cow, _ = diagnosis.classes
    assert (cow.objects, cow.images, cow.objects_by_split) == (20, 20, {"train": 19, "val": 1})
    assert [(item.visible, item.occluded, item.not_labelled) for item in cow.keypoints] == [(20, 0, 0), (0, 0, 20)]


def test_findings_carry_the_split_of_their_image(tmp_path: Path, write_labelme: Write) -> None:
    write_labelme("a.jpg", COW[:1])
    (found,) = [item for item in examine(tmp_path / "raw", splits={"raw/a.jpg": "val"}).findings if item.file]
    assert (found.kind, found.split, found.image) == ("no-keypoints", "val", "raw/a.jpg")


# ------------------------------------------------------------------------------------- duplicates


def image(path: str, md5: str, x: float = 5.0) -> AnnotatedImage:
    instances = (Instance("cow", (0, 0, 10, 10), {"nose": Keypoint(x, 5)}),)
    return AnnotatedImage(f"raw/{path}", (100, 100), md5, instances, f"{path}.json")


IMAGES = [image("a", "1"), image("b", "1"), image("c", "2"), image("d", "3", x=50)]


def test_equal_and_similar_images_name_the_first() -> None:
    found = find_duplicates(IMAGES, {}, [["1", "2"]])
    assert [(item.kind, item.severity, item.file, item.others) for item in found] == [
        ("duplicate-image", "warning", "b.json", ("a.json", "raw/a")),
        ("near-duplicate-image", "info", "c.json", ("a.json", "raw/a")),
    ]


def test_two_splits_are_graver() -> None:
    splits = {"raw/a": "train", "raw/b": "test", "raw/c": "val"}
    found = find_duplicates(IMAGES, splits, [["1", "2"]])
    assert [(item.kind, item.severity, item.split) for item in found] == [
        ("duplicate-across-sides", "error", "test"),
        ("near-duplicate-across-sides", "warning", "val"),
    ]
    assert "which is in train, while this one is in test" in found[0].message


def test_different_annotations_of_one_image_are_said() -> None:
    (found,) = find_duplicates([image("a", "1"), image("b", "1", x=9)], {})
    assert "annotated differently" in found.message


# --------------------------------------------------------------------------------------- findings


def find(kind: str, severity: Any, file: str = "a.json", shape: int | None = None) -> Finding:
    return Finding(kind=kind, severity=severity, file=file, shape=shape, message="m", fix="f")


def test_the_gravest_come_first_and_none_twice() -> None:
    info, warning, error = find("unknown-label", "info"), find("tiny-box", "warning"), find("bad-box", "error", shape=1)
    assert sort_findings([info, warning, error, warning]) == [error, warning, info]
    assert count_findings([info, warning, error]) == {
        "error": {"bad-box": 1},
        "warning": {"tiny-box": 1},
        "info": {"unknown-label": 1},
    }


@pytest.mark.parametrize(("limit", "count"), [("error", 1), ("warning", 2), ("never", 0)])
def test_what_stops(limit: Any, count: int) -> None:
    findings = [find("bad-box", "error"), find("tiny-box", "warning"), find("unknown-label", "info")]
    assert len(at_or_above(findings, limit)) == count


def test_a_fault_is_an_error() -> None:
    found = to_finding(Fault("a.json", 3, "bad-box", "x", "y"))
    assert (found.severity, found.shape, str(found)) == ("error", 3, "error: a.json shape 3: x -> y")


def test_kinds_that_are_not_known_yet_have_a_title() -> None:
    assert describe_kind("some-new-fault").title == "Some new fault"
    assert all(kind.why.endswith(".") for kind in KINDS.values())


def test_a_split_that_is_known_stays() -> None:
    found = Finding(kind="k", severity="info", file="", message="", fix="", split="val", image="raw/a")
    assert put_splits([found], {"raw/a": "train"})[0].split == "val"


# -------------------------------------------------------------------------------------- real data


def test_circuit_diagrams(shared_data: Callable[[str], Path]) -> None:
    keypoints = {"keypoints": ["Drain", "Source", "Gate"]}
    schema = parse_schema({"classes": {"nmos": keypoints, "pmos": keypoints}})
    raw = shared_data("circuit_mos") / "labelme"
    found = {(item.kind, item.file, item.shape) for item in examine(raw, schema).findings}
    assert not {item for item in found if item[0] in {"several-boxes-in-group", "repeated-keypoint"}}
    assert {item for item in found if item[0] == "shared-group"} == {("shared-group", "1068.json", 29)}
    assert {item for item in found if item[0] == "missing-keypoint"} == {
        ("missing-keypoint", "109.json", 6),
        ("missing-keypoint", "191.json", 0),
        ("missing-keypoint", "685.json", 3),
    }
    files = {item[1] for item in found if item[0] == "image-format"}
    assert files == {
        path.name for path in raw.glob("*.json") if path.with_suffix(".png").read_bytes().startswith(b"\xff\xd8")
    }
    assert len(files) == 174
    # Drain and gate of these transistors were given each other's names.
    assert ("exchanged-keypoints", "930.json", 110) in found


def test_circuit_diagrams_repeat_a_collector(shared_data: Callable[[str], Path]) -> None:
    schema = parse_schema({"classes": {"npn": {"keypoints": ["Base", "Emitter", "Collect"]}}})
    found = {
        (item.kind, item.file, item.shape) for item in examine(shared_data("circuit_mos") / "labelme", schema).findings
    }
    assert ("repeated-keypoint", "303.json", 43) in found


def test_set_squares(shared_data: Callable[[str], Path]) -> None:
    schema = parse_schema({"classes": {"sjb_rect": {"keypoints": ["angle_30", "angle_60", "angle_90"]}}})
    diagnosis = examine(shared_data("setsquare") / "labelme", schema)
    assert not [found for found in diagnosis.findings if found.severity == "error"]
    missing = [(found.file, found.shape) for found in diagnosis.findings if found.kind == "missing-keypoint"]
    assert sorted(missing) == [
        ("DSC_0285.json", 1),
        ("DSC_0351.json", 1),
        ("DSC_0377.json", 0),
        ("DSC_0415.json", 0),
        ("DSC_0419.json", 2),
        ("MVIMG_20230331_082329.json", 0),
    ]
    assert {found.kind for found in diagnosis.findings if found.severity == "warning"} == {"missing-keypoint"}


def test_some_objects_at_a_time_give_what_all_at_once_give(
    tmp_path: Path, write_labelme: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["nose", "tail", "left_foot", "right_foot", "left_ear", "right_ear"]
    places = np.array([(30, 40), (90, 40), (40, 80), (80, 80), (25, 30), (45, 25)])
    rng = np.random.default_rng(0)
    for number in range(60):
        spots = dict(zip(names, places + rng.normal(0, 1, places.shape), strict=True))
        if number == 10:
            spots["left_foot"], spots["right_foot"] = spots["right_foot"], spots["left_foot"]
        if number == 20:
            spots["tail"] += (-25, 20)
        if number == 30:
            del spots["nose"]
        boxes = [rectangle("cow", (10, 10, 110, 95))] * (2 if number == 40 else 1)
        write_labelme(f"{number}.jpg", [*boxes, *(point(name, *spot.tolist()) for name, spot in spots.items())])
    schema = parse_schema({"classes": {"cow": {"keypoints": names, "pairs": "auto"}}})
    whole = examine(tmp_path / "raw", schema, input_px=320)
    monkeypatch.setattr("keypipe.diagnosis.class_checks._BLOCK", 7)
    monkeypatch.setattr("keypipe.diagnosis.class_checks._CLOUD", 20)
    parts = examine(tmp_path / "raw", schema, input_px=320)
    kinds = {found.kind for found in whole.findings}
    assert {"missing-keypoint", "duplicate-object", "keypoint-outlier", "left-right-swap"} <= kinds
    assert parts.findings == whole.findings
    assert parts.classes == whole.classes
    (some,), (every,) = parts.clouds, whole.clouds
    assert 15 <= len(some.aligned) < len(every.aligned) == 61
    assert some.marked.sum() == every.marked.sum() == 3
