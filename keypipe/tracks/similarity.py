"""How much an object is like the one that an identity should be by now."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.evaluation.oks import AREA_FACTOR
from keypipe.keypoints.boxes import Array, box_iou


class Objects(msgspec.Struct, frozen=True):
    """What was found on a frame, as arrays.

    Attributes:
        class_ids: int64 (n,).
        scores: float64 (n,).
        boxes_xyxy: float64 (n, 4), pixels.
        points: float64 (n, n_keypoints, 3), x, y in pixels and confidence; keypoints that a class lacks have 0.
    """

    class_ids: NDArray[np.int64]
    scores: Array
    boxes_xyxy: Array
    points: Array

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def centres(self) -> Array:
        """Middles of the boxes, float64 (n, 2), pixels."""
        centres: Array = (self.boxes_xyxy[:, :2] + self.boxes_xyxy[:, 2:]) / 2
        return centres

    @property
    def sizes(self) -> Array:
        """Roots of the boxes' areas, float64 (n,), pixels, 1 or more."""
        sides: Array = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
        return np.asarray(np.sqrt(np.maximum(sides.prod(-1), 1.0)))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Objects:
        """Return some of them."""
        return Objects(self.class_ids[rows], self.scores[rows], self.boxes_xyxy[rows], self.points[rows])


def empty_objects(n_keypoints: int) -> Objects:
    """Return none."""
    return Objects(np.empty(0, np.int64), np.empty(0), np.empty((0, 4)), np.empty((0, n_keypoints, 3)))


def join_objects(first: Objects, second: Objects) -> Objects:
    """Return both, one after the other."""
    fields = ("class_ids", "scores", "boxes_xyxy", "points")
    return Objects(*(np.concatenate([getattr(first, name), getattr(second, name)]) for name in fields))


def similarities(expected: Objects, spreads: Array, found: Objects, sigma: float) -> Array:
    """Compare every expected object with every one that was found.

    The mean of the boxes' overlap and of OKS over the keypoints, weighted by the confidence of both sides. What is not
    known of the place, the spread, widens each keypoint's tolerance; so an object that was away for long, or that was
    seen only once and may be fast, is still known at some distance.

    Args:
        expected: n identities, moved to where they should be.
        spreads: float64 (n,), variances of their places in square pixels.
        found: m objects.
        sigma: of every keypoint.

    Returns:
        float64 (n, m) in [0, 1]; 0 between classes.
    """
    alike = expected.class_ids[:, None] == found.class_ids[None]
    overlap = box_iou(expected.boxes_xyxy[:, None], found.boxes_xyxy[None])
    # Detectors cut boxes now and then; the middle of both areas is steadier than either.
    tolerance = AREA_FACTOR * expected.sizes[:, None] * found.sizes[None] * (2 * sigma) ** 2 + spreads[:, None]
    squared = ((expected.points[:, None, :, :2] - found.points[None, :, :, :2]) ** 2).sum(-1)
    weights = expected.points[:, None, :, 2] * found.points[None, :, :, 2]
    total = weights.sum(-1)
    nearness = (weights * np.exp(-squared / (2 * tolerance[..., None]))).sum(-1) / np.maximum(total, 1e-9)
    # Objects without a sure keypoint are compared by their middles.
    apart = ((expected.centres[:, None] - found.centres[None]) ** 2).sum(-1)
    nearness = np.where(total > 1e-3, nearness, np.exp(-apart / (2 * tolerance)))
    return np.where(alike, (overlap + nearness) / 2, 0.0)
