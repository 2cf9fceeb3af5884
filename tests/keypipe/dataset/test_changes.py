"""What changed from one dataset to another."""

from __future__ import annotations

from typing import Any

import pytest

from keypipe.dataset.changes import DatasetChanges, Relabelling, SplitChange, compare_datasets, match_objects
from keypipe.dataset.coco import CocoFile, to_coco
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}, "calf": {"keypoints": ["nose"]}}})


def cow(left: float = 10, class_name: str = "cow", nose: Any = (12, 12), tail: Any = None, seen: int = 2) -> Instance:
    points = {name: Keypoint(*at, Visibility(seen)) for name, at in (("nose", nose), ("tail", tail)) if at}
    return Instance(class_name, (left, 10, left + 20, 30), points)


def image(path: str, *instances: Instance, md5: str | None = None) -> AnnotatedImage:
    return AnnotatedImage(path, (100, 100), md5 or f"md5 of {path}", instances, "")


def dataset(*images: AnnotatedImage) -> CocoFile:
    return to_coco(images, SCHEMA)


def test_images_come_go_and_take_other_names() -> None:
    before = dataset(image("a.jpg", cow()), image("b.jpg"), image("c.jpg", md5="same"), image("d.jpg", md5="same"))
    after = dataset(image("a.jpg", cow(), md5="other"), image("e.jpg"), image("x/c.jpg", cow(), md5="same"))
    assert compare_datasets(before, after) == DatasetChanges(
        added=("e.jpg",),
        removed=("b.jpg", "d.jpg"),
        renamed=(("c.jpg", "x/c.jpg"),),
        replaced=("a.jpg",),
        relabelled=(Relabelling("x/c.jpg", objects_added=1),),
        images=(4, 3),
        objects=(1, 2),
    )


def test_nothing_changed() -> None:
    same = dataset(image("a.jpg", cow(), cow(60)), image("b.jpg"))
    turned = dataset(image("b.jpg"), image("a.jpg", cow(60), cow()))
    changes = compare_datasets(same, turned, {"a.jpg": "train"}, {"a.jpg": "train"})
    assert not any(changes.counts().values())


@pytest.mark.parametrize(
    ("before", "after", "expected", "words"),
    [
        ([cow()], [cow(nose=(15, 16))], {"keypoints_moved": 1, "largest_move_px": 5.0},
         "1 keypoint moved by up to 5.0 px"),
        ([cow()], [cow(tail=(20, 20))], {"keypoints_added": 1}, "1 keypoint added"),
        ([cow(tail=(20, 20))], [cow(nose=None)], {"keypoints_removed": 2}, "2 keypoints removed"),
        ([cow()], [cow(seen=1)], {"visibilities": 1}, "1 keypoint of another visibility"),
        ([cow()], [cow(11), cow(60)], {"boxes": 1, "objects_added": 1}, "1 object added, 1 box changed"),
        ([cow(), cow(60)], [cow(60)], {"objects_removed": 1}, "1 object removed"),
        ([cow()], [cow(class_name="calf")], {"objects_added": 1, "objects_removed": 1},
         "1 object added, 1 object removed"),
        ([cow()], [cow(70)], {"objects_added": 1, "objects_removed": 1}, "1 object added, 1 object removed"),
    ],
)  # fmt: skip
def test_what_a_person_changed(before: Any, after: Any, expected: dict[str, Any], words: str) -> None:
    changes = compare_datasets(dataset(image("a.jpg", *before)), dataset(image("a.jpg", *after)))
    assert changes.relabelled == (Relabelling("a.jpg", **expected),)
    assert str(changes.relabelled[0]) == words


def test_objects_are_paired_by_what_fits_best_together() -> None:
    # the nearest box of the first would leave none to the second
    assert match_objects([cow(10), cow(22)], [cow(18), cow(34)]) == [(0, 0), (1, 1)]
    assert match_objects([], [cow()]) == []


def test_images_that_went_to_another_split() -> None:
    before = dataset(image("a.jpg"), image("b.jpg"), image("c.jpg", md5="c"), image("aside.jpg"))
    after = dataset(image("a.jpg"), image("b.jpg"), image("d.jpg", md5="c"), image("aside.jpg"))
    splits = {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}
    changes = compare_datasets(
        before, after, splits, {"a.jpg": "train", "b.jpg": "train", "d.jpg": "val", "aside.jpg": "val"}
    )
    assert changes.splits == (SplitChange("b.jpg", "val", "train"), SplitChange("d.jpg", "test", "val"))
    assert changes.counts()["in another split"] == 2
