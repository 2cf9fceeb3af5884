"""Skeletons drawn on pictures: annotated truth, predictions, and the two compared."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from keypipe.annotation import Instance, Visibility
from keypipe.colours import INK, PAPER, Colour, class_colours, keypoint_colours, left_of_pair
from keypipe.fonts import load_font
from keypipe.prediction import Prediction
from keypipe.skeleton import Schema

RgbImage = NDArray[np.uint8]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

DEFAULT_KEYPOINT_CONF = 0.5

_INK, _PAPER = INK, PAPER
_SUPERSAMPLING = 3  # Pillow draws without anti-aliasing; shapes are drawn this much larger and scaled down
_MAX_PATCH_PX = 3_000_000  # larger patches are drawn with less of it, so that memory stays small
_CULPRIT: Colour = (255, 70, 60)


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
    """

    class_name: str
    label: str
    box_xyxy: Box
    points: dict[str, DrawnPoint]


# ---------------------------------------------------------------------------------------- public


def draw_predictions(
    image_rgb: RgbImage,
    predictions: Sequence[Prediction],
    schema: Schema,
    *,
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF,
    longest_side_px: int | None = None,
    legend: bool = False,
) -> RgbImage:
    """Draw predicted objects: box, class, score, skeleton.

    Args:
        image_rgb: uint8 (height, width, 3); stays as it is.
        predictions: in pixels of the image.
        schema: the model's classes and skeletons.
        keypoint_conf: keypoints with less confidence are not drawn.
        longest_side_px: scale the picture to this first; None leaves its size.
        legend: add a strip with the keypoints' colours and names below.

    Returns:
        uint8 (height, width, 3), a new picture.
    """
    picture, scale = _scaled(image_rgb, longest_side_px)
    objects = [_scale_object(_predicted_object(found, keypoint_conf), scale) for found in predictions]
    drawn = _draw_objects(picture, objects, schema)
    return _to_array(_with_legend(drawn, schema) if legend else drawn)


def draw_instances(
    image_rgb: RgbImage,
    instances: Sequence[Instance],
    schema: Schema,
    *,
    longest_side_px: int | None = None,
    legend: bool = False,
) -> RgbImage:
    """Draw annotated objects: box, class, skeleton; occluded keypoints as rings.

    Args:
        image_rgb: uint8 (height, width, 3); stays as it is.
        instances: in pixels of the image.
        schema: classes and skeletons.
        longest_side_px: scale the picture to this first; None leaves its size.
        legend: add a strip with the keypoints' colours and names below.

    Returns:
        uint8 (height, width, 3), a new picture.
    """
    picture, scale = _scaled(image_rgb, longest_side_px)
    objects = [_scale_object(_annotated_object(instance, schema), scale) for instance in instances]
    drawn = _draw_objects(picture, objects, schema)
    return _to_array(_with_legend(drawn, schema) if legend else drawn)


