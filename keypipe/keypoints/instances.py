"""The neutral model between the formats: images, instances and their keypoints."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Visibility(IntEnum):
    """COCO's keypoint visibility (COCO data format, keypoint detection)."""

    NOT_LABELLED = 0
    OCCLUDED = 1
    VISIBLE = 2


class Keypoint(msgspec.Struct, frozen=True, gc=False):  # there are millions, and no cycles
    """A labelled keypoint: x and y in pixels of the upright image, and its visibility (1 or 2)."""

    x: float
    y: float
    visibility: Visibility = Visibility.VISIBLE


class Instance(msgspec.Struct, frozen=True, gc=False):
    """One annotated object.

    Attributes:
        class_name: a class of the schema.
        box_xyxy: left, top, right, bottom in pixels, inside the image.
        keypoints: the labelled keypoints by name; one that is not labelled is absent, not (0, 0).
    """

    class_name: str
    box_xyxy: tuple[float, float, float, float]
    keypoints: dict[str, Keypoint]


class AnnotatedImage(msgspec.Struct, frozen=True, gc=False):
    """One image and what is on it.

    Attributes:
        path: the image's path relative to ``data/``, with forward slashes: ``raw/...`` or ``derived/...``.
        size_wh: width and height in pixels as labelme shows the image, EXIF orientation applied.
        md5: hash of the image file's bytes, the identity of the image.
        instances: its objects; none for a negative.
        source: the annotation file, relative to ``data/raw``.
    """

    path: str
    size_wh: tuple[int, int]
    md5: str
    instances: tuple[Instance, ...]
    source: str


class InstanceShapes(msgspec.Struct, frozen=True):
    """Where an instance stands in its file: the shape index of its box, and of each keypoint by name."""

    box: int
    keypoints: dict[str, int]
