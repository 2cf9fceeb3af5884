"""Skeletons drawn on pictures: annotated truth, predictions, and the two compared."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from keypipe.drawing.colours import INK, PAPER
from keypipe.drawing.layer import Layer, RgbImage
from keypipe.drawing.markings import (
    CULPRIT,
    DrawnObject,
    DrawnPoint,
    Point,
    draw_crosses,
    draw_dashed_box,
    draw_lines,
    draw_objects,
    draw_rings,
    overlap,
)
from keypipe.drawing.text import draw_caption, draw_names, draw_tags
from keypipe.images.opencv import import_cv2
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import Instance, Visibility
from keypipe.keypoints.predictions import DEFAULT_KEYPOINT_CONF, Prediction
from keypipe.keypoints.skeleton import Schema

__all__ = [
    "RgbImage",
    "draw_comparison",
    "draw_finding",
    "draw_instances",
    "draw_pair",
    "draw_predictions",
    "encode_jpeg",
]


def draw_predictions(
    image_rgb: RgbImage,
    predictions: Sequence[Prediction],
    schema: Schema,
    *,
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF,
    longest_side_px: int | None = None,
) -> RgbImage:
    """Draw predicted objects: box, class, score, skeleton.

    Args:
        image_rgb: uint8 (height, width, 3); stays as it is.
        predictions: in pixels of the image.
        schema: the model's classes and skeletons.
        keypoint_conf: keypoints with less confidence are not drawn.
        longest_side_px: scale the picture to this first; None leaves its size.

    Returns:
        uint8 (height, width, 3), a new picture.
    """
    picture, scale = _scaled(image_rgb, longest_side_px)
    objects = [_scale_object(_predicted_object(found, keypoint_conf), scale) for found in predictions]
    draw_objects(picture, objects, schema)
    draw_tags(picture, objects, schema)
    return picture


def draw_instances(
    image_rgb: RgbImage,
    instances: Sequence[Instance],
    schema: Schema,
    *,
    longest_side_px: int | None = None,
) -> RgbImage:
    """Draw annotated objects: box, class, skeleton; occluded keypoints as rings.

    Args:
        image_rgb: uint8 (height, width, 3); stays as it is.
        instances: in pixels of the image.
        schema: classes and skeletons.
        longest_side_px: scale the picture to this first; None leaves its size.

    Returns:
        uint8 (height, width, 3), a new picture.
    """
    picture, scale = _scaled(image_rgb, longest_side_px)
    objects = [_scale_object(_annotated_object(instance, schema), scale) for instance in instances]
    draw_objects(picture, objects, schema)
    draw_tags(picture, objects, schema)
    return picture


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
    halves = []
    for objects, title, place in zip((truth, found), titles, culprit or (None, None), strict=True):
        half = picture.copy()
        draw_objects(half, objects, schema)
        draw_tags(half, objects, schema)
        if place is not None:
            _draw_ring(half, move(place))
        draw_caption(half, title)
        halves.append(half)
    _draw_missed(halves[1], [(*move(box[:2]), *move(box[2:])) for box in missed])
    gap = np.full((len(picture), max(2, round(0.006 * picture.shape[1])), 3), PAPER, dtype=np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)


def _draw_ring(picture: RgbImage, centre: Point) -> None:
    x, y = centre
    layer = Layer(picture, (x - 14, y - 14, x + 14, y + 14))
    draw_rings(layer, [centre], 10.0, 2.2)
    layer.paste()


def _draw_missed(picture: RgbImage, boxes: Sequence[Box]) -> None:
    layer = Layer(picture, (0, 0, picture.shape[1], picture.shape[0]))
    for box in boxes:
        for rim, colour in ((1.6, INK), (0.0, CULPRIT)):
            draw_dashed_box(layer, box, 2.0 + rim, colour)
    layer.paste()


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
    part = image_rgb[top:bottom, left:right]
    scale = min(size_wh[0] / part.shape[1], size_wh[1] / part.shape[0])
    picture = _resized(part, scale)

    def move(point: Point) -> Point:
        return scale * (point[0] - left), scale * (point[1] - top)

    seen = [instance for instance in instances if overlap(instance.box_xyxy, view)]
    draw_objects(picture, [_move_object(_annotated_object(instance, schema), move) for instance in seen], schema)
    layer = Layer(picture, (0, 0, *size_wh))
    joints = [(move(point), move(goal)) for point, goal in zip(points, expected, strict=False)]
    for rim, colour in ((1.6, INK), (0.0, CULPRIT)):
        if box:
            draw_dashed_box(layer, (*move(box[:2]), *move(box[2:])), 1.6 + rim, colour)
    for rim, colour in ((1.6, INK), (0.0, CULPRIT)):
        draw_lines(layer, joints, 1.2 + rim, colour)
        draw_crosses(layer, [move(goal) for goal in expected], 4.0, 1.4 + rim, colour)
    draw_rings(layer, [move(point) for point in points], 8.0, 2.0)
    layer.paste()
    draw_names(picture, [(name, move(point)) for name, point in zip(names, points or expected, strict=False)])
    return picture


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
    both = Image.new("RGB", (halves[0].width + gap + halves[1].width, height), PAPER)
    both.paste(halves[0], (0, (height - halves[0].height) // 2))
    both.paste(halves[1], (halves[0].width + gap, (height - halves[1].height) // 2))
    return np.asarray(both).copy()


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


def _scaled(image_rgb: RgbImage, longest_side_px: int | None) -> tuple[RgbImage, float]:
    """Return a picture of its own to draw on, and by how much it is larger than the image."""
    scale = 1.0 if longest_side_px is None else longest_side_px / max(image_rgb.shape[:2])
    return _resized(image_rgb, scale), scale


def _resized(image_rgb: RgbImage, scale: float) -> RgbImage:
    height, width = image_rgb.shape[:2]
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    if size_wh == (width, height):
        return image_rgb.copy()
    cv2 = import_cv2()
    resampling = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized: RgbImage = cv2.resize(np.ascontiguousarray(image_rgb), size_wh, interpolation=resampling)
    return resized