def draw_comparison(
    image_rgb: RgbImage,
    instances: Sequence[Instance],
    predictions: Sequence[Prediction],
    schema: Schema,
    *,
    culprit: tuple[Point, Point] | None = None,
    missed: Sequence[Box] = (),
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF,
    longest_side_px: int = 480,
    titles: tuple[str, str] = ("annotated", "predicted"),
) -> RgbImage:
    """Draw truth and prediction beside each other, close up on the objects, with a ring around one keypoint.

    Args:
        image_rgb: uint8 (height, width, 3); stays as it is.
        instances: the truth, in pixels of the image.
        predictions: in pixels of the image.
        schema: classes and skeletons.
        culprit: where a keypoint is and where it was predicted; ringed, however low its confidence.
        missed: boxes of the objects that were not found; dashed in the prediction.
        keypoint_conf: other predicted keypoints with less confidence are not drawn.
        longest_side_px: of each of the two pictures.
        titles: captions in the pictures' corners.

    Returns:
        uint8 (height, width, 3), a new picture.
    """
    height, width = image_rgb.shape[:2]
    whole = (0.0, 0.0, float(width), float(height))
    boxes = [*(item.box_xyxy for item in instances), *(item.box_xyxy for item in predictions)]
    places = [*(corner for box in boxes for corner in (box[:2], box[2:])), *(culprit or ())]
    view = _surroundings(places, whole, width / height) if places else whole
    left, top, right, bottom = (round(value) for value in view)
    picture, scale = _scaled(np.ascontiguousarray(image_rgb[top:bottom, left:right]), longest_side_px)

    def move(point: Point) -> Point:
        return scale * (point[0] - left), scale * (point[1] - top)

    truth = [_move_object(_annotated_object(instance, schema), move) for instance in instances]
    found = [_move_object(_predicted_object(item, keypoint_conf), move) for item in predictions]
    halves = [_draw_objects(picture, objects, schema) for objects in (truth, found)]
    for half, title, place in zip(halves, titles, culprit or (None, None), strict=True):
        if place is not None:
            _draw_ring(half, move(place))
        _draw_caption(half, title)
    patch = _Patch(halves[1], (0, 0, halves[1].width, halves[1].height))
    for box in missed:
        for rim, colour in ((1.6, _INK), (0.0, _CULPRIT)):
            _draw_dashed_box(patch, (*move(box[:2]), *move(box[2:])), 2.0 + rim, colour)
    patch.paste()
    gap = max(2, round(0.006 * picture.width))
    both = Image.new("RGB", (2 * picture.width + gap, picture.height), _PAPER)
    both.paste(halves[0], (0, 0))
    both.paste(halves[1], (picture.width + gap, 0))
    return _to_array(both)


def _draw_ring(picture: Image.Image, centre: Point) -> None:
    patch = _Patch(picture, (centre[0] - 14, centre[1] - 14, centre[0] + 14, centre[1] + 14))
    for rim, colour in ((0.9, _INK), (0.0, _CULPRIT)):
        patch.ring(centre, 10.0 + rim, 2.2 + 2 * rim, colour)
    patch.paste()


def draw_overlay(
    image_rgb: RgbImage,
    instances: Sequence[Instance],
    predictions: Sequence[Prediction],
    schema: Schema,
    *,
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF,
    longest_side_px: int | None = None,
    legend: bool = False,
) -> RgbImage:
    """Draw the prediction and over it the truth: a cross at every true place, joined to the predicted one.

    Args:
        image_rgb: uint8 (height, width, 3); stays as it is.
        instances: the truth, in pixels of the image.
        predictions: in pixels of the image.
        schema: classes and skeletons.
        keypoint_conf: predicted keypoints with less confidence are not drawn.
        longest_side_px: scale the picture to this first; None leaves its size.
        legend: add a strip with the keypoints' colours and names below.

    Returns:
        uint8 (height, width, 3), a new picture.
    """
    picture, scale = _scaled(image_rgb, longest_side_px)
    truth = [_scale_object(_annotated_object(instance, schema), scale) for instance in instances]
    found = [_scale_object(_predicted_object(item, keypoint_conf), scale) for item in predictions]
    drawn = _draw_objects(picture, found, schema, tags=False)
    matches = match_boxes([item.box_xyxy for item in truth], [item.box_xyxy for item in found])
    _draw_errors(drawn, truth, found, matches)
    _draw_tags(drawn, found, class_colours(schema))
    return _to_array(_with_legend(drawn, schema) if legend else drawn)


