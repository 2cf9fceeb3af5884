"""Text on pictures: tags at boxes, names at points, captions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from keypipe.drawing.colours import INK, PAPER, Colour, class_colours
from keypipe.drawing.layer import Ink, Layer, RgbImage, blend
from keypipe.drawing.markings import DrawnObject, Point, overlap, size_wh, unit_px
from keypipe.images.fonts import load_font
from keypipe.keypoints.boxes import Array, Box
from keypipe.keypoints.skeleton import Schema

Place = tuple[int, int, int, int]
"""Left, top, right, bottom of a plate, pixels."""

_GAP_PX = 2  # between a box and its tag
_NAME_FONT_PX = 10
_NAME_GAP_PX = 10  # between a point and its name
_CORNERS_SUPERSAMPLING = 4
_MAX_CHARACTERS = 200  # of a text on a picture
_DIRECTIONS = 16
_RINGS = 10  # of places around a point, each a third further off


def draw_tags(picture: RgbImage, objects: Sequence[DrawnObject], schema: Schema) -> None:
    """Write every object's tag at its box, out of the others' way where there is room.

    Args:
        picture: uint8 (height, width, 3); changed.
        objects: those without a label get no tag.
        schema: gives the tags their colours.
    """
    of_class, wanted = class_colours(schema), [item for item in objects if item.label]
    fonts = [_tag_font_px(size_wh(picture), item.box_xyxy) for item in wanted]
    sizes = [_plate_size(item.label, font_px) for item, font_px in zip(wanted, fonts, strict=True)]
    places = place_tags([item.box_xyxy for item in wanted], sizes, size_wh(picture))
    for item, font_px, place in zip(wanted, fonts, places, strict=True):
        colour = item.colour or of_class.get(item.class_name, PAPER)
        _put(picture, _plate(item.label, font_px, (*colour, 255), INK), place[:2])


def place_tags(boxes: Sequence[Box], sizes_wh: Sequence[tuple[int, int]], picture_wh: tuple[int, int]) -> list[Place]:
    """Choose for every tag a place at its box where no earlier tag is, if there is one.

    Args:
        boxes: what the tags belong to, pixels.
        sizes_wh: widths and heights of the tags, pixels.
        picture_wh: width and height of the picture, pixels; a tag that fits into it lies in it.

    Returns:
        Left, top, right, bottom of each tag.
    """
    sizes = np.array(sizes_wh).reshape(-1, 1, 2)
    corners = _moved_inside(_tag_corners(np.array(boxes).reshape(-1, 4, 1), sizes_wh), sizes, picture_wh)
    candidates = np.concatenate([corners, corners + sizes], axis=2)
    taken = np.empty((len(boxes), 4), dtype=np.int64)
    for index, own in enumerate(candidates):
        others = taken[:index]
        meet = (own[:, None, :2] < others[:, 2:]) & (own[:, None, 2:] > others[:, :2])
        free = ~meet.all(axis=2).any(axis=1)
        taken[index] = own[free.argmax()]  # the first that is free, else the first
    return [(left, top, right, bottom) for left, top, right, bottom in taken.tolist()]


def _tag_corners(boxes: Array, sizes_wh: Sequence[tuple[int, int]]) -> Array:
    """Return upper left corners for tags, (n, 6, 2): above the box, below it, inside it."""
    left, top, right, bottom = boxes.swapaxes(0, 1)
    width, height = np.array(sizes_wh).reshape(-1, 2, 1).swapaxes(0, 1)
    xs = [left, right - width, left, right - width, left + _GAP_PX, right - width - _GAP_PX]
    above, below = top - height - _GAP_PX, bottom + _GAP_PX
    ys = [above, above, below, below, top + _GAP_PX, bottom - height - _GAP_PX]
    return np.stack([np.hstack(xs), np.hstack(ys)], axis=2)


def _moved_inside(corners: Array, sizes: NDArray[np.int64], picture_wh: tuple[int, int]) -> NDArray[np.int64]:
    """Move plates into the picture and to whole pixels; corners and sizes are (..., 2)."""
    last = np.maximum(np.array(picture_wh) - sizes - 1, 1)
    return np.minimum(np.maximum(np.rint(corners), 1), last).astype(np.int64)


def draw_names(picture: RgbImage, names: Sequence[tuple[str, Point]]) -> None:
    """Write names beside points, out of each other's way where there is room.

    Args:
        picture: uint8 (height, width, 3); changed.
        names: names and points, pixels.
    """
    taken: list[Place] = []
    gap = _NAME_GAP_PX
    for name, (x, y) in names:
        width, height = size = _plate_size(name, _NAME_FONT_PX)
        middle, beside = y - height / 2, x - width / 2
        wanted = np.array([(x + gap, middle), (x - gap - width, middle), (beside, y + gap), (beside, y - gap - height)])
        corners = _moved_inside(wanted, np.array(size), size_wh(picture))
        places: list[Place] = [(left, top, left + width, top + height) for left, top in corners.tolist()]
        whole = (corners == np.rint(wanted)).all(axis=1)
        free = [
            place
            for place, is_whole in zip(places, whole, strict=True)
            if is_whole and not any(overlap(place, other) for other in taken)
        ]
        place = free[0] if free else places[0]
        taken.append(place)
        _put(picture, _plate(name, _NAME_FONT_PX, (*INK, 200), PAPER), place[:2])


class Label(msgspec.Struct, frozen=True):
    """A text that belongs to a point: pixels of the picture, and the colour of the letters."""

    text: str
    xy: Point
    colour: Colour


def draw_labels(picture: RgbImage, labels: Sequence[Label], font_px: int) -> None:
    """Write a text near every point: over no other text and no point where there is room, and joined to its point.

    Args:
        picture: uint8 (height, width, 3); changed.
        labels: what is written, the first ones nearest to their points.
        font_px: size of the letters, pixels.
    """
    if not labels:
        return
    sizes = [_plate_size(label.text, font_px) for label in labels]
    places = place_labels([label.xy for label in labels], sizes, size_wh(picture), gap_px=0.8 * font_px)
    points = np.array([label.xy for label in labels])
    ends = np.clip(points, [place[:2] for place in places], [place[2:] for place in places])
    lengths = np.maximum(np.hypot(*(ends - points).T), 1e-9)
    starts = points + (ends - points) * np.minimum(0.4 * font_px / lengths, 1)[:, None]  # the mark stays free
    layer = Layer(picture, (0, 0, picture.shape[1], picture.shape[0]))
    layer.lines(starts, ends, 3.0, [(*INK, 160)] * len(labels))
    layer.lines(starts, ends, 1.4, [(*label.colour, 255) for label in labels])
    layer.paste()
    for label, place in zip(labels, places, strict=True):
        _put(picture, _plate(label.text, font_px, (*INK, 215), label.colour), place[:2])


def place_labels(
    points: Sequence[Point], sizes_wh: Sequence[tuple[int, int]], picture_wh: tuple[int, int], gap_px: float
) -> list[Place]:
    """Choose for every label the nearest place around its point that is free; the least covered one if none is.

    Args:
        points: what the labels belong to, pixels.
        sizes_wh: widths and heights of the labels, pixels.
        picture_wh: width and height of the picture, pixels.
        gap_px: distance of the nearest places from their points.

    Returns:
        Left, top, right, bottom of each label.
    """
    turns = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    ways = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    reaches = gap_px * 1.35 ** np.arange(_RINGS)
    dots = np.array([(x - gap_px / 2, y - gap_px / 2, x + gap_px / 2, y + gap_px / 2) for x, y in points])
    places: list[Place] = []
    taken = dots.reshape(-1, 4)
    for point, size in zip(points, sizes_wh, strict=True):
        half = np.array(size) / 2
        middles = np.array(point) + (ways * (reaches[:, None, None] + half)).reshape(-1, 2)
        corners = _moved_inside(middles - half, np.array(size), picture_wh)
        boxes = np.concatenate([corners, corners + np.array(size)], axis=1)
        shared = np.minimum(boxes[:, None, 2:], taken[:, 2:]) - np.maximum(boxes[:, None, :2], taken[:, :2])
        covered = np.prod(np.maximum(shared, 0), axis=2).sum(axis=1)
        left, top, right, bottom = boxes[covered.argmin()].tolist()  # the first of those that cover nothing
        places.append((left, top, right, bottom))
        taken = np.concatenate([taken, [(left - 1, top - 1, right + 1, bottom + 1)]])
    return places


def draw_caption(picture: RgbImage, text: str) -> None:
    """Write a caption into the lower left corner.

    Args:
        picture: uint8 (height, width, 3); changed.
        text: a few words.
    """
    font_px = _font_px(size_wh(picture))
    margin = round(0.5 * font_px)
    plate = _plate(text, font_px, (*INK, 190), PAPER)
    _put(picture, plate, (margin, picture.shape[0] - margin - plate.shape[0]))


# ---------------------------------------------------------------------------------------- plates


def _font_px(size_wh: tuple[int, int]) -> int:
    return max(10, round(13.5 * unit_px(size_wh)))


def _tag_font_px(size_wh: tuple[int, int], box: Box) -> int:
    """Choose a size of text that does not bury a small object."""
    diagonal = math.hypot(box[2] - box[0], box[3] - box[1])
    return max(9, min(_font_px(size_wh), round(0.13 * diagonal)))


def _shorten(text: str) -> str:
    """Return a text that a font can lay out on one line and memory can hold: names of files and labels are any."""
    line = re.sub("[\n\r\x1c-\x1e\x85\u2029]", " ", text)  # where Pillow's raqm raises
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 1] + "…"


@lru_cache(maxsize=4096)
def _plate_size(text: str, font_px: int) -> tuple[int, int]:
    """Return width and height of a text with a margin, pixels."""
    left, _, right, _ = load_font(font_px).getbbox(_shorten(text))
    return math.ceil(right - left + 0.8 * font_px), math.ceil(1.42 * font_px)


@lru_cache(maxsize=4096)
def _plate(text: str, font_px: int, ground: Ink, colour: Colour) -> NDArray[np.uint8]:
    """Write a text on a plate with round corners: the same ones come again and again.

    Returns:
        uint8 (height, width, 4), premultiplied; shared, not to be changed.
    """
    width, height = _plate_size(text, font_px)
    text = _shorten(text)
    factor = _CORNERS_SUPERSAMPLING
    mask = Image.new("L", (width * factor, height * factor), 0)
    corners = (0, 0, width * factor - 1, height * factor - 1)
    ImageDraw.Draw(mask).rounded_rectangle(corners, radius=0.2 * height * factor, fill=ground[3])
    plate = Image.new("RGB", (width, height), ground[:3])
    ImageDraw.Draw(plate).text((width / 2, height / 2), text, fill=colour, font=load_font(font_px), anchor="mm")
    letters = Image.new("L", (width, height), 0)
    ImageDraw.Draw(letters).text((width / 2, height / 2), text, fill=255, font=load_font(font_px), anchor="mm")
    opacity = np.maximum(np.asarray(mask.reduce(factor)), np.asarray(letters)).astype(np.uint16)[..., None]
    premultiplied = (np.asarray(plate) * opacity + 127) // 255
    pixels = np.concatenate([premultiplied, opacity], axis=2).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


def _put(picture: RgbImage, plate: NDArray[np.uint8], corner: tuple[int, int]) -> None:
    """Lay a plate onto a picture, its upper left corner at a pixel; what reaches beyond is cut off."""
    left, top = max(0, corner[0]), max(0, corner[1])
    right, bottom = max(0, corner[0] + plate.shape[1]), max(0, corner[1] + plate.shape[0])
    part = picture[top:bottom, left:right]
    if part.size:
        from_left, from_top = left - corner[0], top - corner[1]
        height, width = part.shape[:2]
        blend(part, np.ascontiguousarray(plate[from_top : from_top + height, from_left : from_left + width]))
