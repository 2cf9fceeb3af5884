"""COCO-keypoints JSON: the neutral file between the stages (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from keypipe.annotation import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.errors import AnnotationError
from keypipe.skeleton import Schema


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
    file = CocoFile([], [], to_categories(schema), dict(_INFO))
    for entry, objects in _number(sorted(images, key=lambda item: item.path), schema):
        file.images.append(entry)
        file.annotations += objects
    return file


_INFO = {"description": "keypipe"}


def _number(images: Iterable[AnnotatedImage], schema: Schema) -> Iterator[tuple[CocoImage, list[CocoAnnotation]]]:
    """Turn images in the order of their paths into entries."""
    category_id = {name: index for index, name in enumerate(schema.class_names, start=1)}
    orders = {name: skeleton.keypoints for name, skeleton in schema.classes.items()}
    annotation_id = 1
    for image_id, image in enumerate(images, start=1):
        width, height = image.size_wh
        yield (
            CocoImage(image_id, image.path, width, height, image.md5, image.source),
            [
                _to_annotation(
                    number, image_id, category_id[instance.class_name], instance, orders[instance.class_name]
                )
                for number, instance in enumerate(image.instances, start=annotation_id)
            ],
        )
        annotation_id += len(image.instances)


def write_coco(path: Path, images: Iterable[AnnotatedImage], schema: Schema) -> None:
    """Write the COCO file of annotated images, one of them in memory at a time.

    Args:
        path: where to write; it is the same as ``format_coco(to_coco(images, schema))``.
        images: in the order of their paths.
        schema: gives the categories.
    """
    encode = msgspec.json.encode
    head = CocoFile([], [], to_categories(schema), dict(_INFO))
    with path.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as rest:
        file.write(_format_head(head) + b',\n"images":[')
        rest.write(b'"annotations":[')
        first, first_annotation = b"\n", b"\n"
        for entry, objects in _number(images, schema):
            file.write(first + encode(entry))
            first = b",\n"
            for annotation in objects:
                rest.write(first_annotation + encode(annotation))
                first_annotation = b",\n"
        file.write((b"\n" if first == b"\n" else b"") + b"\n],\n")
        rest.write((b"\n" if first_annotation == b"\n" else b"") + b"\n]}\n")
        rest.seek(0)
        shutil.copyfileobj(rest, file, 1 << 20)


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


_NOT_LABELLED = (0, 0, 0)


def _to_annotation(
    annotation_id: int, image_id: int, category_id: int, instance: Instance, order: Sequence[str]
) -> CocoAnnotation:
    left, top, right, bottom = instance.box_xyxy
    flat: list[int | float] = []
    for name in order:
        point = instance.keypoints.get(name)
        flat += _NOT_LABELLED if point is None else (point.x, point.y, int(point.visibility))
    width, height = right - left, bottom - top
    return CocoAnnotation(
        annotation_id,
        image_id,
        category_id,
        (left, top, width, height),
        width * height,
        flat,
        len(instance.keypoints),
    )


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


def subset(file: CocoFile, image_ids: Iterable[int]) -> CocoFile:
    """Keep some images and what lies on them; ids stay as they are."""
    kept = set(image_ids)
    return CocoFile(
        [image for image in file.images if image.id in kept],
        [annotation for annotation in file.annotations if annotation.image_id in kept],
        file.categories,
        file.info,
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
    parts = [_format_head(file)]
    for key in ("images", "annotations"):
        entries = b",\n".join(encode(entry) for entry in getattr(file, key))
        parts.append(b'"' + key.encode() + b'":[\n' + entries + b"\n]")
    return b",\n".join(parts) + b"}\n"


def _format_head(file: CocoFile) -> bytes:
    encode = msgspec.json.encode
    categories = b",\n".join(encode(entry) for entry in file.categories)
    return b'{"info":' + encode(file.info, order="deterministic") + b',\n"categories":[\n' + categories + b"\n]"
