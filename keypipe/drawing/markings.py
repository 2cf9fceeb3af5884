"""How objects are marked on a picture: boxes, skeletons, and what points out an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from keypipe.drawing.colours import INK, PAPER, Colour, class_colours, keypoint_colours
from keypipe.drawing.layer import Ink, Layer, RgbImage
from keypipe.keypoints.boxes import Array, Box
from keypipe.keypoints.skeleton import Schema

Point = tuple[float, float]

CULPRIT: Colour = (255, 70, 60)
"""Colour of what is wrong."""

_EDGE_STEPS = 8  # an edge goes over from one end's colour to the other's in so many steps at most
_EDGE_STEP_PX = 4.0
_EDGE_STEP_SHADES = 40.0  # what red, green or blue differ by, of 255, in a step: no eye sees it on so thin a line
_DIM = 110 / 255  # opacity of the dark rim around a box
_CASING = 150 / 255  # of that around edges
_RIM = 190 / 255  # of that around keypoints
_BOX = 235 / 255


class DrawnPoint(msgspec.Struct, frozen=True):
    """A keypoint to draw: its place in pixels of the picture, and whether only its outline is drawn."""

    xy: Point
    hollow: bool = False


class DrawnObject(msgspec.Struct, frozen=True):
    """An object to draw.

    Attributes:
        class_name: a class of the schema.
        label: text of its tag; none when empty.
        box_xyxy: pixels of the picture.
        points: the keypoints to draw, by name.
        colour: of its box and tag; None: its class's.
    """

    class_name: str
    label: str
    box_xyxy: Box
    points: dict[str, DrawnPoint]
    colour: Colour | None = None


class Sizes(msgspec.Struct, frozen=True):
    """Widths and radii that suit a picture and an object, pixels.

    Attributes:
        line: width of edges.
        dot: radius of keypoints.
        box: width of the box's outline.
        casing: width of the dark rim that sets shapes off from bright and dark grounds alike.
    """

    line: float
    dot: float
    box: float
    casing: float


def size_wh(picture: RgbImage) -> tuple[int, int]:
    """Return a picture's width and height, pixels."""
    return picture.shape[1], picture.shape[0]


def unit_px(size_wh: tuple[int, int]) -> float:
    """Return the length that looks the same on pictures of every size; 1 px on one of 640 px."""
    return max(0.6, math.sqrt(size_wh[0] * size_wh[1]) / 560)


def overlap(a: Box, b: Box) -> bool:
    """Tell whether two boxes share an area."""
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def draw_objects(picture: RgbImage, objects: Sequence[DrawnObject], schema: Schema) -> None:
    """Draw boxes and skeletons.

    Args:
        picture: uint8 (height, width, 3); changed.
        objects: drawn from the last to the first, which is on top.
        schema: classes and skeletons.
    """
    of_keypoint, of_class = keypoint_colours(schema), class_colours(schema)
    below_first = list(reversed(objects))
    sizes = [_sizes(picture, item.box_xyxy) for item in below_first]
    regions = [_region(item, 3 * size.dot + 2 * size.box) for item, size in zip(below_first, sizes, strict=True)]
    for region, members in group_regions(regions):
        layer = Layer(picture, region)
        for index in members:
            item = below_first[index]
            _draw_box(layer, item.box_xyxy, sizes[index], item.colour or of_class.get(item.class_name, PAPER))
            _draw_edges(layer, item, sizes[index], schema, of_keypoint)
            _draw_points(layer, item.points, sizes[index], of_keypoint)
        layer.paste()


def group_regions(regions: Sequence[Box]) -> list[tuple[Box, list[int]]]:
    """Group regions so that the frames around different groups do not touch.

    Objects of a crowd share one layer; those far apart have small ones of their own.

    Args:
        regions: left, top, right, bottom.

    Returns:
        The frame of each group, and its members as rising positions in ``regions``.
    """
    groups: list[tuple[Box, list[int]]] = []
    for index, region in enumerate(regions):
        frame, members = region, [index]
        while touching := [group for group in groups if overlap(group[0], frame)]:
            groups = [group for group in groups if not overlap(group[0], frame)]
            frame = _hull([frame, *(other for other, _ in touching)])
            members += [member for _, others in touching for member in others]
        groups.append((frame, sorted(members)))
    return groups


