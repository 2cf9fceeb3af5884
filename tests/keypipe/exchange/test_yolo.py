from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keypipe.dataset.yolo import format_labels, to_data_yaml, to_yolo
from keypipe.errors import ConfigError
from keypipe.exchange.labels import SCHEMA_KEY, LabelSet
from keypipe.exchange.yolo import COCO_KEYPOINTS, YoloTexts, parse_yolo_labels
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import parse_schema, schema_to_mapping

DATA = {"names": {0: "cow"}, "kpt_shape": [3, 3], "kpt_names": {0: ["nose", "ear", "tail"]}}
LINE = "0 0.5 0.5 0.4 0.2 0.4 0.45 2 0 0 0 0.6 0.55 1"
EXPECTED = Instance("cow", (30, 32, 70, 48), {"nose": Keypoint(40, 36), "tail": Keypoint(60, 44, Visibility.OCCLUDED)})


def parse(
    text: str | None, data: dict[str, Any] | None = None, classes: list[str] | None = None, **names: Any
) -> LabelSet:
    texts = YoloTexts(
        {"a.jpg": text}, {"a.jpg": (100, 80)}, {"a.jpg": "a.txt"}, DATA if data is None else data, classes or []
    )
    return parse_yolo_labels(texts, **names)


def approx(instance: Instance) -> Any:
    points = {name: pytest.approx((point.x, point.y)) for name, point in instance.keypoints.items()}
    states = {name: point.visibility for name, point in instance.keypoints.items()}
    return instance.class_name, pytest.approx(instance.box_xyxy), points, states


def values(instance: Instance) -> Any:
    points = {name: (point.x, point.y) for name, point in instance.keypoints.items()}
    return instance.class_name, instance.box_xyxy, points, {n: p.visibility for n, p in instance.keypoints.items()}


def test_a_flawless_line_needs_no_repair() -> None:
    labels = parse(LINE)
    assert values(labels.images[0].instances[0]) == approx(EXPECTED)
    assert not labels.repairs | labels.losses
    assert not labels.faults


@pytest.mark.parametrize(
    ("text", "repair"),
    [
        (LINE.replace(" ", "  "), "several blanks"),
        (LINE.replace(" ", "\t"), "several blanks"),
        ("\ufeff" + LINE + " \n\n", ""),
        (LINE.replace("0 0.5", "0.0 0.5", 1), ""),
        ("0 0.5 0.5 0.4 0.2 0.4 0.45 3 0 0 1 0.6 0.55 2", "counted from 1"),
        ("0 0.5 0.5 0.4 0.2 0.4 0.45 2 0 0 2 0.6 0.55 1", "(0, 0)"),
    ],
)
def test_what_scripts_get_wrong_is_mended_and_counted(text: str, repair: str) -> None:
    labels = parse(text)
    assert values(labels.images[0].instances[0]) == approx(EXPECTED)
    assert any(repair in key for key in labels.repairs) or not repair
    assert not labels.faults


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        (LINE, (3, 3)),
        ("0 0.5 0.5 0.4 0.2 0.4 0.45 0.6 0.55", (2, 2)),
        ("0 0.5 0.5 0.4 0.2 0.4 0.45 0.6 0.55 0.1 0.2", (3, 2)),
        ("0 0.5 0.5 0.4 0.2 0.4 0.45 1 0.6 0.55 2", (2, 3)),
    ],
)
def test_kpt_shape_is_told_from_the_columns(line: str, shape: tuple[int, int]) -> None:
    labels = parse(line, data={}, classes=["cow"])
    assert len(labels.schema.slots) == shape[0]
    assert labels.schema.slots[0] == "1"
    assert f"kpt_shape {list(shape)} told from the number of columns" in labels.repairs
    assert labels.schema.class_names == ("cow",)