def draw_finding(
    image_rgb: RgbImage,
    instances: Sequence[Instance],
    schema: Schema,
    *,
    box: Box | None = None,
    points: Sequence[Point] = (),
    expected: Sequence[Point] = (),
    names: Sequence[str] = (),
    size_wh: tuple[int, int] = (240, 180),
) -> RgbImage:
    """Draw a part of an annotated image with what is wrong there: a ring around the keypoints, dashes around the box.

    Args:
        image_rgb: uint8 (height, width, 3); stays as it is.
        instances: in pixels of the image.
        schema: classes and skeletons.
        box: the object at fault, in pixels of the image.
        points: the keypoints at fault.
        expected: where these should be, joined to them by a line; or where missing ones should be.
        names: of the keypoints at fault, written beside them.
        size_wh: largest width and height of the result, pixels.

    Returns:
        uint8 (height, width, 3): the surroundings of box and points; the whole image where there are none.
    """
    whole = (0.0, 0.0, float(image_rgb.shape[1]), float(image_rgb.shape[0]))
    places = [*points, *expected, *((box[:2], box[2:]) if box else ())]
    view = _surroundings(places, whole, size_wh[0] / size_wh[1]) if places else whole
    left, top, right, bottom = (round(value) for value in view)
    part = Image.fromarray(np.ascontiguousarray(image_rgb[top:bottom, left:right])).convert("RGB")
    scale = min(size_wh[0] / part.width, size_wh[1] / part.height)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    picture = part.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)

    def move(point: Point) -> Point:
        return scale * (point[0] - left), scale * (point[1] - top)

    seen = [instance for instance in instances if _overlap(instance.box_xyxy, view)]
    objects = [_move_object(_annotated_object(instance, schema), move) for instance in seen]
    drawn = _draw_objects(picture, objects, schema, tags=False)
    patch = _Patch(drawn, (0, 0, drawn.width, drawn.height))
    if box:
        corners = (*move(box[:2]), *move(box[2:]))
        for rim, colour in ((1.6, _INK), (0.0, _CULPRIT)):
            _draw_dashed_box(patch, corners, 1.6 + rim, colour)
    for rim, colour in ((1.6, _INK), (0.0, _CULPRIT)):
        for point, goal in zip(points, expected, strict=False):
            patch.line(move(point), move(goal), 1.2 + rim, colour)
        for goal in expected:
            _draw_cross(patch, move(goal), 4.0, 1.4 + rim, colour)
    for point in points:
        for rim, colour in ((0.9, _INK), (0.0, _CULPRIT)):
            patch.ring(move(point), 8.0 + rim, 2.0 + 2 * rim, colour)
    patch.paste()
    _draw_names(drawn, [(name, move(point)) for name, point in zip(names, points or expected, strict=False)])
    return _to_array(drawn)


def _draw_names(picture: Image.Image, names: Sequence[tuple[str, Point]]) -> None:
    """Write names beside points, out of each other's way where there is room."""
    draw, taken = ImageDraw.Draw(picture, "RGBA"), list[Box]()
    font_px, gap = 10, 10
    for name, (x, y) in names:
        width, height = _tag_size(name, font_px)
        corners = [
            (x + gap, y - height / 2),
            (x - gap - width, y - height / 2),
            (x - width / 2, y + gap),
            (x - width / 2, y - gap - height),
        ]
        boxes: list[Box] = [(left, top, left + width, top + height) for left, top in corners]
        fitting = [box for box in boxes if _moved_inside(box, picture.size) == box]
        fitting = [box for box in fitting if not any(_overlap(box, other) for other in taken)]
        place = fitting[0] if fitting else _moved_inside(boxes[0], picture.size)
        taken.append(place)
        draw.rounded_rectangle(place, radius=3, fill=(*_INK, 200))
        middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
        draw.text(middle, name, fill=_PAPER, font=load_font(font_px), anchor="mm")


