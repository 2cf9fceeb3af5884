"""What the objects of a folder are like: how large, how far apart their keypoints, how turned, how mirrored."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.diagnosis.columns import Rows
from keypipe.diagnosis.shape_model import align, find_mean, mirror, spread_evenly

Reals = NDArray[np.float64]

_MIN_SHAPES = 10
_MOST_SHAPES = 2000


class Geometry(msgspec.Struct, frozen=True):
    """Objects in numbers. Lengths are shares of the longer side of the image, which an input keeps.

    Attributes:
        n_objects: with a box.
        image_px: longer side of the images, the ninth decile; pixels.
        smallest: longer side of the boxes, the first percentile.
        small: the same, the first decile.
        median: the same, the median.
        spacing: distance between the two nearest keypoints of an object, the first decile; NaN without two.
        whole: share of the objects that lie wholly inside a random cut of the image's size, as a mosaic makes it.
        turned_degrees: how far nine tenths of the objects are turned from the usual way, at most; NaN where shapes
            tell nothing.
        quarters: how well turns are quarter turns, 0 to 1; the mean over the classes.
        mirrored: share of the objects that are rather mirror images of the others, with names as they are; 0 to 0.5;
            NaN where shapes tell nothing.
    """

    n_objects: int
    image_px: float
    smallest: float
    small: float
    median: float
    spacing: float
    whole: float
    turned_degrees: float
    quarters: float
    mirrored: float


def measure_geometry(classes: Mapping[str, Rows], partners: Mapping[str, Sequence[int]]) -> Geometry | None:
    """Measure the objects of all classes together; None without any.

    Args:
        classes: the objects of each class.
        partners: of each class, the keypoint that each is exchanged with in a mirror; itself where there is none.
    """
    classes = {name: rows for name, rows in classes.items() if len(rows.boxes_xyxy)}
    if not classes:
        return None
    sides, images, spacings = [], [], []
    turns: list[Reals] = []
    quarters: list[float] = []
    mirrored: list[NDArray[np.bool_]] = []
    for name, rows in classes.items():
        image_px = rows.sizes_wh.max(axis=1).astype(np.float64)
        sides.append((rows.boxes_xyxy[:, 2:] - rows.boxes_xyxy[:, :2]) / rows.sizes_wh)
        images.append(np.column_stack([rows.sizes_wh / image_px[:, None], image_px]))
        spacings.append(_nearest(rows.points) / image_px)
        turn, reversed_ = _find_turns(rows.points, np.array(partners[name], dtype=np.intp))
        turns.append(turn)
        quarters.append(abs(complex(np.exp(4j * np.radians(turn)).mean())) if len(turn) else 0.0)
        mirrored.append(reversed_)
    shares_wh, image = np.concatenate(sides), np.concatenate(images)
    longer = (shares_wh * image[:, :2]).max(axis=1)
    spacing = np.concatenate(spacings)
    turned, seen = np.concatenate(turns), np.concatenate(mirrored)
    share = float(seen.mean()) if len(seen) else np.nan
    return Geometry(
        n_objects=len(longer),
        image_px=float(np.percentile(image[:, 2], 90)),
        smallest=float(np.percentile(longer, 1)),
        small=float(np.percentile(longer, 10)),
        median=float(np.median(longer)),
        spacing=float(np.nanpercentile(spacing, 10)) if np.isfinite(spacing).any() else np.nan,
        whole=float(np.clip(1 - shares_wh, 0, 1).prod(axis=1).mean()),
        turned_degrees=float(np.percentile(np.abs(turned), 90)) if len(turned) else np.nan,
        quarters=float(np.average(quarters, weights=[len(turn) for turn in turns])) if len(turned) else np.nan,
        mirrored=min(share, 1 - share),
    )


def _nearest(points: NDArray[np.complex128]) -> Reals:
    """Return the distance between the two nearest keypoints of each object, pixels; NaN with fewer than two."""
    nearest = np.full(len(points), np.inf)
    for column in range(points.shape[1] - 1):
        apart = np.abs(points[:, column + 1 :] - points[:, [column]])
        nearest = np.fmin(nearest, np.fmin.reduce(apart, axis=1))
    return np.where(np.isfinite(nearest), nearest, np.nan)


def _find_turns(points: NDArray[np.complex128], partners: NDArray[np.intp]) -> tuple[Reals, NDArray[np.bool_]]:
    """Tell how objects are turned against the usual way, and which are mirror images.

    Returns:
        float64 (m,), degrees, -180 to 180; and bool (m,), by shapes of three keypoints or more, whose mirror image is
        another shape. Objects with fewer than two keypoints take no part.
    """
    nothing = np.empty(0), np.empty(0, dtype=bool)
    whole = points[np.isfinite(points).sum(axis=1) >= 2]
    if points.shape[1] < 2 or len(whole) < _MIN_SHAPES:
        return nothing
    whole = whole[spread_evenly(len(whole), _MOST_SHAPES)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # keypoints that are hardly ever labelled
        mean = find_mean(whole, partners)
        # A mirror image across the vertical, so that an animal that stands and looks the other way is not turned.
        ways = [align(candidates, mean, np.isfinite(mean)[None]) for candidates in (whole, -mirror(whole, partners))]
        misfits = [np.nansum(np.abs(aligned - mean) ** 2, axis=1) for aligned, _, _ in ways]
    reversed_ = misfits[1] < misfits[0]
    # The mirror image of an object that is turned by a is turned by -a.
    angles = np.where(reversed_, -np.angle(ways[1][1]), np.angle(ways[0][1]))
    angles = angles[np.isfinite(angles)]
    if not len(angles):
        return nothing
    usual = np.exp(1j * angles).mean()
    turned = np.degrees(np.angle(np.exp(1j * angles) * (np.conj(usual) if abs(usual) > 0 else 1)))
    tells = np.isfinite(whole).sum(axis=1) >= 3
    return turned, reversed_[tells]
