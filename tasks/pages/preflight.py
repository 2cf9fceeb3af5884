"""The pre-flight's picture: what the network trains on, every keypoint with its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from keypipe.drawing.colours import PAPER, class_colours, keypoint_colours
from keypipe.drawing.layer import RgbImage
from keypipe.drawing.markings import DrawnObject, DrawnPoint, draw_objects
from keypipe.drawing.pictures import encode_jpeg
from keypipe.drawing.text import Label, draw_caption, draw_labels
from keypipe.keypoints.instances import Visibility
from keypipe.keypoints.skeleton import Schema
from tasks.grading.preflight import AugmentedImage

TILE_PX = 720
"""Longest side of an image on the picture."""

GAP_PX = 8
_TILES = 6
_COLUMNS = 2
_CAPTION_PX = 24
_NAME_PX = 12


def draw_batch(batch: Sequence[AugmentedImage], schema: Schema, later: Sequence[AugmentedImage] = ()) -> bytes:
    """Draw some images of a batch in rows, those with objects first; right of each, how a later epoch changes it.

    Boxes, skeletons and every labelled keypoint with its name; occluded keypoints are rings. With several classes each
    object has its class at its upper left corner.

    Args:
        batch: one image or more, of one size.
        schema: classes and slots.
        later: the same images, in the same order, as a later epoch changes them; none: they stay as they are.

    Returns:
        The bytes of a JPEG file.
    """
    order = sorted(range(len(batch)), key=lambda index: not batch[index].classes)
    if later:
        chosen = [images[index] for index in order[: _TILES // 2] for images in (batch, later)]
    else:
        chosen = [batch[index] for index in order[:_TILES]]
    tiles = [_draw_tile(image, schema) for image in chosen]
    columns = min(_COLUMNS, len(tiles))
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP_PX) + GAP_PX, columns * (width + GAP_PX) + GAP_PX, 3), PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = GAP_PX + row * (height + GAP_PX), GAP_PX + column * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = tile
    return encode_jpeg(sheet, quality=88)


def _draw_tile(image: AugmentedImage, schema: Schema) -> RgbImage:
    """Draw an image and below it the name of the file it was made from."""
    height, width = image.image_rgb.shape[:2]
    scale = TILE_PX / max(width, height)
    size = max(1, round(scale * width)), max(1, round(scale * height))
    picture = np.array(Image.fromarray(image.image_rgb).resize(size, Image.Resampling.BICUBIC))
    objects = to_objects(image, schema, scale)
    draw_objects(picture, objects, schema)
    draw_labels(picture, to_labels(objects, schema), _NAME_PX)
    caption = np.full((_CAPTION_PX, size[0], 3), PAPER, np.uint8)
    draw_caption(caption, f"{image.name}: {image.note}" if image.note else image.name)
    return np.concatenate([picture, caption])


def to_objects(image: AugmentedImage, schema: Schema, scale: float) -> list[DrawnObject]:
    """Return the objects of an image in pixels of the picture."""
    objects: list[DrawnObject] = []
    for class_id, box, rows in zip(image.classes, scale * image.boxes_xyxy, image.keypoints.tolist(), strict=True):
        left, top, right, bottom = box.tolist()
        points = {
            name: DrawnPoint((scale * x, scale * y), hollow=int(visibility) == Visibility.OCCLUDED)
            for name, (x, y, visibility) in zip(schema.slots, rows, strict=True)
            if visibility > 0
        }
        objects.append(DrawnObject(schema.class_names[class_id], "", (left, top, right, bottom), points))
    return objects


def to_labels(objects: Sequence[DrawnObject], schema: Schema) -> list[Label]:
    """Return what is written: the name of every keypoint, and with several classes that of every object."""
    of_keypoint, of_class = keypoint_colours(schema), class_colours(schema)
    labels = [Label(name, point.xy, of_keypoint[name]) for item in objects for name, point in item.points.items()]
    if len(schema.classes) > 1:
        labels += [Label(item.class_name, item.box_xyxy[:2], of_class[item.class_name]) for item in objects]
    return labels
