from __future__ import annotations

from typing import Any

import pytest

from keypipe.exchange.splits import split_of_path, splits_of_data_yaml


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/images/1.jpg", "train"),
        ("images/Train2017/1.jpg", "train"),
        ("valid/images/1.jpg", "val"),
        ("images/test/1.jpg", "test"),
        ("images/training/cow/1.jpg", "train"),
        ("images/1.jpg", ""),
        ("trains/1.jpg", ""),
        ("train/val/1.jpg", ""),
        ("test.jpg", ""),
        ("", ""),
    ],
)
def test_folders_name_a_split(path: str, split: str) -> None:
    assert split_of_path(path) == split


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("annotations/person_keypoints_val2017.json", "val"),
        ("annotations/instances_train.json", "train"),
        ("test/_annotations.coco.json", "test"),
        ("train/test.json", "train"),
        ("latest.json", ""),
    ],
)
def test_a_file_of_labels_names_the_split_of_all_its_images(path: str, split: str) -> None:
    assert split_of_path(path, with_name=True) == split


IMAGES = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "c/d/1.jpg"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"train": "../a", "val": "./b", "test": "c"}, ["train", "train", "val", "test"]),
        ({"train": ["a", "c/d"], "val": "b/"}, ["train", "train", "val", "train"]),
        ({"train": "/data/me/set/a", "val": "D:\\set\\b"}, ["train", "train", "val", ""]),
        ({"train": "train.txt", "val": "val.txt"}, ["train", "val", "val", ""]),
        ({"train": "a", "val": "a", "test": "b"}, ["", "", "test", ""]),
        ({"train": ".", "val": "."}, ["", "", "", ""]),
        ({"train": {"x": 1}, "val": 3}, ["", "", "", ""]),
        ({}, ["", "", "", ""]),
    ],
)
def test_data_yaml_names_folders_and_lists(data: dict[str, Any], expected: list[str]) -> None:
    lists = {"train.txt": ["./a/1.jpg"], "val.txt": ["/elsewhere/a/2.jpg", "b\\1.jpg", ""]}
    found = splits_of_data_yaml(data, IMAGES, lambda name: lists.get(name, []))
    assert [found.get(image, "") for image in IMAGES] == expected


def test_where_data_yaml_says_nothing_folders_count() -> None:
    images = ["images/train/1.jpg", "images/val/1.jpg", "images/1.jpg"]
    found = splits_of_data_yaml({"train": "gone"}, images, lambda _: [])
    assert found == {"images/train/1.jpg": "train", "images/val/1.jpg": "val"}
