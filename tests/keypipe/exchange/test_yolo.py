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
from keypipe.exchange.yolo import COCO_KEYPOINTS, YoloOptions, YoloTexts, parse_yolo_labels
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
    return parse_yolo_labels(texts, YoloOptions(**names))


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
        (LINE.replace(" ", ";"), "semicolons"),
        (LINE.replace(".", ","), "decimal commas"),
        (LINE.replace(".", ",").replace(" ", ";") + "\n", "decimal commas"),
        (LINE.replace(" ", ","), "commas"),
        (LINE.replace(" ", ", "), "commas"),
        ("\ufeff" + LINE + " \n\n", ""),
        (LINE + "\n , ,\n", ""),
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
        (LINE.replace("0.45", "x"), "'x' is no number"),
        (LINE.replace("0 0.5", "1.5 0.5", 1), "1.5 is no class id"),
        (LINE.replace(" 2 ", " 7 "), "the visibility of 'nose' is 7"),
        (LINE.replace("0.45", "nan"), "nan where a number belongs"),
        (LINE.replace("0.45", "1e999"), "inf where a number belongs"),
        (LINE.replace("0 0.5", "3 0.5", 1), "no class has the id 3 (there are 0 cow)"),
        (LINE.replace("0 0.5", "1e30 0.5", 1), "1e+30 is no class id"),
        (LINE.replace("0.4 0.2", "0.4 -0.2", 1), "the box 0.5 0.5 0.4 -0.2 is no share of the image"),
        (LINE.replace("0.5 0.5", "50 0.5", 1), "the box 50 0.5 0.4 0.2 is no share of the image"),
    ],
)
def test_bad_rows_are_faults_with_their_line(text: str, found: str) -> None:
    labels = parse(f"{LINE}\n{text}\n{LINE}")
    assert [(fault.file, fault.shape) for fault in labels.faults] == [("a.txt", 1)]
    assert str(labels.faults[0]).startswith("a.txt line 2: ")
    assert found in labels.faults[0].found
    assert labels.images[0].faulty


def test_rows_that_are_broken_over_lines_are_told_as_such() -> None:
    labels = parse("0\n0.5 0.5 0.4 0.2\n0.4 0.45 2 0 0 0 0.6 0.55 1\n")
    assert [str(fault) for fault in labels.faults] == [
        "a.txt: its rows are broken over 3 lines -> write each object into one line: class, centre x, centre y, width,"
        " height, then x y visibility of 3 keypoints"
    ]


