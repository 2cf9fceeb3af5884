"""The numbers that two sets of rows are compared by: what the model says, geometry, and pixels.

Every value stands for an object or an image, and belongs to a unit: a video, a group, an image that stands alone.
S. Rabanser, S. Günnemann and Z. Lipton, "Failing Loudly", NeurIPS 2019 (arXiv 1810.11953), found the outputs of the
model itself the best place to look for a shift of its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.drift.rows import LoggedObject, Row
from keypipe.drift.shapes import ClassShape, ClassShapes
from keypipe.keypoints.predictions import DEFAULT_KEYPOINT_CONF
from keypipe.keypoints.skeleton import Schema

Family = Literal["outputs", "geometry", "pixels"]
Array = NDArray[np.float64]


FAR = 0.5
"""Movement in box diagonals that stands for all larger ones, and for a view that has lost the object."""


class Feature(msgspec.Struct, frozen=True):
    """The values of one kind.

    Attributes:
        name: short and stable, such as ``cow/nose/x``.
        title: for people.
        family: what it tells of.
        values: float64 (n,), finite.
        units: intp (n,), the unit of each, as a position among the units.
    """

    name: str
    title: str
    family: Family
    values: Array
    units: NDArray[np.intp]


class _Collector:
    """Gathers values under their names, in the order in which the names are first said."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, Family, list[float], list[int]]] = {}

    def declare(self, name: str, title: str, family: Family) -> None:
        self.found.setdefault(name, (title, family, [], []))

    def add(self, name: str, value: float, unit: int) -> None:
        if math.isfinite(value):
            _, _, values, units = self.found[name]
            values.append(value)
            units.append(unit)


def extract_features(
    rows: Sequence[Row], units: Sequence[int], schema: Schema, shapes: ClassShapes
) -> dict[str, Feature]:
    """Compute all features of rows, in the same order for the same schema.

    Args:
        rows: images or frames.
        units: for each the position of its unit.
        schema: of the model.
        shapes: what its objects look like.
    """
    gather = _Collector()
    _declare(gather, schema)
    for row, unit in zip(rows, units, strict=True):
        _add_image(gather, row, unit)
        for class_name in schema.class_names:
            mine = [found for found in row.objects if found.class_name == class_name]
            if len(schema.classes) > 1:
                gather.add(f"{class_name}/count", float(len(mine)), unit)
            for found, odd in zip(mine, _oddities(mine, shapes.get(class_name)), strict=True):
                _add_object(gather, found, odd, unit)
    return {
        name: Feature(name, title, family, np.array(values, dtype=np.float64), np.array(where, dtype=np.intp))
        for name, (title, family, values, where) in gather.found.items()
    }


_PIXELS = {
    "brightness": "brightness of the image",
    "contrast": "contrast of the image",
    "saturation": "saturation of the image",
    "sharpness": "sharpness of the image",
    "megapixels": "size of the image, megapixels",
    "shape": "width through height of the image",
}


def _declare(gather: _Collector, schema: Schema) -> None:
    gather.declare("count", "objects on an image", "outputs")
    gather.declare("best", "best score on an image", "outputs")
    for name, skeleton in schema.classes.items():
        of = f" of {name}" if len(schema.classes) > 1 else ""
        if of:
            gather.declare(f"{name}/count", f"objects of {name} on an image", "outputs")
        gather.declare(f"{name}/score", f"score{of}", "outputs")
        gather.declare(f"{name}/confidence", f"mean keypoint confidence{of}", "outputs")
        gather.declare(f"{name}/shown", f"share of keypoints shown{of}", "outputs")
        gather.declare(f"{name}/mirrored", f"movement when mirrored{of}", "outputs")
        gather.declare(f"{name}/smaller", f"movement when smaller{of}", "outputs")
        gather.declare(f"{name}/size", f"size in the image{of}", "geometry")
        gather.declare(f"{name}/aspect", f"width through height{of}", "geometry")
        gather.declare(f"{name}/oddity", f"oddity of the shape{of}", "geometry")
        for keypoint in skeleton.keypoints:
            gather.declare(f"{name}/{keypoint}/confidence", f"confidence of {keypoint}{of}", "outputs")
            gather.declare(f"{name}/{keypoint}/x", f"{keypoint} across the box{of}", "geometry")
            gather.declare(f"{name}/{keypoint}/y", f"{keypoint} down the box{of}", "geometry")
    for key, title in _PIXELS.items():
        gather.declare(key, title, "pixels")


def _add_image(gather: _Collector, row: Row, unit: int) -> None:
    gather.add("count", float(len(row.objects)), unit)
    gather.add("best", max((found.score for found in row.objects), default=0.0), unit)
    for name, value in msgspec.structs.asdict(row.pixels).items():
        gather.add(name, value, unit)
    width, height = row.size_wh
    gather.add("megapixels", width * height / 1e6, unit)
    gather.add("shape", width / max(height, 1), unit)


def _add_object(gather: _Collector, found: LoggedObject, oddity: float, unit: int) -> None:
    name = found.class_name
    confidences = [point.confidence for point in found.keypoints]
    gather.add(f"{name}/score", found.score, unit)
    gather.add(f"{name}/size", found.size, unit)
    gather.add(f"{name}/aspect", math.log(max(found.aspect, 1e-6)), unit)
    gather.add(f"{name}/oddity", oddity, unit)
    if confidences:
        gather.add(f"{name}/confidence", sum(confidences) / len(confidences), unit)
        shown = sum(value >= DEFAULT_KEYPOINT_CONF for value in confidences)
        gather.add(f"{name}/shown", shown / len(confidences), unit)
    for view in ("mirrored", "smaller"):
        moves = [getattr(point, view) for point in found.keypoints]
        if moves and moves[0] is not None:
            gather.add(f"{name}/{view}", float(np.median(np.minimum(moves, FAR))), unit)
    for point in found.keypoints:
        gather.add(f"{name}/{point.name}/confidence", point.confidence, unit)
        if point.confidence >= DEFAULT_KEYPOINT_CONF:
            gather.add(f"{name}/{point.name}/x", point.x, unit)
            gather.add(f"{name}/{point.name}/y", point.y, unit)


def _oddities(objects: Sequence[LoggedObject], shape: ClassShape | None) -> list[float]:
    """Return how odd the shapes of objects of a class are; NaN where it cannot be told."""
    if shape is None or not objects:
        return [math.nan] * len(objects)
    return [float(value) for value in np.log1p(shape.measure(objects, DEFAULT_KEYPOINT_CONF)[0])]