def _hull(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _region(item: DrawnObject, margin: float) -> Box:
    left, top, right, bottom = _hull([item.box_xyxy, *((*point.xy, *point.xy) for point in item.points.values())])
    return left - margin, top - margin, right + margin, bottom + margin


def _sizes(picture: RgbImage, box: Box) -> Sizes:
    unit = unit_px(size_wh(picture))
    diagonal = math.hypot(box[2] - box[0], box[3] - box[1])
    dot = max(1.7, min(4.4 * unit, 0.034 * diagonal))
    return Sizes(line=max(1.0, 0.5 * dot), dot=dot, box=max(1.0, 1.3 * unit), casing=max(0.7, 0.22 * dot))


def _ink(colour: Colour, opacity: float = 1.0) -> Ink:
    return (*colour, round(255 * opacity))


def _to_array(points: Sequence[Point]) -> Array:
    return np.array(points, dtype=np.float64).reshape(-1, 2)


# --------------------------------------------------------------------------------------- objects


def _draw_box(layer: Layer, box: Box, sizes: Sizes, colour: Colour) -> None:
    corner = 2.2 * sizes.box
    layer.rectangle(box, sizes.box + 1.6, corner, _ink(INK, _DIM))
    layer.rectangle(box, sizes.box, corner, _ink(colour, _BOX))


def _draw_edges(
    layer: Layer, item: DrawnObject, sizes: Sizes, schema: Schema, of_keypoint: Mapping[str, Colour]
) -> None:
    """Draw edges that go over from the one end's colour to the other's."""
    skeleton, points = schema.classes.get(item.class_name), item.points
    edges = [(a, b) for a, b in (skeleton.edges if skeleton else ()) if a in points and b in points]
    if not edges:
        return
    starts, ends = (_to_array([points[name].xy for name in names]) for names in zip(*edges, strict=True))
    # The ends of edges lie below their keypoints.
    casing = [_ink(INK, _CASING)] * len(edges)
    layer.lines(starts, ends, sizes.line + 2 * sizes.casing, casing, round_ends=False)
    lengths = np.hypot(*(ends - starts).T)
    ends_rgb = np.array([(of_keypoint[a], of_keypoint[b]) for a, b in edges], dtype=np.float64)
    shades = np.abs(ends_rgb[:, 1] - ends_rgb[:, 0]).max(axis=1)
    wanted = np.minimum(lengths / max(_EDGE_STEP_PX, 2 * sizes.line), shades / _EDGE_STEP_SHADES)
    n_steps = np.clip(np.ceil(wanted), 1, _EDGE_STEPS).astype(int)
    edge = np.repeat(np.arange(len(edges)), n_steps)
    step = np.concatenate([np.arange(n) for n in n_steps])
    first, last = starts[edge], ends[edge]
    share, after = (((step + offset) / n_steps[edge])[:, None] for offset in (0, 1))
    colours = ends_rgb[edge]
    middle = (share + after) / 2
    mixed = np.rint(colours[:, 0] + middle * (colours[:, 1] - colours[:, 0])).astype(int).tolist()
    inks = [(red, green, blue, 255) for red, green, blue in mixed]
    along = last - first
    layer.lines(first + share * along, first + after * along, sizes.line, inks, round_ends=False)


def _draw_points(
    layer: Layer, points: Mapping[str, DrawnPoint], sizes: Sizes, of_keypoint: Mapping[str, Colour]
) -> None:
    """Draw keypoints: rings, and on them discs with a bright and a dark rim."""
    for name, point in points.items():
        if point.hollow:
            radius, width, centre = 1.15 * sizes.dot, 0.46 * sizes.dot, _to_array([point.xy])
            layer.rings(centre, radius + sizes.casing, width + 2 * sizes.casing, [_ink(INK, _RIM)])
            layer.rings(centre, radius, width, [_ink(of_keypoint.get(name, PAPER))])
    filled = [(point.xy, of_keypoint.get(name, PAPER)) for name, point in points.items() if not point.hollow]
    centres = np.repeat(_to_array([xy for xy, _ in filled]), 3, axis=0)
    radii = np.tile([sizes.dot + sizes.casing, sizes.dot, 0.74 * sizes.dot], len(filled))
    dark, bright = _ink(INK, _RIM), _ink(PAPER)
    inks = [ink for _, colour in filled for ink in (dark, bright, (*colour, 255))]
    layer.discs(centres, radii, inks)


def draw_lines(layer: Layer, lines: Sequence[tuple[Point, Point]], width: float, colour: Colour) -> None:
    """Draw lines of one colour from point to point."""
    starts, ends = (_to_array([line[end] for line in lines]) for end in (0, 1))
    layer.lines(starts, ends, width, [_ink(colour)] * len(lines))


def draw_crosses(layer: Layer, centres: Sequence[Point], arm: float, width: float, colour: Colour) -> None:
    """Draw crosses like an x, with arms that reach so far right and down."""
    strokes = [((x - arm, y - turn * arm), (x + arm, y + turn * arm)) for x, y in centres for turn in (1, -1)]
    draw_lines(layer, strokes, width, colour)


def draw_rings(layer: Layer, centres: Sequence[Point], radius: float, width: float) -> None:
    """Draw rings around what is wrong, with a dark rim; ``radius`` is that of the outer edge."""
    for rim, colour in ((0.9, INK), (0.0, CULPRIT)):
        layer.rings(_to_array(centres), radius + rim, width + 2 * rim, [_ink(colour)] * len(centres))


def draw_dashed_box(layer: Layer, box: Box, width: float, colour: Colour) -> None:
    """Draw the outline of a rectangle in dashes."""
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    dashes: list[tuple[Point, Point]] = []
    for start, end in pairwise(corners):
        count = max(2, round(math.dist(start, end) / (7 * max(width, 1.3))))
        dashes += [
            (_between(start, end, dash / count), _between(start, end, (dash + 0.55) / count)) for dash in range(count)
        ]
    draw_lines(layer, dashes, width, colour)


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
