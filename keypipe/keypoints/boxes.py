"""Boxes: what one is, what lies in it, what two of them share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

CONTAINMENT_SLACK = 0.02
"""A point this far outside a box, as a share of the box's longer side, still counts as inside: a keypoint
on the outline is clicked a pixel or two beyond the box as often as not."""


def contains(box_xyxy: Box, x: float, y: float, slack: float = CONTAINMENT_SLACK) -> bool:
    """Tell whether a point lies in a box, give or take a share of the box's longer side.

    Args:
        box_xyxy: left, top, right, bottom in pixels.
        x: pixels.
        y: pixels.
        slack: share of the longer side that a point may lie outside.
    """
    left, top, right, bottom = box_xyxy
    margin = slack * max(right - left, bottom - top)
    return left - margin <= x <= right + margin and top - margin <= y <= bottom + margin


def bounds(points_px: Iterable[tuple[float, float]]) -> Box:
    """Return the smallest box that holds some points, of which there is at least one; pixels."""
    xs, ys = zip(*points_px, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def box_around(points_px: Iterable[tuple[float, float]], margin: float) -> Box | None:
    """Return the box around points, with a margin on every side.

    Args:
        points_px: x, y in pixels.
        margin: share of the longer side of the points' extent.

    Returns:
        Left, top, right, bottom; None when it would have no area: fewer than two different points, or points on a
        line along an axis without a margin.
    """
    xs, ys = zip(*points_px, strict=True)
    grow = margin * max(max(xs) - min(xs), max(ys) - min(ys))
    left, top, right, bottom = min(xs) - grow, min(ys) - grow, max(xs) + grow, max(ys) + grow
    return (left, top, right, bottom) if right > left and bottom > top else None


def box_iou(first_xyxy: Array, second_xyxy: Array) -> Array:
    """Intersection over union of boxes.

    Args:
        first_xyxy: float64 (..., 4), left, top, right, bottom.
        second_xyxy: float64 (..., 4), of a shape that numpy broadcasts to the first: ``first[:, None]`` gives every
            box of the first with every box of the second.

    Returns:
        float64 (...) in [0, 1]; 0 where neither box has an area.
    """
    low = np.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    high = np.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (first_xyxy, second_xyxy)]
    union = areas[0] + areas[1] - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0.0)
