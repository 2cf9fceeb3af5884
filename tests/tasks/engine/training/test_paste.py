"""Objects that are pasted keep their keypoints, and what they hide of others is labelled as occluded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tasks.engine.training.paste import MARGIN, Cutout, cut_out, fade, paste, resize

RED, GREEN, BLUE, GREY = (230, 20, 20), (20, 200, 20), (20, 20, 230), (120, 120, 120)
NAMES = ("nose", "left_ear", "right_ear")
COLOURS = (GREEN, RED, BLUE)
FLIP_IDX = [0, 2, 1]


def draw(
    path: Path, objects: list[tuple[int, int, int, int]], size_wh: tuple[int, int] = (96, 96)
) -> list[list[float]]:
    """Draw objects, each with a spot of its own colour at every keypoint; return rows of YOLO labels."""
    picture = Image.new("RGB", size_wh, GREY)
    pen = ImageDraw.Draw(picture)
    rows: list[list[float]] = []
    for left, top, right, bottom in objects:
        pen.rectangle((left, top, right, bottom), fill=(250, 250, 250))
        points = [((left + right) / 2, top + 6), (left + 6, bottom - 6), (right - 6, bottom - 6)]
        for (x, y), colour in zip(points, COLOURS, strict=True):
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
        box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        rows.append([0, *(value / size_wh[0] for value in box)])
        rows[-1] += [value for x, y in points for value in (x / size_wh[0], y / size_wh[1], 2)]
    picture.save(path)
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("paste")
    for name in ("images", "labels"):
        (root / name / "train").mkdir(parents=True)
    for index in range(8):
        left = 6 + 5 * index
        objects = [] if index == 3 else [(left, 10 + index, left + 34, 54 + index)]
        rows = draw(root / f"images/train/{index}.png", objects)
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        (root / f"labels/train/{index}.txt").write_text(text)
    return root


def load(folder: Path, paste_share: float, **arguments: Any) -> Any:
    from ultralytics.cfg import get_cfg

    from tasks.engine.training.repeat import SeededDataset

    still = {"mosaic": 0.0, "scale": 0.0, "translate": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "fliplr": 0.0}
    hyp = get_cfg(overrides={"task": "pose", **still, **arguments})
    data = {"names": {0: "cow"}, "nc": 1, "kpt_shape": [3, 3], "flip_idx": FLIP_IDX, "channels": 3}
    dataset = SeededDataset(
        img_path=str(folder / "images/train"),
        imgsz=96,
        augment=True,
        hyp=hyp,
        data=data,
        task="pose",
        batch_size=4,
        paste=paste_share,
    )
    dataset.start_epoch((1, 0, 0))
    return dataset


def read_samples(dataset: Any) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Return image (height, width, 3), boxes in pixels, and keypoints in pixels, of every sample."""
    found = []
    for index in range(len(dataset)):
        sample = dataset[index]
        image = sample["img"].numpy().transpose(1, 2, 0)
        height, width = image.shape[:2]
        keypoints = sample["keypoints"].numpy() * (width, height, 1)
        found.append((image, sample["bboxes"].numpy() * (width, height, width, height), keypoints))
    return found


def is_near(image: NDArray[Any], xy: NDArray[Any], colour: tuple[int, int, int]) -> bool:
    x, y = (int(np.clip(np.floor(value), 0, 95)) for value in xy)
    return bool(np.abs(image[y, x].astype(int) - colour).max() < 70)


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ({}, [0, 1, 2]),
        ({"fliplr": 1.0}, FLIP_IDX),
        ({"degrees": 40.0, "scale": 0.2}, [0, 1, 2]),
        ({"mosaic": 1.0}, [0, 1, 2]),
    ],
    ids=str,
)
def test_every_visible_keypoint_lies_on_its_spot(folder: Path, arguments: dict[str, Any], order: list[int]) -> None:
    plain, pasted = (read_samples(load(folder, share, **arguments)) for share in (0.0, 1.0))
    assert sum(len(boxes) for _, boxes, _ in pasted) >= sum(len(boxes) for _, boxes, _ in plain) + 4
    visible = occluded = 0
    for image, _, keypoints in pasted:
        for points in keypoints:
            for slot, (x, y, visibility) in enumerate(points):
                visible += visibility == 2
                occluded += visibility == 1
                if visibility == 2 and 2 < x < 94 and 2 < y < 94:
                    assert is_near(image, np.array([x, y]), COLOURS[order[slot]])
    assert visible > 20
    if not arguments:
        assert occluded, "something was pasted over something"


