"""What the shapes of each class look like, learnt from annotated objects, and how odd predicted ones are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.diagnosis.shape_model import MIN_POINTS, ShapeModel, fit_model, spread_evenly
from keypipe.drift.rows import LoggedObject, keypoints_px
from keypipe.keypoints.skeleton import Skeleton

Shapes = NDArray[np.complex128]
Array = NDArray[np.float64]

MIN_OBJECTS = 20
"""Fewer tell nothing of what is usual."""

_MOST_OBJECTS = 2000


class ClassShape(msgspec.Struct, frozen=True):
    """The shape of a class.

    Attributes:
        columns: keypoints that occur often enough.
        model: of these.
    """

    columns: NDArray[np.intp]
    model: ShapeModel

    def measure(self, objects: Sequence[LoggedObject], keypoint_conf: float) -> tuple[Array, Array]:
        """Measure how odd objects are.

        Args:
            objects: of the class.
            keypoint_conf: keypoints of less confidence are not looked at.

        Returns:
            Root mean square deviation of each object, float64 (n,); and of each keypoint its distance from where the
            object's others put it, in usual deviations, float64 (n, n_keypoints). NaN where it cannot be told.
        """
        shapes = np.array([_to_shape(found, keypoint_conf) for found in objects])
        oddity = np.full(len(shapes), np.nan)
        deviations = np.full(shapes.shape, np.nan)
        known = shapes[:, self.columns]
        enough = np.flatnonzero(np.isfinite(known).sum(axis=1) > MIN_POINTS)
        if len(enough):
            scores = self.model.score_best(known[enough])
            own = np.where(scores.mirrored[:, None], scores.deviations[:, self.model.partners], scores.deviations)
            oddity[enough] = scores.distance
            deviations[np.ix_(enough, self.columns)] = own
        return oddity, deviations


ClassShapes = Mapping[str, ClassShape]
"""By class; classes of too few objects have none."""


def learn_shape(shapes: Shapes, skeleton: Skeleton) -> ClassShape | None:
    """Learn the shape of a class.

    Args:
        shapes: complex (n_objects, n_keypoints), x + iy, pixels; NaN = not labelled.
        skeleton: of the class.

    Returns:
        None where too few objects have enough keypoints.
    """
    names, partners = skeleton.keypoints, skeleton.partners()
    flip = np.array([names.index(partners.get(name, name)) for name in names], dtype=np.intp)
    sample = shapes[spread_evenly(len(shapes), _MOST_OBJECTS)]
    seen = np.isfinite(sample).sum(axis=0) >= MIN_OBJECTS
    columns = np.flatnonzero(seen & seen[flip])
    if len(columns) <= MIN_POINTS or (np.isfinite(sample[:, columns]).sum(axis=1) > MIN_POINTS).sum() < MIN_OBJECTS:
        return None
    number = {int(column): index for index, column in enumerate(columns)}
    inner = np.array([number[int(flip[column])] for column in columns], dtype=np.intp)
    return ClassShape(columns, fit_model(sample[:, columns], inner))


def _to_shape(found: LoggedObject, keypoint_conf: float) -> Shapes:
    places = keypoints_px(found)
    shape: Shapes = places[:, 0] + 1j * places[:, 1]
    shape[[point.confidence < keypoint_conf for point in found.keypoints]] = np.nan
    return shape
