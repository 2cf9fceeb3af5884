"""Edges of a skeleton, from what usually lies near what."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

_QUANTILE = 90
"""Percentile of a distance that counts: two ends of a bone are never far apart, two hooves only sometimes near."""
_ACROSS = 3.0
"""How much longer an edge counts that leads from a left keypoint to a right one: in a view from the side the two legs
lie near each other, and are not joined there."""


def propose_edges(points: NDArray[np.complex128], partners: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Join keypoints by a minimum spanning tree over their typical distances.

    A tree over left/right pairs is the same on both sides where the distances are nearly so: each counts as the mean of
    itself and its mirror image.

    Args:
        points: complex128 (n, n_keypoints), x + iy in pixels; NaN = not labelled.
        partners: int (n_keypoints,), the keypoint that each is exchanged with in a mirror; itself where there is none.

    Returns:
        Pairs of keypoints, the smaller number first, in order; keypoints that are never labelled together with any
        other are joined to nothing.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    n_keypoints = points.shape[1]
    if n_keypoints < 2 or not len(points):
        return []
    distances = measure_distances(points)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pairs that are never there together
        distances = np.nanmean([distances, distances[np.ix_(partners, partners)]], axis=0)
    one_side = partners != np.arange(n_keypoints)
    side = np.where(one_side, np.where(np.arange(n_keypoints) < partners, 1, -1), 0)
    distances[np.multiply.outer(side, side) < 0] *= _ACROSS
    rows, columns = np.nonzero(np.isfinite(distances) & np.tri(n_keypoints, k=-1, dtype=bool))
    # A sparse graph has no edge of length 0, as between keypoints that always lie on one spot.
    graph = csr_array((distances[rows, columns] + 1e-9, (rows, columns)), shape=distances.shape)
    tree = minimum_spanning_tree(graph).tocoo()
    return sorted((min(a, b), max(a, b)) for a, b in zip(tree.row.tolist(), tree.col.tolist(), strict=True))


def measure_distances(points: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return the typical distances of keypoints.

    Args:
        points: complex128 (n, n_keypoints), x + iy in pixels; NaN = not labelled.

    Returns:
        float64 (n_keypoints, n_keypoints), ninth deciles in sizes of the object (root mean square distance of its
        keypoints from their centre); NaN where two are never labelled together.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # objects without keypoints, pairs never there together
        centred = points - np.nanmean(points, axis=1, keepdims=True)
        size = np.sqrt(np.nanmean(np.abs(centred) ** 2, axis=1))
        scaled = points / np.where(size > 0, size, np.nan)[:, None]
        columns = [
            np.nanpercentile(np.abs(scaled - scaled[:, [column]]), _QUANTILE, axis=0)
            for column in range(points.shape[1])
        ]
    typical: NDArray[np.float64] = np.array(columns, dtype=np.float64)
    return typical
