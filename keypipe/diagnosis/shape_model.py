"""What the shapes of a class look like: alignment by similarity, a mean shape, and a robust covariance around it.

Shapes are complex numbers, x + iy, so that a similarity transform is one multiplication and one addition
(generalised Procrustes analysis: J. C. Gower, Psychometrika 40, 1975; in the plane: I. L. Dryden and K. V. Mardia,
Statistical Shape Analysis, 2016, chapter 8). An object that faces the other way is aligned as its mirror image, with
the partners of left/right pairs exchanged. What is left after alignment is modelled as normal, with a covariance from
the most central instances (concentration steps as in the MCD: P. J. Rousseeuw and K. Van Driessen, Technometrics 41,
1999). Translation, rotation and scale get so much variance in it that they tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shapes = NDArray[np.complex128]
Reals = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]

MIN_POINTS = 3
"""A similarity transform fits any two points exactly."""
GAUSSIAN_QUARTILE = 0.674
"""Third quartile of the standard normal distribution."""

_MAX_REFERENCES = 40
_ALIGNMENTS = 8
_CONCENTRATIONS = 8
_CORE = 0.8  # share of the instances that the covariance is taken from
_FLOOR = 0.02  # standard deviation, in shape sizes, that a click has at least
_FREE = 1e4  # variance of translation, rotation and scale, in shape sizes squared


def spread_evenly(length: int, count: int) -> Ints:
    """Return at most ``count`` positions, evenly spread."""
    return np.unique(np.linspace(0, max(length - 1, 0), min(length, count)).astype(np.intp))


def align(shapes: Shapes, mean: Shapes, used: Bools | None = None) -> tuple[Shapes, Shapes, Shapes]:
    """Turn shapes onto a mean shape: same centre, same size, and the rotation of least squares.

    Args:
        shapes: complex (n, n_keypoints); NaN = not labelled.
        mean: complex (n_keypoints,).
        used: bool (n, n_keypoints), the keypoints that decide; all labelled ones unless given.

    Returns:
        The aligned shapes ``scale * shapes + shift``; scale, complex (n,); shift, complex (n,). NaN where fewer than
        two keypoints decide.
    """
    used = np.isfinite(shapes) if used is None else used & np.isfinite(shapes)
    count = np.maximum(used.sum(axis=1), 1)
    centre = np.where(used, shapes, 0).sum(axis=1) / count
    target = np.where(used, mean, 0).sum(axis=1) / count
    offsets = np.where(used, shapes - centre[:, None], 0)
    targets = np.where(used, mean - target[:, None], 0)
    product = (offsets.conj() * targets).sum(axis=1)
    size = np.sqrt((np.abs(offsets) ** 2).sum(axis=1)) * np.abs(product)
    # Not the least squares scale, which shrinks a shape to a point, and all its residuals with it, where nothing fits.
    scale = product * np.sqrt((np.abs(targets) ** 2).sum(axis=1)) / np.where(size > 0, size, 1)
    scale[size == 0] = np.nan
    shift = target - scale * centre
    return scale[:, None] * shapes + shift[:, None], scale, shift


def mirror(shapes: Shapes, partners: Ints) -> Shapes:
    """Return the mirror images, with the partners of left/right pairs exchanged."""
    mirrored: Shapes = shapes.conj()[:, partners]
    return mirrored


def find_mean(shapes: Shapes, partners: Ints) -> Shapes:
    """Find the mean shape, robustly: medians over the instances, each turned and, where that fits better, mirrored.

    Args:
        shapes: complex (n, n_keypoints); NaN = not labelled.
        partners: see ``examine_shapes``.

    Returns:
        complex (n_keypoints,) with centre 0 and size 1.
    """
    counts = np.isfinite(shapes).sum(axis=1)
    fullest = np.flatnonzero(counts == counts.max())
    sample = shapes[spread_evenly(len(shapes), 10 * _MAX_REFERENCES)]
    references = [_normalised(shapes[index]) for index in fullest[spread_evenly(len(fullest), _MAX_REFERENCES)]]
    misfits = [float(np.median(_align_either_way(sample, reference, partners)[1])) for reference in references]
    mean = references[int(np.argmin(misfits))]
    for _ in range(_ALIGNMENTS):
        aligned, _ = _align_either_way(shapes, mean, partners)
        mean = _normalised(np.nanmedian(aligned.real, axis=0) + 1j * np.nanmedian(aligned.imag, axis=0))
    return mean


def _normalised(shape: Shapes) -> Shapes:
    centred = shape - np.nanmean(shape)
    normalised: Shapes = centred / np.sqrt(np.nanmean(np.abs(centred) ** 2))
    return normalised


def _align_either_way(shapes: Shapes, mean: Shapes, partners: Ints) -> tuple[Shapes, Reals]:
    """Align shapes or their mirror images, whichever fits better; also return the mean squared misfit."""
    ways = [align(candidates, mean, np.isfinite(mean)[None])[0] for candidates in (shapes, mirror(shapes, partners))]
    counts = np.maximum((np.isfinite(shapes) & np.isfinite(mean)).sum(axis=1), 1)
    misfits = [np.nansum(np.abs(way - mean) ** 2, axis=1) / counts for way in ways]
    mirrored = misfits[1] < misfits[0]
    return np.where(mirrored[:, None], ways[1], ways[0]), np.minimum(*misfits)


@dataclass(frozen=True)
class Scores:
    """How probable shapes are under a model.

    Attributes:
        squared: float (n,), squared Mahalanobis distance of the instance; NaN with fewer than three keypoints.
        freedom: float (n,), its degrees of freedom.
        deviations: float (n, n_keypoints), distance of each keypoint from where the others put it, in deviations.
        errors: complex (n, n_keypoints), the same as a vector in the frame of the mean shape.
        aligned: complex (n, n_keypoints), the shapes in that frame.
        scale: complex (n,), and
        shift: complex (n,): how they got there.
        mirrored: bool (n,), whether mirrored before; keypoints then stand in their partners' columns.
    """

    squared: Reals
    freedom: Reals
    deviations: Reals
    errors: Shapes
    aligned: Shapes
    scale: Shapes
    shift: Shapes
    mirrored: Bools

    @property
    def distance(self) -> Reals:
        """Root mean square deviation for each degree of freedom, float (n,); usual ones are about 1."""
        return np.sqrt(self.squared / np.maximum(self.freedom, 1))


@dataclass(frozen=True)
class ShapeModel:
    """A mean shape, complex (n_keypoints,), and the covariance of x0, y0, x1, … around it in its frame."""

    mean: Shapes
    covariance: Reals
    partners: Ints

    def score_best(self, shapes: Shapes, without: Ints | None = None) -> Scores:
        """Score shapes as they are and mirrored, and keep what is more probable.

        Args:
            shapes: complex (n, n_keypoints).
            without: int (n,), for each shape a keypoint that has no say in its alignment and its distance.
        """
        partner = None if without is None else self.partners[without]
        return _more_probable(
            self._score(shapes, without, mirrored=False),
            self._score(mirror(shapes, self.partners), partner, mirrored=True),
        )

    def _score(self, shapes: Shapes, without: Ints | None, *, mirrored: bool) -> Scores:
        rows = np.arange(len(shapes))
        used = np.isfinite(shapes)
        if without is not None:
            used[rows, without] = False
        aligned, scale, shift = align(shapes, self.mean, used)
        aligned[used.sum(axis=1) < MIN_POINTS] = np.nan
        squared, deviations, errors = _weigh(_to_reals(aligned - self.mean), self.covariance)
        if without is not None:  # the distance is the others' own and the last one's given the others
            squared = np.maximum(squared - deviations[rows, without] ** 2, 0)
        freedom = np.maximum(2.0 * used.sum(axis=1) - 4, 0)
        flags = np.full(len(shapes), fill_value=mirrored)
        return Scores(squared, freedom, deviations, errors, aligned, scale, shift, flags)


def _more_probable(first: Scores, second: Scores) -> Scores:
    take = np.nan_to_num(second.squared, nan=np.inf) < np.nan_to_num(first.squared, nan=np.inf)

    def choose(name: str) -> Any:
        a, b = getattr(first, name), getattr(second, name)
        return np.where(take if a.ndim == 1 else take[:, None], b, a)

    return Scores(*(choose(field.name) for field in fields(Scores)))


def _to_reals(values: Shapes) -> Reals:
    """Write complex (n, n_keypoints) as float (n, 2 * n_keypoints), x0, y0, x1 and so on."""
    return np.stack([values.real, values.imag], axis=-1).reshape(len(values), -1)


def _group_by_pattern(known: Bools) -> Iterator[tuple[Bools, Ints]]:
    """Yield each set of known columns with the rows that have just these."""
    bits = np.packbits(known, axis=1)
    words = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)
    code = np.zeros(len(known), dtype=np.intp)
    for word in words.T:  # sorting numbers is ten times as fast as sorting rows
        distinct, number = np.unique(word, return_inverse=True)
        code = np.unique(code * len(distinct) + number, return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(code))[:-1]):
        if len(rows) and known[rows[0]].any():
            yield known[rows[0]], rows


def _find_distances(residuals: Reals, covariance: Reals) -> Reals:
    """Compute squared Mahalanobis distances, float (n,); arguments as for ``_weigh``."""
    squared = np.full(len(residuals), np.nan)
    for pattern, rows in _group_by_pattern(np.isfinite(residuals[:, ::2])):
        known, weighted, _ = _weigh_known(residuals, covariance, pattern, rows)
        squared[rows] = (weighted * known).sum(axis=1)
    return squared


def _weigh_known(residuals: Reals, covariance: Reals, pattern: Bools, rows: Ints) -> tuple[Reals, Reals, Reals]:
    """Return the known residuals of some rows, their product with the precision matrix, and that matrix."""
    columns = np.flatnonzero(np.repeat(pattern, 2))
    precision = np.linalg.inv(covariance[np.ix_(columns, columns)]).astype(np.float64, copy=False)
    known = residuals if pattern.all() and len(rows) == len(residuals) else residuals[np.ix_(rows, columns)]
    weighted: Reals = known @ precision
    return known, weighted, precision


def _weigh(residuals: Reals, covariance: Reals) -> tuple[Reals, Reals, Shapes]:
    """Compute Mahalanobis distances, and every keypoint's deviation from its conditional mean given the others.

    With P the precision matrix of the known coordinates and r their residuals, the deviation of block j from its
    conditional mean is ``inv(P_jj) (P r)_j`` and its covariance ``inv(P_jj)`` (C. M. Bishop, Pattern Recognition and
    Machine Learning, 2006, section 2.3.1).

    Args:
        residuals: float (n, 2 * n_keypoints); NaN = not known.
        covariance: float (2 * n_keypoints, 2 * n_keypoints).

    Returns:
        Squared distances (n,), deviations (n, n_keypoints), deviations as vectors, complex (n, n_keypoints).
    """
    n, width = residuals.shape
    squared = np.full(n, np.nan)
    deviations = np.full((n, width // 2), np.nan)
    errors = np.full((n, width // 2), np.nan, dtype=np.complex128)
    for pattern, rows in _group_by_pattern(np.isfinite(residuals[:, ::2])):
        known, weighted, precision = _weigh_known(residuals, covariance, pattern, rows)
        columns = np.flatnonzero(np.repeat(pattern, 2))
        squared[rows] = (weighted * known).sum(axis=1)
        size = len(columns) // 2
        blocks = precision.reshape(size, 2, size, 2)[np.arange(size), :, np.arange(size), :]
        parts = weighted.reshape(-1, size, 2)
        vectors = np.einsum("kab,nkb->nka", np.linalg.inv(blocks), parts)
        place = np.ix_(rows, np.flatnonzero(pattern))
        deviations[place] = np.sqrt(np.maximum((vectors * parts).sum(axis=2), 0))
        errors[place] = vectors[..., 0] + 1j * vectors[..., 1]
    return squared, deviations, errors


def fit_model(shapes: Shapes, partners: Ints) -> ShapeModel:
    """Fit mean and covariance to the central part of the instances."""
    shapes = shapes[np.isfinite(shapes).sum(axis=1) >= MIN_POINTS]
    mean = find_mean(shapes, partners)
    residuals = _to_reals(_align_either_way(shapes, mean, partners)[0] - mean)
    n, width = residuals.shape
    free = _free_directions(mean)
    freedom = np.maximum(np.isfinite(residuals).sum(axis=1) - 4, 1)
    usual = freedom * (1 - 2 / (9 * freedom)) ** 3  # median of the chi-squared distribution (Wilson and Hilferty, 1931)
    shrinkage = min(1.0, 2 * width / n)  # few instances do not tell how keypoints go together
    within = np.kron(np.eye(width // 2), np.ones((2, 2)))  # 1 where both coordinates are of one keypoint
    floor = _FLOOR**2 * np.eye(width)

    deviation = np.nanmedian(np.abs(residuals - np.nanmedian(residuals, axis=0)), axis=0) / GAUSSIAN_QUARTILE
    centre, covariance = np.zeros(width), np.diag(deviation**2) + floor
    for _ in range(_CONCENTRATIONS):
        ratio = _find_distances(residuals - centre, covariance + free) / usual
        core = residuals[ratio <= np.quantile(ratio, _CORE)]
        filled, extra = _fill_in(core - centre, covariance, free)
        centre = centre + filled.mean(axis=0)
        filled -= filled.mean(axis=0)
        covariance = (filled.T @ filled + extra) / len(filled)
        covariance *= (1 - shrinkage) + shrinkage * within
        covariance += floor
        # The core is too narrow by its choice: widened so that the median distance is as it should be.
        covariance *= np.median(_find_distances(residuals - centre, covariance + free) / usual)
    return ShapeModel(mean + centre[::2] + 1j * centre[1::2], covariance + free, partners)


def _free_directions(mean: Shapes) -> Reals:
    """Return the covariance of translation, rotation and scale, which tell nothing of a shape."""
    moves = _to_reals(np.array([np.ones_like(mean), 1j * np.ones_like(mean), mean, 1j * mean]))
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    free: Reals = _FREE * moves.T @ moves
    return free


def _fill_in(residuals: Reals, covariance: Reals, free: Reals) -> tuple[Reals, Reals]:
    """Replace unknown coordinates by their conditional means; also return the covariance that this leaves out."""
    filled = residuals.copy()
    extra = np.zeros_like(covariance)
    total = covariance + free
    for pattern, rows in _group_by_pattern(np.isfinite(residuals[:, ::2])):
        known, unknown = np.flatnonzero(np.repeat(pattern, 2)), np.flatnonzero(np.repeat(~pattern, 2))
        if len(unknown) == 0:
            continue
        gain = total[np.ix_(unknown, known)] @ np.linalg.inv(total[np.ix_(known, known)])
        filled[np.ix_(rows, unknown)] = residuals[np.ix_(rows, known)] @ gain.T
        left = covariance[np.ix_(unknown, unknown)] - gain @ covariance[np.ix_(known, unknown)]
        extra[np.ix_(unknown, unknown)] += len(rows) * left
    return filled, extra