MISFITS = {
    "fewer keypoints": ("0 .5 .5 .4 .2 .4 .45 2 .3 .3 2", [17, 3], r"kpt_shape \[2, 3\].*--kpt-shape 2,3"),
    "no visibility": ("0 .5 .5 .4 .2 .4 .45 .3 .3 .6 .55", [3, 3], r"kpt_shape \[3, 2\].*--kpt-shape 3,2"),
    "visibility": (LINE, [3, 2], r"kpt_shape \[3, 3\].*--kpt-shape 3,3"),
    "both fit": ("0 .5 .5 .4 .2 0 0 0 0 0 0", [3, 3], r"kpt_shape \[2, 3\] or kpt_shape \[3, 2\]"),
    "a score": (LINE + " 0.91", [3, 3], r"kpt_shape \[3, 3\] and a score at the end.*cut the score off\)$"),
    "a score, no data.yaml": (LINE + " 0.91", None, r"kpt_shape \[3, 3\] and a score at the end"),
    "a detector's": ("0 .5 .5 .4 .2", [3, 3], "the labels of a detector"),
    "pixels": ("0 50 40 40 16 40 36 2 0 0 0 60 44 1", [3, 3], "boxes in pixels.*whose image has 100x80 px"),
    "keypoints in pixels": ("0 .5 .5 .4 .2 40 36 2 0 0 0 60 44 1", [3, 3], "keypoints in pixels"),
    "predictions": ("0 .5 .5 .4 .2 .4 .45 .97 0 0 .02 .6 .55 .8", [3, 3], "scores instead of visibilities"),
    "no shape": (LINE, "many", "kpt_shape must be"),
    "no numbers": (LINE, [3, "x"], "kpt_shape must be"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_rows_that_are_something_else_as_a_whole_are_refused_in_one_message(case: str) -> None:
    row, shape, told = MISFITS[case]
    data = {"names": ["cow"]} | ({"kpt_shape": shape} if shape else {})
    with pytest.raises(ConfigError, match=told) as caught:
        parse(f"{row}\n" * 30, data)
    assert len(str(caught.value)) < 500


def test_the_shape_that_a_user_gives_goes_before_that_of_data_yaml() -> None:
    labels = parse(LINE, {"names": ["cow"], "kpt_shape": [17, 3]}, shape=(3, 3))
    assert len(labels.images[0].instances[0].keypoints) == 2


def test_each_class_has_keypoint_names_of_its_own() -> None:
    """Lists may be of different length; what stands behind the shorter one has no name, and is told."""
    names = {"0": ["nose", "left_ear", "right_ear"], 1: ["hinge", "latch"]}
    data = {"names": {0: "cow", 1: "gate", 2: "tree"}, "kpt_shape": [3, 3], "kpt_names": names, "flip_idx": [0, 2, 1]}
    labels = parse("\n".join(LINE.replace("0 0 0", "0.1 0.1 2").replace("0", str(n), 1) for n in range(3)), data)
    assert {name: skeleton.keypoints for name, skeleton in labels.schema.classes.items()} == {
        "cow": ("nose", "left_ear", "right_ear"),
        "gate": ("hinge", "latch"),
        "tree": ("1", "2", "3"),
    }
    assert labels.schema.classes["cow"].pairs == (("left_ear", "right_ear"),)
    assert labels.schema.classes["gate"].pairs == ()
    assert [list(instance.keypoints) for instance in labels.images[0].instances] == [
        ["nose", "left_ear", "right_ear"],
        ["hinge", "latch"],
        ["1", "2", "3"],
    ]
    assert labels.losses == {"keypoints of gate that have no name in data.yaml": 1}
    assert sum("numbered from 1" in key for key in labels.repairs) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kpt_names": {0: ["a", "b", "c", "d"]}}, "are 4, kpt_shape says 3"),
        ({"kpt_names": {0: ["a", "b", "a"]}}, "'a' twice"),
        ({"kpt_names": {0: [["a"], "b"]}}, "must be a list of names"),
        ({"kpt_names": {0: 3}}, "must be a list of names"),
        ({"names": [["cow"]]}, "names must be a list of names"),
        ({"names": {"cow": 0}}, "numbers with names"),
        ({"names": ["cow", "cow"]}, "two classes are called 'cow'"),
        ({"names": {10**9: "cow"}}, "no class id"),
    ],
)
def test_names_that_are_none_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(LINE, DATA | changes)


def test_two_dimensional_keypoints_are_read_and_said() -> None:
    labels = parse("0 .5 .5 .4 .2 .4 .45 0 0 .6 .55", {"names": ["cow"], "kpt_shape": [3, 2]})
    assert list(labels.images[0].instances[0].keypoints) == ["1", "3"]
    assert labels.repairs["keypoints at (0, 0) taken as not labelled"] == 1
    assert labels.repairs["keypoints without visibility (kpt_shape [3, 2]) taken as visible"] == 1


def test_a_box_of_no_area_is_drawn_around_the_points() -> None:
    labels = parse(LINE.replace("0.4 0.2", "0.4 0", 1), box_margin=0.5)
    assert values(labels.images[0].instances[0])[1] == pytest.approx((30, 26, 70, 54))
    assert any(key.startswith("boxes of no area") for key in labels.repairs)


def test_ids_stand_for_names_that_are_not_written_and_a_high_one_makes_no_thousand_classes() -> None:
    labels = parse(f"{LINE}\n{LINE.replace('0', '9000', 1)}", {"kpt_shape": [3, 3]})
    assert labels.schema.class_names == ("0", "9000")


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


@pytest.mark.parametrize(
    ("names", "message"), [(("a", "b", "a "), "'a' is there twice"), (("a", " ", "c"), "is empty")]
)
def test_names_of_the_command_line_are_checked(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"--keypoints: .*{message}"):
        parse(LINE, keypoints=names)


def test_a_keypoint_beyond_the_edge_is_not_in_pixels() -> None:
    labels = parse(LINE.replace("0.6 0.55 1", "1.2 0.55 1"))
    assert labels.images[0].instances[0].keypoints["tail"].x == pytest.approx(120)


def test_a_word_in_a_row_is_named() -> None:
    (fault,) = parse(LINE + "\n" + LINE.replace("0", "cow", 1)).faults
    assert str(fault).startswith("a.txt line 2: 'cow' is no number")
