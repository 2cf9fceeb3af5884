"""A sheet of pictures as a training sees them, every keypoint with its name beside it.

Apart from ``drawing``, so that a prettier report makes no training out of date.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from keypipe.drawing.colours import INK, PAPER, Colour, class_colours, keypoint_colours
from keypipe.images.fonts import load_font
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import Instance, Visibility
from keypipe.keypoints.skeleton import Schema

Point = tuple[float, float]

_GAP_PX = 6
_DOT_PX = 4.0
_NAME_PX = 12
_LEGEND_PX = 15
_SUPERSAMPLING = 2  # Pillow draws without anti-aliasing


class Tile(msgspec.Struct, frozen=True):
    """One picture of a sheet.

    Attributes:
        image_rgb: uint8 (height, width, 3).
        instances: what it shows, in pixels of the picture.
        caption: written into its corner.
    """

    image_rgb: NDArray[np.uint8]
    instances: Sequence[Instance]
    caption: str


def draw_sheet(tiles: Sequence[Tile], schema: Schema, *, tile_px: int = 480, columns: int = 3) -> bytes:
    """Draw pictures in rows, with boxes, skeletons, named keypoints and a legend of their colours.

    Occluded keypoints are rings. A name for which there is no room beside its keypoint is left to the legend.

    Args:
        tiles: one picture or more.
        schema: classes and skeletons.
        tile_px: longest side of every picture on the sheet.
        columns: pictures in a row.

    Returns:
        The bytes of a JPEG file.
    """
    drawn = [_draw_tile(tile, schema, tile_px) for tile in tiles]
    columns = min(columns, len(drawn))
    rows = [drawn[start : start + columns] for start in range(0, len(drawn), columns)]
    width = columns * tile_px + (columns + 1) * _GAP_PX
    heights = [max(picture.height for picture in row) for row in rows]
    legend = _draw_legend(schema, width)
    sheet = Image.new("RGB", (width, sum(heights) + (len(rows) + 1) * _GAP_PX + legend.height), PAPER)
    y = _GAP_PX
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (_GAP_PX + column * (tile_px + _GAP_PX), y))
        y += height + _GAP_PX
    sheet.paste(legend, (0, y))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88, optimize=True, progressive=True, subsampling=0)
    return buffer.getvalue()


def _draw_tile(tile: Tile, schema: Schema, tile_px: int) -> Image.Image:
    height, width = tile.image_rgb.shape[:2]
    scale = tile_px / max(width, height)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    fine = scale * _SUPERSAMPLING
    picture = Image.fromarray(tile.image_rgb).resize(
        (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), Image.Resampling.BICUBIC
    )
    of_keypoint, of_class = keypoint_colours(schema), class_colours(schema)
    for instance in tile.instances:
        _draw_instance(ImageDraw.Draw(picture), instance, schema, fine, of_keypoint, of_class[instance.class_name])
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    taken = [_write_caption(picture, tile.caption)]
    if len(schema.classes) > 1:
        for instance in tile.instances:
            taken.append(_write_class(picture, instance, scale, of_class[instance.class_name]))
    _write_names(picture, tile.instances, scale, of_keypoint, taken)
    return picture


def _draw_instance(
    draw: ImageDraw.ImageDraw,
    instance: Instance,
    schema: Schema,
    scale: float,
    of_keypoint: Mapping[str, Colour],
    box_colour: Colour,
) -> None:
    unit = _SUPERSAMPLING
    left, top, right, bottom = (scale * value for value in instance.box_xyxy)
    for width, colour in ((4 * unit, INK), (2 * unit, box_colour)):
        inset = width / 2  # the line's middle on the box
        draw.rectangle((left - inset, top - inset, right + inset, bottom + inset), outline=colour, width=width)
    places = {name: (scale * point.x, scale * point.y) for name, point in instance.keypoints.items()}
    edges = [(a, b) for a, b in schema.classes[instance.class_name].edges if a in places and b in places]
    for width, ink in ((4 * unit, True), (2 * unit, False)):
        for first, second in edges:
            (x1, y1), (x2, y2) = places[first], places[second]
            middle = ((x1 + x2) / 2, (y1 + y2) / 2)
            draw.line((x1, y1, *middle), fill=INK if ink else of_keypoint[first], width=width)
            draw.line((*middle, x2, y2), fill=INK if ink else of_keypoint[second], width=width)
    radius = _DOT_PX * unit
    for name, (x, y) in places.items():
        for reach, colour in ((radius + unit, INK), (radius, PAPER), (radius - unit, of_keypoint[name])):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
        if instance.keypoints[name].visibility == Visibility.OCCLUDED:
            hole = radius / 2.2
            draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=INK)


def _write_names(
    picture: Image.Image,
    instances: Sequence[Instance],
    scale: float,
    of_keypoint: Mapping[str, Colour],
    covered: Sequence[Box],
) -> None:
    """Write names beside their keypoints, where they cover neither another keypoint nor other text."""
    draw, font = ImageDraw.Draw(picture, "RGBA"), load_font(_NAME_PX)
    named = [(name, (scale * p.x, scale * p.y)) for item in instances for name, p in item.keypoints.items()]
    reach = _DOT_PX + 1
    taken = [*covered, *((x - reach, y - reach, x + reach, y + reach) for _, (x, y) in named)]
    for name, (x, y) in named:
        size = (math.ceil(font.getlength(name)) + 8, _NAME_PX + 5)
        places = [place for place in _places_around((x, y), size) if _fits(place, picture.size, taken)]
        if places:
            left, top, right, bottom = places[0]
            taken.append(places[0])
            draw.rounded_rectangle(places[0], radius=3, fill=(*INK, 205))
            draw.text(((left + right) / 2, (top + bottom) / 2), name, fill=of_keypoint[name], font=font, anchor="mm")


def _places_around(point: Point, size: tuple[int, int]) -> Iterable[Box]:
    """Yield boxes for a name: right, left, below, above, then the corners."""
    (x, y), (width, height), gap = point, size, _DOT_PX + 3
    across = (x + gap, x - gap - width)
    along = (y + gap - 2, y - gap - height + 2)
    corners = [
        *((left, y - height / 2) for left in across),
        *((x - width / 2, top) for top in along),
        *((left, top) for left in across for top in along),
    ]
    for left, top in corners:
        yield left, top, left + width, top + height


def _fits(place: Box, size_wh: tuple[int, int], taken: Sequence[Box]) -> bool:
    left, top, right, bottom = place
    inside = left >= 0 and top >= 0 and right <= size_wh[0] and bottom <= size_wh[1]
    return inside and not any(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in taken)


def _write_caption(picture: Image.Image, text: str) -> Box:
    """Write into the lower left corner; return the place that it takes."""
    font = load_font(_NAME_PX)
    width, height = math.ceil(font.getlength(text)) + 10, _NAME_PX + 7
    place = (0, picture.height - height, width, picture.height)
    draw = ImageDraw.Draw(picture, "RGBA")
    draw.rectangle(place, fill=(*INK, 150))
    draw.text((5, picture.height - height / 2), text, fill=PAPER, font=font, anchor="lm")
    return place


def _write_class(picture: Image.Image, instance: Instance, scale: float, colour: Colour) -> Box:
    """Write an object's class over its box, inside the picture; return the place that it takes."""
    font = load_font(_NAME_PX)
    width, height = math.ceil(font.getlength(instance.class_name)) + 8, _NAME_PX + 5
    left = min(max(0.0, scale * instance.box_xyxy[0]), max(0, picture.width - width))
    top = min(max(0.0, scale * instance.box_xyxy[1] - height - 2), max(0, picture.height - height))
    place = (left, top, left + width, top + height)
    draw = ImageDraw.Draw(picture)
    draw.rounded_rectangle(place, radius=3, fill=colour)
    draw.text((left + width / 2, top + height / 2), instance.class_name, fill=INK, font=font, anchor="mm")
    return place


def _draw_legend(schema: Schema, width: int) -> Image.Image:
    font, colours = load_font(_LEGEND_PX), keypoint_colours(schema)
    row_px, x, y = round(1.7 * _LEGEND_PX), 2 * _GAP_PX, 0
    entries: list[tuple[str, int, int]] = []
    for name in schema.slots:
        advance = round(font.getlength(name)) + 3 * _LEGEND_PX
        if entries and x + advance > width:
            x, y = 2 * _GAP_PX, y + row_px
        entries.append((name, x, y))
        x += advance
    strip = Image.new("RGB", (width, y + row_px + _GAP_PX), PAPER)
    draw, dot = ImageDraw.Draw(strip), 0.36 * _LEGEND_PX
    for name, left, top in entries:
        middle = top + row_px / 2
        draw.ellipse((left, middle - dot, left + 2 * dot, middle + dot), fill=colours[name], outline=INK)
        draw.text((left + 1.1 * _LEGEND_PX, middle), name, fill=INK, font=font, anchor="lm")
    return strip
