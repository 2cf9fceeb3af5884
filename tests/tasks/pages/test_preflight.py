from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from keypipe.drawing.colours import class_colours, keypoint_colours
from keypipe.keypoints.skeleton import Schema, Skeleton
from tasks.grading.preflight import AugmentedImage
from tasks.pages.preflight import GAP_PX, TILE_PX, draw_batch, to_labels, to_objects

SCHEMA = Schema({"奶牛": Skeleton(("nose", "左耳", "tail"), (("nose", "左耳"),), ())})
TWO = Schema({"cow": Skeleton(("nose",), (), ()), "dog": Skeleton(("nose", "tail"), (), ())})
GREY = np.full((100, 100, 3), 128, np.uint8)
SCALE = TILE_PX / 100


def image(*objects: tuple[int, tuple[float, float, float, float], list[tuple[float, float, int]]]) -> AugmentedImage:
    """Make a grey image of objects: class id, box, and a keypoint for each slot."""
    classes, boxes, points = ([item[part] for item in objects] for part in range(3))
    keypoints = np.array(points, float) if objects else np.zeros((0, len(SCHEMA.slots), 3))
    return AugmentedImage("a.jpg", GREY, classes, np.array(boxes, float).reshape(-1, 4), keypoints)


def draw(*images: AugmentedImage, schema: Schema = SCHEMA) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(draw_batch(images, schema)))).astype(int)


def at(pixels: np.ndarray, x: float, y: float, column: int = 0) -> np.ndarray:
    """Return the pixel at a place of an image in the first row."""
    return pixels[round(GAP_PX + SCALE * y), round(GAP_PX + column * (TILE_PX + GAP_PX) + SCALE * x)]


def test_keypoints_have_their_colours_and_boxes_their_edges() -> None:
    cow = image((0, (20, 20, 80, 80), [(30, 30, 2), (50, 50, 0), (70, 60, 1)]))
    pixels, colours = draw(cow), keypoint_colours(SCHEMA)
    assert np.abs(at(pixels, 30, 30) - colours["nose"]).max() < 30
    assert np.abs(at(pixels, 70, 60) - 128).max() < 30, "an occluded keypoint is a ring"
    ring = pixels[round(GAP_PX + SCALE * 60), round(GAP_PX + SCALE * 70) - 12 : round(GAP_PX + SCALE * 70) + 12]
    assert np.abs(ring - colours["tail"]).max(axis=1).min() < 40
    assert np.abs(at(pixels, 50, 80) - class_colours(SCHEMA)["奶牛"]).max() < 60
    assert np.abs(at(pixels, 50, 50) - 128).max() < 8, "what is not labelled is not drawn"


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 2, 3), (9, 2, 3)])
def test_images_stand_in_rows_and_six_at_most(count: int, columns: int, rows: int) -> None:
    height, width = draw(*[image()] * count).shape[:2]
    assert width == columns * (TILE_PX + GAP_PX) + GAP_PX
    assert rows * (TILE_PX + GAP_PX) < height < rows * (TILE_PX + 5 * GAP_PX) + GAP_PX


def test_images_with_objects_come_first() -> None:
    pixels = draw(image(), image((0, (10, 10, 90, 90), [(16, 16, 2), (50, 50, 0), (80, 80, 0)])))
    assert np.abs(at(pixels, 16, 16) - keypoint_colours(SCHEMA)["nose"]).max() < 30
    assert np.abs(at(pixels, 16, 16, column=1) - 128).max() < 10


def test_right_of_each_image_stands_how_a_later_epoch_changes_it() -> None:
    def cow(x: float) -> AugmentedImage:
        return image((0, (10, 10, 90, 90), [(x, 50, 2), (50, 50, 0), (80, 80, 0)]))

    batch, later = [image(), cow(20), cow(20), cow(20), cow(20)], [image(), *[cow(60)] * 4]
    picture = Image.open(io.BytesIO(draw_batch(batch, SCHEMA, later)))
    pixels, colour = np.asarray(picture).astype(int), keypoint_colours(SCHEMA)["nose"]
    assert pixels.shape == draw(*[image()] * 6).shape, "three images, twice each"
    for column, x in ((0, 20), (1, 60)):
        assert np.abs(at(pixels, x, 50, column) - colour).max() < 30
        assert np.abs(at(pixels, 80 - x, 50, column) - colour).max() > 60


def test_every_keypoint_has_its_name_in_its_colour() -> None:
    cow = image((0, (20, 20, 80, 80), [(30, 30, 2), (50, 50, 0), (70, 60, 1)]))
    labels = to_labels(to_objects(cow, SCHEMA, 2.0), SCHEMA)
    assert [(label.text, label.xy) for label in labels] == [("nose", (60.0, 60.0)), ("tail", (140.0, 120.0))]
    assert [label.colour for label in labels] == [keypoint_colours(SCHEMA)[name] for name in ("nose", "tail")]
    plate = draw(cow)[round(GAP_PX + SCALE * 30), round(GAP_PX + SCALE * 30) + 13]
    assert plate.max() < 80, "the name is on a dark plate right of its keypoint"


def test_with_several_classes_each_object_says_which() -> None:
    none = [(0.0, 0.0, 0), (0.0, 0.0, 0)]
    animals = image((0, (20, 20, 50, 40), none), (1, (55, 60, 95, 90), none))
    labels = to_labels(to_objects(animals, TWO, 1.0), TWO)
    assert [(label.text, label.xy) for label in labels] == [("cow", (20.0, 20.0)), ("dog", (55.0, 60.0))]
    assert [label.colour for label in labels] == list(class_colours(TWO).values())