def test_samples_repeat_to_the_bit_and_the_images_in_memory_stay_as_they_are(folder: Path) -> None:
    dataset = load(folder, 1.0)
    first = read_samples(dataset)
    dataset.start_epoch((1, 0, 0))
    for one, other in zip(first, read_samples(dataset), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_without_a_share_nothing_is_drawn_and_the_last_epochs_paste_nothing(folder: Path) -> None:
    from copy import copy

    plain, half = read_samples(load(folder, 0.0)), load(folder, 1.0)
    half.close_mosaic(copy(half._full))
    half.start_epoch((1, 0, 0), 0.5)
    half.start_epoch((1, 0, 0), 1.0)
    for one, other in zip(plain, read_samples(half), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_strength_scales_how_often(folder: Path) -> None:
    dataset = load(folder, 1.0)
    dataset.start_epoch((1, 0, 0), 0.0)
    assert sum(len(boxes) for _, boxes, _ in read_samples(dataset)) == 7


# ------------------------------------------------------------------------------------------- parts

WHITE = np.full((60, 80, 3), 255, np.uint8)


def cutout(visibility: int = 2) -> Cutout:
    """A black object of 20 x 20 px with a margin of 2 px."""
    points = np.array([[12, 4, visibility], [4, 20, 2], [0, 0, 0]], dtype=np.float32)
    return Cutout(
        np.zeros((24, 24, 3), np.uint8), np.zeros((1, 1), np.float32), np.array([2, 2, 22, 22], np.float32), points
    )


def test_what_is_hidden_is_occluded_and_what_was_not_labelled_stays_so() -> None:
    boxes = np.array([[30.0, 20.0, 70.0, 50.0]])
    keypoints = np.array([[[35.0, 25.0, 2.0], [60.0, 45.0, 2.0], [36.0, 26.0, 0.0]]])
    made = paste(WHITE, boxes, keypoints, cutout(), (25, 15))
    assert made is not None
    image, seen, new = made
    assert seen[0, :, 2].tolist() == [1, 2, 0]
    assert np.array_equal(seen[..., :2], keypoints[..., :2])
    assert keypoints[0, 0, 2] == 2, "what was given stays as it is"
    assert WHITE.min() == 255
    assert (image[20, 30] == 0).all()
    assert (image[50, 70] == 255).all()
    assert new.bboxes.tolist() == [[27, 17, 47, 37]]
    assert new.keypoints.tolist() == [[[37, 19, 2], [29, 35, 2], [25, 15, 0]]]


def test_edges_fade() -> None:
    opacity = fade(cutout())
    assert opacity[12, 12] == 1
    assert opacity[12, 2:22].min() == 1
    assert 0 < opacity[12, 0] < opacity[12, 1] < 1


@pytest.mark.parametrize("left_top", [(28, 18), (-14, 5), (70, 5)])
def test_a_place_that_hides_half_an_object_or_lies_half_outside_is_not_taken(left_top: tuple[int, int]) -> None:
    boxes = np.array([[30.0, 20.0, 50.0, 40.0]])
    assert paste(WHITE, boxes, np.zeros((1, 3, 3)), cutout(), left_top) is None


def test_keypoints_beyond_the_edge_are_not_labelled() -> None:
    made = paste(WHITE, np.zeros((0, 4)), np.zeros((0, 3, 3)), cutout(), (-6, 10))
    assert made is not None
    assert made[2].keypoints[0, :, 2].tolist() == [2, 0, 0]
    assert made[2].bboxes[0].tolist() == [0, 12, 16, 32]


def label(boxes: list[list[float]], keypoints: list[list[list[float]]]) -> dict[str, Any]:
    from ultralytics.utils.instance import Instances

    instances = Instances(
        np.array(boxes, np.float32), None, np.array(keypoints, np.float32), bbox_format="xyxy", normalized=False
    )
    return {"img": WHITE, "instances": instances, "cls": np.zeros((len(boxes), 1), np.float32)}


def test_a_cutout_holds_all_labelled_keypoints_also_those_outside_of_the_box() -> None:
    found = cut_out(label([[20, 20, 40, 40]], [[[30, 30, 2], [60, 30, 1], [70, 50, 0]]]), 0)
    assert found is not None
    height, width = found.image.shape[:2]
    assert found.keypoints[1].tolist() == [60 - 18, 30 - 18, 1]
    assert width > 60 - 18
    assert height == 20 + 2 * round(MARGIN * 20)
    assert found.box_xyxy.tolist() == [2, 2, 22, 22]
    twice = resize(found, 2.0)
    assert twice.keypoints[1].tolist() == [2 * (60 - 18), 2 * (30 - 18), 1]
    assert twice.image.shape[1] == 2 * width


def test_an_object_that_cannot_be_cut_out_alone_is_left() -> None:
    points = [[30.0, 30.0, 2.0]]
    assert cut_out(label([[20, 20, 40, 40], [30, 20, 50, 40]], [points, points]), 0) is None
    assert cut_out(label([[20, 20, 40, 40], [44, 20, 60, 40]], [points, points]), 0) is not None
    assert cut_out(label([[20, 20, 40, 40]], [[[30.0, 30.0, 0.0]]]), 0) is None
