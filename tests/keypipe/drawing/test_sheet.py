from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from keypipe.drawing import sheet
from keypipe.drawing.colours import INK, class_colours, keypoint_colours
from keypipe.drawing.sheet import Tile, draw_sheet
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import Schema, Skeleton

SCHEMA = Schema({"奶牛": Skeleton(("nose", "左耳", "tail"), (("nose", "左耳"),), ())})
TWO = Schema({"cow": Skeleton(("nose",), (), ()), "dog": Skeleton(("nose", "tail"), (), ())})
GREY = np.full((100, 100, 3), 128, np.uint8)
GAP = 6


def decode(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


def at(pixels: np.ndarray, x: float, y: float, tile: int = 0) -> np.ndarray:
    """Return the pixel at a place of a tile, given in pixels of its picture; tiles are 400 px, in one row."""
    return pixels[round(GAP + 4 * y), round(GAP + tile * (400 + GAP) + 4 * x)]


def cow(**points: tuple[float, float, int]) -> Instance:
    keypoints = {name: Keypoint(x, y, Visibility(v)) for name, (x, y, v) in points.items()}
    return Instance("奶牛", (20.0, 20.0, 80.0, 80.0), keypoints)


def test_keypoints_have_their_colours_and_boxes_their_edges() -> None:
    instance = cow(nose=(30, 30, 2), tail=(70, 60, 1))
    pixels = decode(draw_sheet([Tile(GREY, [instance], "")], SCHEMA, tile_px=400))
    colours = keypoint_colours(SCHEMA)
    assert np.abs(at(pixels, 30, 30) - colours["nose"]).max() < 30
    assert np.abs(at(pixels, 70, 60) - INK).max() < 40, "an occluded keypoint is a ring"
    assert np.abs(at(pixels, 50, 80) - class_colours(SCHEMA)["奶牛"]).max() < 40
    assert np.abs(at(pixels, 50, 50) - 128).max() < 8


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (4, 3, 2), (6, 3, 2)])
def test_pictures_stand_in_rows_over_a_legend(count: int, columns: int, rows: int) -> None:
    height, width = decode(draw_sheet([Tile(GREY, [], "")] * count, SCHEMA, tile_px=400)).shape[:2]
    assert width == columns * 400 + (columns + 1) * GAP
    assert rows * 406 + GAP < height < rows * 406 + GAP + 60


def test_pictures_of_any_shape_keep_their_aspect() -> None:
    wide, high = np.full((50, 100, 3), 128, np.uint8), np.full((100, 50, 3), 60, np.uint8)
    pixels = decode(draw_sheet([Tile(wide, [], ""), Tile(high, [], "")], SCHEMA, tile_px=400))
    assert np.abs(at(pixels, 95, 45) - 128).max() < 8
    assert np.abs(at(pixels, 45, 90, tile=1) - 60).max() < 8
    assert at(pixels, 60, 90, tile=1).min() > 230


def test_names_cover_neither_keypoints_nor_each_other() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = {name: (*rng.uniform(5, 95, 2), 2) for name in SCHEMA.slots}
        near = {name: (x + 4, y, v) for name, (x, y, v) in points.items()}
        picture = Image.fromarray(np.full((400, 400, 3), 128, np.uint8))
        before = np.asarray(picture).copy()
        colours = keypoint_colours(SCHEMA)
        sheet._write_names(picture, [cow(**points), cow(**near)], 4.0, colours, [(0.0, 380.0, 120.0, 400.0)])
        changed = (np.asarray(picture) != before).any(axis=2)
        assert changed.any(), "some names have room"
        assert not changed[381:, :119].any(), "the caption is left alone"
        for x, y, _ in [*points.values(), *near.values()]:
            column, row = min(round(4 * x), 399), min(round(4 * y), 399)
            assert not changed[row, column]


def test_with_several_classes_each_object_says_which() -> None:
    instances = [Instance("cow", (10.0, 0.0, 50.0, 40.0), {}), Instance("dog", (55.0, 60.0, 95.0, 90.0), {})]
    pixels = decode(draw_sheet([Tile(GREY, instances, "")], TWO, tile_px=400))
    for name, place in (("cow", (10.8, 2)), ("dog", (55.8, 57))):
        assert np.abs(at(pixels, *place) - class_colours(TWO)[name]).max() < 40, "the tag has the class's colour"
    assert keypoint_colours(TWO).keys() == {"nose", "tail"}
