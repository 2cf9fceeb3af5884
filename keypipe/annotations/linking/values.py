"""Boxes and points to be linked, and what linking found."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from keypipe.errors import Fault
from keypipe.keypoints.boxes import Box


class BoxShape(msgspec.Struct, frozen=True):
    """A rectangle of a class of the schema: position in the file, class, corners in pixels, group or None."""

    shape: int
    class_name: str
    box_xyxy: Box
    group: Hashable | None


class PointShape(msgspec.Struct, frozen=True):
    """A point of a keypoint name of the schema: position in the file, name, pixels, group or None."""

    shape: int
    name: str
    x: float
    y: float
    group: Hashable | None


class Links(msgspec.Struct):
    """What linking found.

    Attributes:
        owner: for every linked point's shape index, the shape index of its box.
        faults: points that belong to no box, to two, or repeat a keypoint; groups with several boxes.
        by_place: shape indices of the points that overlapping boxes could own, and their place decided.
        by_list_order: shape indices of the points that only their place in the list could decide.
        of_others: shape indices of points that belong to an object of a class outside the schema.
    """

    owner: dict[int, int]
    faults: list[Fault]
    by_place: list[int]
    by_list_order: list[int]
    of_others: list[int]