@pytest.mark.parametrize(
    ("data", "classes", "given_names", "expected"),
    [
        ({"names": ["cow"]}, [], (), ("cow",)),
        ({"names": {0: "cow", 1: "calf"}}, ["x"], (), ("cow", "calf")),
        ({}, ["cow"], (), ("cow",)),
        ({}, [], (), ("0",)),
        ({"names": ["a"]}, ["b"], ("cow",), ("cow",)),
    ],
)
def test_class_names(
    data: dict[str, Any], classes: list[str], given_names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert parse(LINE, data, classes, class_names=given_names).schema.class_names == expected


def test_keypoint_names_given_pairs_and_cocos() -> None:
    labels = parse(LINE, keypoints=("snout", "left_ear", "right_ear"))
    assert labels.schema.classes["cow"].pairs == (("left_ear", "right_ear"),)
    with pytest.raises(ConfigError, match="expected the names of 3 keypoints, got 1"):
        parse(LINE, keypoints=("snout",))
    flip = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    person = parse("", {"names": ["person"], "kpt_shape": [17, 3], "flip_idx": flip})
    assert person.schema.slots == COCO_KEYPOINTS
    assert parse("", {"names": ["person"], "kpt_shape": [17, 3]}).schema.slots[:2] == ("1", "2")


def test_pairs_come_from_flip_idx() -> None:
    labels = parse(LINE, DATA | {"flip_idx": [0, 2, 1], "kpt_oks_sigmas": [0.1] * 3})
    assert labels.schema.classes["cow"].pairs == (("ear", "tail"),)
    assert labels.losses == {"`kpt_oks_sigmas` of data.yaml": 1}


def test_an_image_without_a_label_file_is_one_without_objects() -> None:
    labels = parse(None)
    assert (labels.images[0].instances, labels.images[0].faulty) == ([], False)
    assert labels.repairs == {"images without a label file, taken as images without objects": 1}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0 0.5 0.5 0.1 0.1 0.5", "expected 14 values for kpt_shape [3, 3], got 6"),
        (LINE.replace("0.45", "x"), "could not convert string to float"),
        (LINE.replace("0 0.5", "1.5 0.5", 1), "1.5 is no class id"),
        (LINE.replace(" 2 ", " 7 "), "the visibility of 'nose' is 7"),
    ],
)
def test_bad_rows_are_faults_with_their_line(text: str, found: str) -> None:
    labels = parse(f"{LINE}\n{text}")
    assert [(fault.file, fault.shape) for fault in labels.faults] == [("a.txt", 1)]
    assert found in labels.faults[0].found
    assert labels.images[0].faulty


def test_labels_of_a_detector_are_refused() -> None:
    with pytest.raises(ConfigError, match="no label line has keypoints"):
        parse("0 0.5 0.5 0.1 0.1", data={})


SCHEMA = parse_schema(
    {
        "classes": {
            "cow": {"keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [["nose", "left_ear"]]},
            "bird": {"keypoints": ["beak", "nose"]},
        }
    }
)
inside = st.integers(1, 99).map(float)
state = st.sampled_from([Visibility.OCCLUDED, Visibility.VISIBLE])


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    class_name = draw(st.sampled_from(SCHEMA.class_names))
    names = SCHEMA.classes[class_name].keypoints
    labelled = draw(st.sets(st.sampled_from(names)))
    keypoints = {name: Keypoint(draw(inside), draw(inside), draw(state)) for name in names if name in labelled}
    left, top = draw(st.integers(0, 49)), draw(st.integers(0, 49))
    return Instance(class_name, (left, top, left + draw(st.integers(1, 50)), top + draw(st.integers(1, 50))), keypoints)


@given(st.lists(instances(), max_size=4))
def test_what_keypipe_exports_comes_back(written: list[Instance]) -> None:
    data = to_data_yaml(SCHEMA, ["train"], [0.1] * 4) | {SCHEMA_KEY: schema_to_mapping(SCHEMA)}
    text = format_labels(to_yolo(instance, (100, 100), SCHEMA) for instance in written)
    labels = parse_yolo_labels(YoloTexts({"a.jpg": text}, {"a.jpg": (100, 100)}, {"a.jpg": "a.txt"}, data))
    assert labels.schema == SCHEMA
    assert [values(item) for item in labels.images[0].instances] == [
        (name, pytest.approx(box, abs=1e-4), {n: pytest.approx(xy, abs=1e-4) for n, xy in points.items()}, states)
        for name, box, points, states in map(values, written)
    ]
    assert not labels.faults


def test_coco8_pose(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("coco8-pose")
    texts = {path.stem: path.read_text() for path in sorted((folder / "labels").rglob("*.txt"))}
    sizes = dict.fromkeys(texts, (640, 480))
    data = yaml.safe_load((folder / "coco8-pose.yaml").read_text(encoding="utf-8"))
    labels = parse_yolo_labels(YoloTexts(dict(texts), sizes, dict(zip(texts, texts, strict=True)), data))
    assert labels.schema.slots == COCO_KEYPOINTS
    assert not labels.faults
    again = {
        image.name: format_labels(to_yolo(item, (640, 480), labels.schema) for item in image.instances)
        for image in labels.images
    }
    assert again == texts
