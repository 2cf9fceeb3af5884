"""COCO-keypoints JSON: the neutral file between the stages (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from keypipe.errors import AnnotationError
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import Schema


class CocoImage(msgspec.Struct, gc=False):
    """An entry of ``images``; ``md5`` and ``source`` are additions that COCO's tools pass over.

    Attributes:
        id: from 1, in path order.
        file_name: path relative to ``data/``.
        width: pixels, upright.
        height: pixels, upright.
        md5: hash of the image file's bytes.
        source: the annotation file it came from.
    """

    id: int
    file_name: str
    width: int
    height: int
    md5: str = ""
    source: str = ""


class CocoAnnotation(msgspec.Struct, gc=False):
    """An entry of ``annotations``.

    Attributes:
        id: from 1.
        image_id: the image it lies on.
        category_id: from 1, class order.
        bbox: left, top, width, height in pixels.
        area: the box's area in square pixels (there is no mask).
        keypoints: x, y, visibility for each of the category's keypoints; 0, 0, 0 where not labelled.
        num_keypoints: labelled ones.
        iscrowd: always 0.
    """

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    keypoints: list[int | float]
    num_keypoints: int
    iscrowd: int = 0


class CocoCategory(msgspec.Struct):
    """An entry of ``categories``: the class, its keypoint names, and its edges counted from 1."""

    id: int
    name: str
    keypoints: list[str]
    skeleton: list[tuple[int, int]] = []
    supercategory: str = ""


class CocoFile(msgspec.Struct):
    """A COCO-keypoints file."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]
    info: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(CocoFile)


def to_coco(images: Iterable[AnnotatedImage], schema: Schema) -> CocoFile:
    """Build the COCO file of annotated images.

    Args:
        images: in any order; ids follow the path.
        schema: gives the categories.

    Returns:
        Values ready for ``format_coco``; coordinates keep all their digits.
    """
    category_id = {name: index for index, name in enumerate(schema.class_names, start=1)}
    file = CocoFile([], [], to_categories(schema), dict(INFO))
    for image_id, image in enumerate(sorted(images, key=lambda item: item.path), start=1):
        file.images.append(to_entry(image_id, image))
        for instance in image.instances:
            flat: list[int | float] = []
            for name in schema.classes[instance.class_name].keypoints:
                point = instance.keypoints.get(name)
                flat += NOT_LABELLED if point is None else (point.x, point.y, int(point.visibility))
            annotation_id, category = len(file.annotations) + 1, category_id[instance.class_name]
            file.annotations.append(
                to_annotation(annotation_id, image_id, category, instance.box_xyxy, flat, len(instance.keypoints))
            )
    return file


INFO = {"description": "keypipe"}
"""The file's section ``info``."""
DEPTH, CUT = "depth", "cut"
"""Key of ``info`` that says what became of images with more than 8 bits a sample, and its value where it is absent."""
NOT_LABELLED = (0, 0, 0)
"""Values of a keypoint that is not labelled."""


def to_categories(schema: Schema) -> list[CocoCategory]:
    """Return the categories of a schema, ids from 1."""
    return [
        CocoCategory(
            index,
            name,
            list(skeleton.keypoints),
            [(skeleton.keypoints.index(a) + 1, skeleton.keypoints.index(b) + 1) for a, b in skeleton.edges],
        )
        for index, (name, skeleton) in enumerate(schema.classes.items(), start=1)
    ]


def to_entry(image_id: int, image: AnnotatedImage) -> CocoImage:
    """Return an image's entry in ``images``."""
    width, height = image.size_wh
    return CocoImage(image_id, image.path, width, height, image.md5, image.source)


def to_annotation(
    annotation_id: int, image_id: int, category_id: int, box_xyxy: Box, flat: list[int | float], labelled: int
) -> CocoAnnotation:
    """Return an object's entry in ``annotations``.

    Args:
        annotation_id: from 1.
        image_id: of its image.
        category_id: from 1, class order.
        box_xyxy: left, top, right, bottom in pixels.
        flat: x, y, visibility for each of the category's keypoints.
        labelled: number of labelled keypoints.
    """
    left, top, right, bottom = box_xyxy
    width, height = right - left, bottom - top
    box = (left, top, width, height)
    return CocoAnnotation(annotation_id, image_id, category_id, box, width * height, flat, labelled)


def to_images(file: CocoFile, *, keypoints: bool = True) -> list[AnnotatedImage]:
    """Read the annotated images back from a COCO file.

    Args:
        file: as ``to_coco`` builds it.
        keypoints: False leaves the keypoints out, which is far quicker where classes and boxes are all that is wanted.

    Returns:
        Images in file order.

    Raises:
        AnnotationError: an annotation names an image or a category that is not there, or has too few values.
    """
    categories = {category.id: category for category in file.categories}
    instances: dict[int, list[Instance]] = {image.id: [] for image in file.images}
    for annotation in file.annotations:
        category = categories.get(annotation.category_id)
        if category is None or annotation.image_id not in instances:
            raise AnnotationError(f"annotation {annotation.id} names an image or a category that is not in the file")
        if len(annotation.keypoints) != 3 * len(category.keypoints):
            expected = f"{3 * len(category.keypoints)} values for the keypoints of {category.name}"
            raise AnnotationError(f"annotation {annotation.id}: expected {expected}, got {len(annotation.keypoints)}")
        instances[annotation.image_id].append(_to_instance(annotation, category, keypoints=keypoints))
    return [
        AnnotatedImage(
            image.file_name, (image.width, image.height), image.md5, tuple(instances[image.id]), image.source
        )
        for image in file.images
    ]


_VISIBILITIES = tuple(Visibility)  # looked up; calling the enumeration takes longer than all the rest


def _to_instance(annotation: CocoAnnotation, category: CocoCategory, *, keypoints: bool) -> Instance:
    left, top, width, height = annotation.bbox
    box = (left, top, left + width, top + height)
    if not keypoints:
        return Instance(category.name, box, {})
    flat = annotation.keypoints
    points = zip(category.keypoints, flat[::3], flat[1::3], flat[2::3], strict=True)
    return Instance(
        category.name, box, {name: Keypoint(x, y, _VISIBILITIES[int(v)]) for name, x, y, v in points if v > 0}
    )


def parse_coco(content: bytes) -> CocoFile:
    """Parse the text of a COCO-keypoints JSON.

    Raises:
        AnnotationError: no JSON, or not a COCO-keypoints file.
    """
    try:
        return _DECODER.decode(content)
    except msgspec.DecodeError as error:
        raise AnnotationError(f"not a COCO-keypoints JSON: {error}") from error


def format_coco(file: CocoFile) -> bytes:
    """Format a COCO file: one line per entry, so that versions can be compared line by line."""
    encode = msgspec.json.encode
    parts = [format_head(file)]
    for key in ("images", "annotations"):
        entries = b",\n".join(encode(entry) for entry in getattr(file, key))
        parts.append(b'"' + key.encode() + b'":[\n' + entries + b"\n]")
    return b",\n".join(parts) + b"}\n"


def format_head(file: CocoFile) -> bytes:
    """Format a file's beginning, all that comes before ``images``."""
    encode = msgspec.json.encode
    categories = b",\n".join(encode(entry) for entry in file.categories)
    return b'{"info":' + encode(file.info, order="deterministic") + b',\n"categories":[\n' + categories + b"\n]"