def _surroundings(places: Sequence[Point], whole: Box, aspect: float) -> Box:
    """Return the part of an image around some points: with a margin, in a given aspect, where the image has room."""
    xs, ys = [x for x, _ in places], [y for _, y in places]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    margin = max(0.18 * max(width, height), 0.025 * max(whole[2], whole[3]), 8.0)
    width, height = width + 2 * margin, height + 2 * margin
    width, height = max(width, height * aspect), max(height, width / aspect)
    width, height = min(width, whole[2]), min(height, whole[3])
    left = min(max((min(xs) + max(xs) - width) / 2, 0.0), whole[2] - width)
    top = min(max((min(ys) + max(ys) - height) / 2, 0.0), whole[3] - height)
    return left, top, left + max(width, 1.0), top + max(height, 1.0)


def _overlap(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def _move_object(item: DrawnObject, move: Callable[[Point], Point]) -> DrawnObject:
    box = (*move(item.box_xyxy[:2]), *move(item.box_xyxy[2:]))
    points = {name: DrawnPoint(move(point.xy), point.hollow) for name, point in item.points.items()}
    return DrawnObject(item.class_name, item.label, box, points)


def draw_pair(first_rgb: RgbImage, second_rgb: RgbImage, size_wh: tuple[int, int] = (240, 180)) -> RgbImage:
    """Draw two images beside each other.

    Args:
        first_rgb: uint8 (height, width, 3).
        second_rgb: uint8 (height, width, 3).
        size_wh: largest width and height of the result, pixels.

    Returns:
        uint8 (height, width, 3).
    """
    gap = 4
    halves = [Image.fromarray(image) for image in (first_rgb, second_rgb)]
    for half in halves:
        half.thumbnail(((size_wh[0] - gap) // 2, size_wh[1]), Image.Resampling.LANCZOS)
    height = max(half.height for half in halves)
    both = Image.new("RGB", (halves[0].width + gap + halves[1].width, height), _PAPER)
    both.paste(halves[0], (0, (height - halves[0].height) // 2))
    both.paste(halves[1], (halves[0].width + gap, (height - halves[1].height) // 2))
    return _to_array(both)


def encode_jpeg(image_rgb: RgbImage, longest_side_px: int | None = None, quality: int = 85) -> bytes:
    """Encode a picture for a report.

    Args:
        image_rgb: uint8 (height, width, 3).
        longest_side_px: make larger pictures this small; None leaves the size.
        quality: JPEG quality, 1 to 95.

    Returns:
        The bytes of a JPEG file.
    """
    picture = Image.fromarray(image_rgb)
    if longest_side_px is not None:
        picture.thumbnail((longest_side_px, longest_side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True, subsampling=0)
    return buffer.getvalue()


def match_boxes(first: Sequence[Box], second: Sequence[Box], min_iou: float = 0.3) -> dict[int, int]:
    """Pair boxes that overlap, the best pairs first, each box once.

    Args:
        first: boxes as left, top, right, bottom.
        second: boxes to pair with.
        min_iou: pairs that overlap less are none.

    Returns:
        Index in ``second`` by index in ``first``.
    """
    ious = [(_iou(a, b), i, j) for i, a in enumerate(first) for j, b in enumerate(second)]
    matches: dict[int, int] = {}
    for iou, i, j in sorted(ious, key=lambda entry: -entry[0]):
        if iou >= min_iou and i not in matches and j not in matches.values():
            matches[i] = j
    return matches


def _iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


# --------------------------------------------------------------------------------------- objects


def _predicted_object(found: Prediction, keypoint_conf: float) -> DrawnObject:
    points = {
        point.name: DrawnPoint((point.x, point.y)) for point in found.keypoints if point.confidence >= keypoint_conf
    }
    return DrawnObject(found.class_name, f"{found.class_name} {found.score:.2f}", found.box_xyxy, points)


def _annotated_object(instance: Instance, schema: Schema) -> DrawnObject:
    # With one class a tag without a score would only hide the picture.
    label = instance.class_name if len(schema.classes) > 1 else ""
    points = {
        name: DrawnPoint((point.x, point.y), hollow=point.visibility == Visibility.OCCLUDED)
        for name, point in instance.keypoints.items()
    }
    return DrawnObject(instance.class_name, label, instance.box_xyxy, points)


def _scale_object(item: DrawnObject, scale: float) -> DrawnObject:
    left, top, right, bottom = (scale * value for value in item.box_xyxy)
    points = {
        name: DrawnPoint((scale * point.xy[0], scale * point.xy[1]), point.hollow)
        for name, point in item.points.items()
    }
    return DrawnObject(item.class_name, item.label, (left, top, right, bottom), points)


def _scaled(image_rgb: RgbImage, longest_side_px: int | None) -> tuple[Image.Image, float]:
    picture = Image.fromarray(image_rgb).convert("RGB")
    if longest_side_px is None:
        return picture, 1.0
    scale = longest_side_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC), scale


def _to_array(picture: Image.Image) -> RgbImage:
    return np.asarray(picture).copy()


# --------------------------------------------------------------------------------------- drawing


class Sizes(msgspec.Struct, frozen=True):
    """Widths and radii that suit a picture and an object, pixels."""

    line: float
    dot: float
    box: float


def _unit_px(size_wh: tuple[int, int]) -> float:
    """Length that looks the same on pictures of every size; 1 px on one of 640 px."""
    return max(0.6, math.sqrt(size_wh[0] * size_wh[1]) / 560)


def _font_px(size_wh: tuple[int, int]) -> int:
    return max(10, round(13.5 * _unit_px(size_wh)))


def _sizes(size_wh: tuple[int, int], box: Box) -> Sizes:
    unit = _unit_px(size_wh)
    diagonal = math.hypot(box[2] - box[0], box[3] - box[1])
    dot = max(1.7, min(4.4 * unit, 0.034 * diagonal))
    return Sizes(line=max(1.0, 0.5 * dot), dot=dot, box=max(1.0, 1.3 * unit))


class _Patch:
    """A part of a picture to draw shapes on with smooth edges; coordinates are those of the picture."""

    def __init__(self, picture: Image.Image, region: Box) -> None:
        self._picture = picture
        left, top = max(0, math.floor(region[0])), max(0, math.floor(region[1]))
        right, bottom = min(picture.width, math.ceil(region[2])), min(picture.height, math.ceil(region[3]))
        self._origin = (left, top)
        self._size = (max(1, right - left), max(1, bottom - top))
        area = self._size[0] * self._size[1]
        self._factor = max(1, min(_SUPERSAMPLING, math.isqrt(max(1, 4 * _MAX_PATCH_PX // area))))
        size = (self._size[0] * self._factor, self._size[1] * self._factor)
        self._layer = Image.new("RGBA", size, (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._layer)

    def _at(self, point: Point) -> Point:
        # A pixel's centre is at its whole coordinate plus a half, on the layer as in the picture.
        return (point[0] - self._origin[0]) * self._factor - 0.5, (point[1] - self._origin[1]) * self._factor - 0.5

    def line(self, start: Point, end: Point, width: float, colour: Colour, alpha: int = 255) -> None:
        """Draw a line with round ends."""
        half = width * self._factor / 2
        (x1, y1), (x2, y2) = self._at(start), self._at(end)
        length = math.hypot(x2 - x1, y2 - y1)
        fill = (*colour, alpha)
        if length > 0:
            dx, dy = -(y2 - y1) / length * half, (x2 - x1) / length * half
            self._draw.polygon([(x1 + dx, y1 + dy), (x2 + dx, y2 + dy), (x2 - dx, y2 - dy), (x1 - dx, y1 - dy)], fill)
        for x, y in ((x1, y1), (x2, y2)):
            self._draw.ellipse((x - half, y - half, x + half, y + half), fill)

    def disc(self, centre: Point, radius: float, colour: Colour, alpha: int = 255) -> None:
        """Draw a filled circle."""
        (x, y), r = self._at(centre), radius * self._factor
        self._draw.ellipse((x - r, y - r, x + r, y + r), (*colour, alpha))

    def ring(self, centre: Point, radius: float, width: float, colour: Colour, alpha: int = 255) -> None:
        """Draw a circle whose outer edge has this radius."""
        (x, y), r = self._at(centre), radius * self._factor
        line = max(1, round(width * self._factor))
        self._draw.ellipse((x - r, y - r, x + r, y + r), outline=(*colour, alpha), width=line)

    def rectangle(self, box: Box, width: float, radius: float, colour: Colour, alpha: int = 255) -> None:
        """Draw the outline of a rectangle with rounded corners, its middle line on the box."""
        half = width / 2
        left, top = self._at((box[0] - half, box[1] - half))
        right, bottom = self._at((box[2] + half, box[3] + half))
        line = max(1, round(width * self._factor))
        corners = (left, top, max(left, right), max(top, bottom))
        self._draw.rounded_rectangle(corners, radius * self._factor, outline=(*colour, alpha), width=line)

    def paste(self) -> None:
        """Put what was drawn onto the picture."""
        layer = self._layer
        if self._factor > 1:
            # Premultiplied, or the transparent black around a shape would darken its edge.
            layer = layer.convert("RGBa").resize(self._size, Image.Resampling.BOX).convert("RGBA")
        self._picture.paste(layer, self._origin, layer)


def _draw_objects(
    picture: Image.Image, objects: Sequence[DrawnObject], schema: Schema, tags: bool = True
) -> Image.Image:
    drawn = picture.copy()
    of_keypoint, of_class = keypoint_colours(schema), class_colours(schema)
    # The best prediction comes first and is drawn last, on top.
    for item in reversed(objects):
        _draw_object(drawn, item, schema, of_keypoint, of_class.get(item.class_name, _PAPER))
    if tags:
        _draw_tags(drawn, objects, of_class)
    return drawn


def _draw_object(
    picture: Image.Image, item: DrawnObject, schema: Schema, of_keypoint: Mapping[str, Colour], box_colour: Colour
) -> None:
    sizes = _sizes(picture.size, item.box_xyxy)
    patch = _Patch(picture, _region(item, 3 * sizes.dot + 2 * sizes.box))
    corner = 2.2 * sizes.box
    patch.rectangle(item.box_xyxy, sizes.box + 1.6, corner, _INK, alpha=110)
    patch.rectangle(item.box_xyxy, sizes.box, corner, box_colour, alpha=235)
    skeleton = schema.classes.get(item.class_name)
    edges = [
        (item.points[a], item.points[b], of_keypoint[a], of_keypoint[b])
        for a, b in (skeleton.edges if skeleton else ())
        if a in item.points and b in item.points
    ]
    for start, end, _, _ in edges:
        patch.line(start.xy, end.xy, sizes.line + 2 * _casing(sizes), _INK, alpha=150)
    for start, end, first, second in edges:
        _draw_edge(patch, start.xy, end.xy, sizes.line, (first, second))
    for name, point in item.points.items():
        _draw_point(patch, point, of_keypoint.get(name, _PAPER), sizes)
    patch.paste()


def _casing(sizes: Sizes) -> float:
    """Width of the dark rim that sets shapes off from bright and dark grounds alike."""
    return max(0.7, 0.22 * sizes.dot)


def _draw_edge(patch: _Patch, start: Point, end: Point, width: float, colours: tuple[Colour, Colour]) -> None:
    """Draw an edge that goes over from the one end's colour to the other's."""
    steps = 8
    for step in range(steps):
        share, after = step / steps, (step + 1) / steps
        colour = _mix(colours[0], colours[1], (step + 0.5) / steps)
        patch.line(_between(start, end, share), _between(start, end, after), width, colour)


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _draw_point(patch: _Patch, point: DrawnPoint, colour: Colour, sizes: Sizes) -> None:
    rim = _casing(sizes)
    if point.hollow:
        radius, width = 1.15 * sizes.dot, 0.46 * sizes.dot
        patch.ring(point.xy, radius + rim, width + 2 * rim, _INK, alpha=190)
        patch.ring(point.xy, radius, width, colour)
        return
    patch.disc(point.xy, sizes.dot + rim, _INK, alpha=190)
    patch.disc(point.xy, sizes.dot, _PAPER)
    patch.disc(point.xy, 0.74 * sizes.dot, colour)


def _region(item: DrawnObject, margin: float) -> Box:
    xs = [item.box_xyxy[0], item.box_xyxy[2], *(point.xy[0] for point in item.points.values())]
    ys = [item.box_xyxy[1], item.box_xyxy[3], *(point.xy[1] for point in item.points.values())]
    return min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin


def _draw_errors(
    picture: Image.Image, truth: Sequence[DrawnObject], found: Sequence[DrawnObject], matches: Mapping[int, int]
) -> None:
    """Draw a cross at every true keypoint and a line from there to where it was predicted."""
    for index, item in enumerate(truth):
        predicted = found[matches[index]].points if index in matches else {}
        sizes = _sizes(picture.size, item.box_xyxy)
        reach = DrawnObject(item.class_name, "", item.box_xyxy, {**predicted, **item.points})
        patch = _Patch(picture, _region(reach, 3 * sizes.dot))
        for rim, colour in ((1.6, _INK), (0.0, _PAPER)):
            if index not in matches:
                _draw_dashed_box(patch, item.box_xyxy, sizes.box + rim, colour)
            for name, point in item.points.items():
                if name in predicted:
                    patch.line(point.xy, predicted[name].xy, 0.28 * sizes.dot + rim, colour)
                _draw_cross(patch, point.xy, 0.85 * sizes.dot, 0.34 * sizes.dot + rim, colour)
        patch.paste()


def _draw_cross(patch: _Patch, centre: Point, arm: float, width: float, colour: Colour) -> None:
    x, y = centre
    patch.line((x - arm, y - arm), (x + arm, y + arm), width, colour)
    patch.line((x - arm, y + arm), (x + arm, y - arm), width, colour)


def _draw_dashed_box(patch: _Patch, box: Box, width: float, colour: Colour) -> None:
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        dashes = max(2, round(math.dist(start, end) / (7 * max(width, 1.3))))
        for dash in range(dashes):
            first, last = dash / dashes, (dash + 0.55) / dashes
            patch.line(_between(start, end, first), _between(start, end, last), width, colour)


# ------------------------------------------------------------------------------------------ text


def _draw_tags(picture: Image.Image, objects: Sequence[DrawnObject], of_class: Mapping[str, Colour]) -> None:
    """Write every object's tag at its box, out of the others' way where there is room."""
    draw = ImageDraw.Draw(picture)
    taken: list[Box] = []
    for item in objects:
        if not item.label:
            continue
        font_px = _tag_font_px(picture.size, item.box_xyxy)
        size = _tag_size(item.label, font_px)
        places = [_moved_inside((x, y, x + size[0], y + size[1]), picture.size) for x, y in _tag_places(item, size)]
        place = next((p for p in places if not any(_iou(p, other) > 0 for other in taken)), places[0])
        taken.append(place)
        draw.rounded_rectangle(place, radius=0.2 * size[1], fill=of_class.get(item.class_name, _PAPER))
        middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
        draw.text(middle, item.label, fill=_INK, font=load_font(font_px), anchor="mm")


def _tag_font_px(size_wh: tuple[int, int], box: Box) -> int:
    """Choose a size of text that does not bury a small object."""
    diagonal = math.hypot(box[2] - box[0], box[3] - box[1])
    return max(9, min(_font_px(size_wh), round(0.13 * diagonal)))


def _tag_size(label: str, font_px: int) -> tuple[int, int]:
    left, _, right, _ = load_font(font_px).getbbox(label)
    return math.ceil(right - left + 0.8 * font_px), math.ceil(1.42 * font_px)


def _tag_places(item: DrawnObject, size: tuple[int, int]) -> Iterable[Point]:
    """Yield corners for a tag: above the box, below it, inside it."""
    left, top, right, bottom = item.box_xyxy
    gap = 2
    yield left, top - size[1] - gap
    yield right - size[0], top - size[1] - gap
    yield left, bottom + gap
    yield right - size[0], bottom + gap
    yield left + gap, top + gap
    yield right - size[0] - gap, bottom - size[1] - gap


def _moved_inside(place: Box, size_wh: tuple[int, int]) -> Box:
    width, height = place[2] - place[0], place[3] - place[1]
    left = min(max(place[0], 1), max(1, size_wh[0] - width - 1))
    top = min(max(place[1], 1), max(1, size_wh[1] - height - 1))
    return left, top, left + width, top + height


def _draw_caption(picture: Image.Image, text: str) -> None:
    """Write a caption into the lower left corner."""
    font_px = _font_px(picture.size)
    width, height = _tag_size(text, font_px)
    margin = round(0.5 * font_px)
    place = (margin, picture.height - margin - height, margin + width, picture.height - margin)
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    ImageDraw.Draw(layer).rounded_rectangle(place, radius=0.2 * height, fill=(*_INK, 190))
    picture.paste(layer, (0, 0), layer)
    middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
    ImageDraw.Draw(picture).text(middle, text, fill=_PAPER, font=load_font(font_px), anchor="mm")


def _with_legend(picture: Image.Image, schema: Schema) -> Image.Image:
    """Return the picture with a strip below it: a dot and the name of every keypoint, a group of them a line."""
    font_px = _font_px(picture.size)
    font = load_font(font_px)
    entries, height = _place_legend(_legend_groups(schema), picture.width, font_px)
    strip = Image.new("RGB", (picture.width, height), _PAPER)
    patch = _Patch(strip, (0, 0, strip.width, strip.height))
    colours, dot = keypoint_colours(schema), 0.36 * font_px
    for name, (x, y) in entries:
        patch.disc((x + dot, y), 1.16 * dot, _INK, alpha=210)
        patch.disc((x + dot, y), dot, colours[name])
    patch.paste()
    draw = ImageDraw.Draw(strip)
    for name, (x, y) in entries:
        draw.text((x + 1.1 * font_px, y), name, fill=_INK, font=font, anchor="lm")
    both = Image.new("RGB", (picture.width, picture.height + height), _PAPER)
    both.paste(picture, (0, 0))
    both.paste(strip, (0, picture.height))
    return both


def _legend_groups(schema: Schema) -> list[list[str]]:
    """Sort the keypoints into those of neither side, the left and the right, in schema order."""
    slots, flip_idx = schema.slots, schema.flip_idx
    paired = [name for slot, name in enumerate(slots) if flip_idx[slot] != slot]
    left = [name for name in paired if left_of_pair(name, slots[flip_idx[slots.index(name)]], slots) == name]
    groups = [[name for name in slots if name not in paired], left, [name for name in paired if name not in left]]
    return [group for group in groups if group]


def _place_legend(groups: Sequence[Sequence[str]], width: int, font_px: int) -> tuple[list[tuple[str, Point]], int]:
    """Lay the legend's entries out; each has its left end and middle line, and the strip its height, pixels."""
    font = load_font(font_px)
    pad, row_height = 0.9 * font_px, 1.65 * font_px
    entries: list[tuple[str, Point]] = []
    y = pad - 0.3 * font_px
    for group in groups:
        x = pad
        for name in group:
            advance = 2.3 * font_px + font.getlength(name)
            if x > pad and x + advance - 1.2 * font_px > width:
                x, y = pad, y + row_height
            entries.append((name, (x, y + row_height / 2)))
            x += advance
        y += row_height
    return entries, round(y + pad - 0.3 * font_px)
