"""Good examples among annotated objects: large, whole, of a usual shape, and not at the picture's edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keypipe.diagnosis.columns import Rows
from keypipe.diagnosis.outliers import Examiner
from keypipe.keypoints.instances import Visibility

_MARGIN = 0.06  # box diagonals from the image's edge, nearer to which there is little to see around a keypoint


def rate_objects(rows: Rows, examiner: Examiner | None) -> NDArray[np.float64]:
    """Say how good an example each object of a class is.

    Args:
        rows: the objects.
        examiner: knows what shapes are usual; None where too few are annotated to know.

    Returns:
        float (n,), 0 to 1: size (the largest quarter is large enough), times how usual the shape is, times the share of
        keypoints that are labelled.
    """
    diagonals = _diagonals(rows)
    size = np.minimum(diagonals / max(float(np.quantile(diagonals, 0.75)), 1.0), 1.0) if len(diagonals) else diagonals
    distances = examiner.distances(rows.points) if examiner else np.full(len(size), np.nan)
    usual = np.where(np.isfinite(distances), 1 / (1 + np.maximum(np.nan_to_num(distances) - 1, 0)), 0.5)
    ratings: NDArray[np.float64] = size * usual * (rows.states > 0).mean(axis=1)
    return ratings


def choose_examples(
    rows: Rows,
    ratings: NDArray[np.float64],
    files: NDArray[np.int32],
    count: int,
    keypoint: int | None = None,
    state: Visibility = Visibility.VISIBLE,
) -> list[int]:
    """Choose good examples of a class, or of one of its keypoints, from different images.

    Args:
        rows: the objects.
        ratings: float (n,), see ``rate_objects``.
        files: int (n,), number of the file of each.
        count: how many.
        keypoint: number of the keypoint that is to be seen; None: the object as a whole.
        state: the keypoint's visibility.

    Returns:
        At most ``count`` rows, the best first.
    """
    worth = ratings.copy()
    if keypoint is not None:
        points = rows.points[:, keypoint]
        width, height = rows.sizes_wh.T
        with np.errstate(invalid="ignore"):
            edge = np.minimum.reduce([points.real, points.imag, width - points.real, height - points.imag])
            worth = np.where((rows.states[:, keypoint] == state) & (edge >= _MARGIN * _diagonals(rows)), worth, -1.0)
    chosen: list[int] = []
    taken: set[int] = set()
    for row in np.argsort(-worth, kind="stable").tolist():
        if len(chosen) == count or worth[row] < 0:
            break
        if int(files[row]) not in taken:
            taken.add(int(files[row]))
            chosen.append(row)
    return chosen


def _diagonals(rows: Rows) -> NDArray[np.float64]:
    boxes = rows.boxes_xyxy
    diagonals: NDArray[np.float64] = np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return diagonals
