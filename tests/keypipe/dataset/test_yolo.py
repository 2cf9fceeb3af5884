from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.dataset.coco import to_coco, to_images
from keypipe.dataset.yolo import (
    SUFFIXES,
    LabelFormatter,
    YoloInstance,
    expand_sigmas,
    format_labels,
    label_name,
    to_data_yaml,
    to_yolo,
    view_names,
)
from keypipe.errors import ConfigError
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema(
    {"classes": {"cow": {"keypoints": ["nose", "left_ear", "right_ear"]}, "bird": {"keypoints": ["beak", "nose"]}}}
)


def test_slots_that_a_class_lacks_are_zero() -> None:
    bird = Instance("bird", (10, 20, 30, 60), {"beak": Keypoint(20, 30), "nose": Keypoint(25, 40, Visibility.OCCLUDED)})
    assert to_yolo(bird, (100, 200), SCHEMA) == YoloInstance(
        1, (0.2, 0.2, 0.2, 0.2), ((0.25, 0.2, 1), (0, 0, 0), (0, 0, 0), (0.2, 0.15, 2))
    )


def parse(text: str) -> list[YoloInstance]:
    instances: list[YoloInstance] = []
    for line in text.splitlines():
        class_id, *values = line.split()
        x, y, width, height, *flat = map(float, values)
        keypoints = tuple((flat[at], flat[at + 1], int(flat[at + 2])) for at in range(0, len(flat), 3))
        instances.append(YoloInstance(int(class_id), (x, y, width, height), keypoints))
    return instances


share = st.integers(0, 10**6).map(lambda value: value / 10**6)
point = st.tuples(share, share, st.sampled_from([0, 1, 2]))
lines = st.lists(
    st.builds(YoloInstance, st.integers(0, 9), st.tuples(share, share, share, share), st.tuples(point, point))
)


@given(lines)
def test_labels_are_read_back(instances: list[YoloInstance]) -> None:
    assert parse(format_labels(instances)) == instances


pixels = st.floats(0, 100, allow_nan=False, width=32)
boxes = st.tuples(pixels, pixels, pixels, pixels).map(lambda b: (min(b[::2]), min(b[1::2]), max(b[::2]), max(b[1::2])))
keypoints = st.builds(Keypoint, pixels, pixels, st.sampled_from([Visibility.OCCLUDED, Visibility.VISIBLE]))
objects = st.sampled_from(SCHEMA.class_names).flatmap(
    lambda name: st.builds(
        Instance,
        st.just(name),
        boxes,
        st.dictionaries(st.sampled_from(SCHEMA.classes[name].keypoints), keypoints),
    )
)


@given(st.lists(objects), st.tuples(st.integers(100, 3000), st.integers(100, 3000)))
def test_labels_straight_from_coco_are_those_by_way_of_instances(
    some: list[Instance], size_wh: tuple[int, int]
) -> None:
    file = to_coco([AnnotatedImage("raw/a.jpg", size_wh, "", tuple(some), "")], SCHEMA)
    (read,) = to_images(file)
    expected = format_labels(to_yolo(instance, size_wh, SCHEMA) for instance in read.instances)
    assert LabelFormatter(file.categories, SCHEMA).format(size_wh, file.annotations) == expected


def test_coco8_pose_labels_are_written_back_byte_for_byte(shared_data: Callable[[str], Path]) -> None:
    files = sorted((shared_data("coco8-pose") / "labels").rglob("*.txt"))
    seen = set()
    for file in files:
        text = file.read_text()
        instances = parse(text)
        assert format_labels(instances) == text
        seen |= {visibility for instance in instances for _, _, visibility in instance.keypoints}
    assert len(files) == 8
    assert seen == {0, 1, 2}


def test_data_yaml() -> None:
    assert to_data_yaml(SCHEMA, ["train", "val"], [0.1] * 4) == {
        "train": "images/train",
        "val": "images/val",
        "kpt_shape": [4, 3],
        "flip_idx": [0, 2, 1, 3],
        "names": {0: "cow", 1: "bird"},
        "kpt_names": {0: ["nose", "left_ear", "right_ear", "beak"], 1: ["nose", "left_ear", "right_ear", "beak"]},
        "kpt_oks_sigmas": [0.1] * 4,
    }


def test_sigmas_are_one_for_all_or_one_each() -> None:
    assert expand_sigmas(0.1, 3, "s").tolist() == [0.1] * 3
    assert expand_sigmas([0.1, 0.2], 2, "s").tolist() == [0.1, 0.2]
    for bad in (0, -1, [0.1], [0.1, 0, 0.1]):
        with pytest.raises(ConfigError, match=r"s: expected one number above 0, or 3 of them"):
            expand_sigmas(bad, 3, "s")


def test_view_names_never_share_a_label_file() -> None:
    names = view_names(["raw/a/x.jpg", "raw/a/x.png", "raw/b/x.jpg", "raw/images/y.jpg", "derived/z.jpg"])
    assert names == {
        "derived/z.jpg": "z.jpg",
        "raw/a/x.jpg": "a/x_jpg.jpg",
        "raw/a/x.png": "a/x_png.png",
        "raw/b/x.jpg": "b/x.jpg",
        "raw/images/y.jpg": "images_/y.jpg",
    }


def test_view_names_have_suffixes_that_ultralytics_reads() -> None:
    from ultralytics.data.utils import IMG_FORMATS

    assert set(SUFFIXES) == IMG_FORMATS
    names = view_names(["raw/a.jfif", "raw/b.JPG", "raw/c.d/e", "raw/f.photo", "raw/g.jpe", "raw/g.jpg"])
    assert names == {
        "raw/a.jfif": "a.jpg",
        "raw/b.JPG": "b.JPG",
        "raw/c.d/e": "c.d/e.jpg",
        "raw/f.photo": "f.jpg",
        "raw/g.jpe": "g_jpg.jpg",
        "raw/g.jpg": "g_jpg_2.jpg",
    }


def test_a_name_made_for_a_namesake_is_nobody_elses() -> None:
    names = view_names(["raw/a.jpg", "raw/a.png", "raw/a_jpg.jpg", "raw/a_png_2.txt.jpg"])
    assert names["raw/a_jpg.jpg"] == "a_jpg.jpg"
    assert len({label_name(name) for name in names.values()}) == 4
