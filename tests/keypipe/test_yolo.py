from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.annotation import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.errors import AnnotationError, ConfigError
from keypipe.skeleton import parse_schema
from keypipe.yolo import (
    YoloInstance,
    expand_sigmas,
    format_labels,
    is_current,
    parse_labels,
    to_data_yaml,
    to_view,
    to_yolo,
    view_names,
    write_view,
)

SCHEMA = parse_schema(
    {"classes": {"cow": {"keypoints": ["nose", "left_ear", "right_ear"]}, "bird": {"keypoints": ["beak", "nose"]}}}
)


def test_slots_that_a_class_lacks_are_zero() -> None:
    bird = Instance("bird", (10, 20, 30, 60), {"beak": Keypoint(20, 30), "nose": Keypoint(25, 40, Visibility.OCCLUDED)})
    assert to_yolo(bird, (100, 200), SCHEMA) == YoloInstance(
        1, (0.2, 0.2, 0.2, 0.2), ((0.25, 0.2, 1), (0, 0, 0), (0, 0, 0), (0.2, 0.15, 2))
    )


share = st.integers(0, 10**6).map(lambda value: value / 10**6)
point = st.tuples(share, share, st.sampled_from([0, 1, 2]))
lines = st.lists(
    st.builds(YoloInstance, st.integers(0, 9), st.tuples(share, share, share, share), st.tuples(point, point))
)


@given(lines)
def test_labels_are_read_back(instances: list[YoloInstance]) -> None:
    assert parse_labels(format_labels(instances), (2, 3)) == instances


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.1 0.1 0.5 0.5 2\n0 1 2", "line 2: expected 8 values"),
        ("0 0.5 0.5 0.1 0.1 0.5 x 2", "line 1: could not convert"),
        ("0 0.5 0.5 0.1 0.1 0.5 0.5 3", "line 1: 3 is not a valid Visibility"),
    ],
)
def test_bad_labels_name_their_line(text: str, message: str) -> None:
    with pytest.raises(AnnotationError) as caught:
        parse_labels(text, (1, 3))
    assert message in str(caught.value)


def test_coco8_pose_labels_are_written_back_byte_for_byte(shared_data: Callable[[str], Path]) -> None:
    files = sorted((shared_data("coco8-pose") / "labels").rglob("*.txt"))
    seen = set()
    for file in files:
        text = file.read_text()
        instances = parse_labels(text, (17, 3))
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


def image(path: str, *instances: Instance) -> AnnotatedImage:
    return AnnotatedImage(path, (100, 100), path, instances, "a.json")


def write_images(data: Path, *paths: str) -> None:
    for path in paths:
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(path.encode())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_view_is_links_and_labels_and_is_updated_in_place(tmp_path: Path) -> None:
    write_images(tmp_path, "raw/a/1.jpg", "raw/b/1.jpg", "raw/c/2.jpg")
    cow = Instance("cow", (0, 0, 50, 50), {"nose": Keypoint(1, 1)})
    yolo = tmp_path / "yolo"
    first = to_view(
        {"train": [image("raw/a/1.jpg", cow), image("raw/b/1.jpg")], "val": [image("raw/c/2.jpg")]}, SCHEMA, "x"
    )
    write_view(yolo, first, "one")
    link = yolo / "images/train/a/1.jpg"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.read_bytes() == b"raw/a/1.jpg"
    assert (yolo / "labels/train/b/1.txt").read_bytes() == b""
    assert (yolo / "labels/train/a/1.txt").read_text().startswith("0 0.250000")

    sides = {"train": ["raw/a/1.jpg", "raw/b/1.jpg"], "val": ["raw/c/2.jpg"]}
    assert is_current(yolo, sides, [], "one")
    assert not is_current(yolo, sides, [1], "one")
    assert not is_current(yolo, sides, [], "two")
    kept = (yolo / "labels/train/a/1.txt").stat().st_mtime_ns
    (yolo / "labels/train.cache").write_bytes(b"stale")
    second = to_view({"train": [image("raw/a/1.jpg", cow)], "val": [image("raw/b/1.jpg")]}, SCHEMA, "x")
    write_view(yolo, second, "two")
    assert not (yolo / "labels/train.cache").exists()
    assert not (yolo / "labels/train/b").exists()
    assert not (yolo / "images/val/c").exists()
    assert (yolo / "labels/train/a/1.txt").stat().st_mtime_ns == kept

    fresh = tmp_path / "fresh" / "yolo"
    write_images(tmp_path / "fresh", "raw/a/1.jpg", "raw/b/1.jpg")
    write_view(fresh, second, "two")
    assert snapshot(fresh) == snapshot(yolo)


def test_a_damaged_view_is_mended(tmp_path: Path) -> None:
    write_images(tmp_path, "raw/1.jpg")
    view = to_view({"train": [image("raw/1.jpg")]}, SCHEMA, "x")
    write_view(tmp_path / "yolo", view, "one")
    (tmp_path / "yolo/labels/train/1.txt").unlink()
    link = tmp_path / "yolo/images/train/1.jpg"
    link.unlink()
    link.symlink_to("elsewhere")
    assert not is_current(tmp_path / "yolo", {"train": ["raw/1.jpg"]}, [], "one")
    write_view(tmp_path / "yolo", view, "one")
    assert (tmp_path / "yolo/labels/train/1.txt").exists()
    assert link.read_bytes() == b"raw/1.jpg"
    assert is_current(tmp_path / "yolo", {"train": ["raw/1.jpg"]}, [], "one")


def test_a_large_view_is_written_by_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"raw/{index}.jpg" for index in range(6)]
    write_images(tmp_path, *names)
    view = to_view({"train": [image(name) for name in names]}, SCHEMA, "x")
    write_view(tmp_path / "yolo", view, "one")
    monkeypatch.setattr("keypipe.yolo._FILES_PER_PROCESS", 2)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/raw").symlink_to(tmp_path / "raw")
    write_view(tmp_path / "two/yolo", view, "one")
    assert snapshot(tmp_path / "two/yolo") == snapshot(tmp_path / "yolo")
