"""Keypoints that the others make improbable: shapes aligned by similarity, and a robust model of what is left.

Shapes are complex numbers, x + iy, so that a similarity transform is one multiplication and one addition
(generalised Procrustes analysis: J. C. Gower, Psychometrika 40, 1975; in the plane: I. L. Dryden and K. V. Mardia,
Statistical Shape Analysis, 2016, chapter 8). An object that faces the other way is aligned as its mirror image, with
the partners of left/right pairs exchanged. What is left after alignment is modelled as normal, with a covariance from
the most central instances (concentration steps as in the MCD: P. J. Rousseeuw and K. Van Driessen, Technometrics 41,
1999). Translation, rotation and scale get so much variance in it that they tell nothing.

Where the instances are few, or an object has too few keypoints to tell which of them is wrong, nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Shapes = NDArray[np.complex128]
Reals = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]
Pair = tuple[int, int]

MIN_INSTANCES = 30
"""Fewer objects of a class do not tell what is usual."""

_MIN_POINTS = 3  # a similarity transform fits any two points exactly
_MAX_FITTED = 3000  # instances that the model is fitted to; more change only the time
_MAX_SCORED = 10_000  # instances that the limits are taken from
_MAX_REFERENCES = 40
_ALIGNMENTS = 8
_CONCENTRATIONS = 8
_CORE = 0.8  # share of the instances that the covariance is taken from
_FLOOR = 0.02  # standard deviation, in shape sizes, that a click has at least
_FREE = 1e4  # variance of translation, rotation and scale, in shape sizes squared

# The limits below were set on generated data with seeded faults (benchmarks/doctor.py) and on two real sets.
_MIN_DEVIATION = 8.0
_ODD_DEVIATION = 3.0  # a keypoint with another's name deviates by more
_MIN_DISTANCE = 0.15  # shape sizes; less is a matter of taste
_MIN_GAIN = 12.0
_CLEARLY = 6.0  # by how much one explanation must beat the next
_EXPLAINED = 0.85  # share of the squared distance that one keypoint accounts for when it is the culprit
_TAIL = 9.0  # how many times the distance from the median to the third quartile is unusual
_GAUSSIAN_QUARTILE = 0.674  # third quartile of the standard normal distribution
_SUSPECTS = 4  # keypoints of an instance whose names are exchanged on trial, two by two


class Exchange(msgspec.Struct, frozen=True):
    """Keypoints that were probably given each other's names.

    Attributes:
        instance: number of the instance.
        pairs: the exchanged keypoints, as pairs of their numbers.
        before: how far the keypoints are from where they are expected, 1 being usual.
        after: the same with the names exchanged.
    """

    instance: int
    pairs: tuple[Pair, ...]
    before: float
    after: float


class Outlier(msgspec.Struct, frozen=True):
    """A keypoint that is not where the object's other keypoints put it.

    Attributes:
        instance: number of the instance.
        keypoint: its number.
        expected: where the others put it, x + iy, pixels.
        distance: from there, in shape sizes (root mean square distance of the keypoints from their centre).
        deviation: the same in usual deviations of this keypoint.
    """

    instance: int
    keypoint: int
    expected: complex
    distance: float
    deviation: float


class Examination(msgspec.Struct, frozen=True):
    """What the shapes of some instances of a class tell.

    Attributes:
        aligned: complex (n_instances, n_keypoints), all instances in the frame of the mean shape; NaN = not labelled.
        mirrored: bool (n_instances,), the instances that are mirrored there; a keypoint of theirs stands in the column
            of its partner.
        placed: complex (n_instances, n_keypoints), the mean shape laid over every instance, x + iy in pixels; NaN where
            it could not be.
        outliers: single keypoints out of place.
        exchanges: names exchanged.
        unusual: instances that deviate clearly, though no single keypoint explains it.
    """

    aligned: Shapes
    mirrored: Bools
    placed: Shapes
    outliers: list[Outlier]
    exchanges: list[Exchange]
    unusual: list[int]


@dataclass(frozen=True)
class Examiner:
    """Knows what is usual for a class, and examines its instances, as many at a time as is convenient.

    Attributes:
        mean: complex (n_keypoints,), the mean shape, with centre 0 and size 1; NaN for a keypoint left out.
        spread: float (n_keypoints,), usual distance from where the others put the keypoint, in shape sizes.
    """

    mean: Shapes
    spread: Reals
    _columns: Ints
    _model: _Model
    _limits: _Limits
    _groups: Sequence[tuple[Pair, ...]]

    def examine(self, shapes: Shapes) -> Examination:
        """Look for keypoints that are not where the others put them.

        Args:
            shapes: complex (n_instances, n_keypoints), x + iy in pixels; NaN = not labelled.
        """
        model, limits, columns, width = self._model, self._limits, self._columns, shapes.shape[1]
        known = _take(shapes, columns)
        scores = model.score_best(known)
        exchanges = _find_exchanges(model, known, scores, limits, self._groups)
        settled = {found.instance for found in exchanges}
        suspects = [index for index in np.flatnonzero(limits.suspicious(scores)) if index not in settled]
        outliers, unusual = _find_outliers(model, known, np.array(suspects, dtype=np.intp), limits)
        return Examination(
            _widened(scores.aligned, columns, width),
            scores.mirrored,
            _widened(_place_mean(model, scores), columns, width),
            [_renumber_outlier(found, columns) for found in outliers],
            [_renumber_exchange(found, columns) for found in exchanges],
            unusual,
        )


def learn_shapes(shapes: Shapes, partners: Sequence[int], edges: Sequence[Pair] = ()) -> Examiner | None:
    """Learn what is usual for a class.

    Args:
        shapes: complex (n_instances, n_keypoints), x + iy in pixels; NaN = not labelled. Of very many instances some,
            evenly spread, are looked at.
        partners: for every keypoint the one it becomes when the object is mirrored; itself where it has no partner.
        edges: pairs of keypoints that are joined; pairs of partners that hang together are exchanged together.

    Returns:
        None where too few instances have keypoints enough to compare them.
    """
    flip = np.asarray(partners, dtype=np.intp)
    sample = shapes[_spread(len(shapes), _MAX_FITTED)]
    seen = np.isfinite(sample).sum(axis=0) >= MIN_INSTANCES
    columns = np.flatnonzero(seen & seen[flip])  # a keypoint that hardly occurs has no usual place
    if len(columns) < _MIN_POINTS:
        return None
    known = _take(sample, columns)
    if (np.isfinite(known).sum(axis=1) >= _MIN_POINTS).sum() < MIN_INSTANCES:
        return None
    number = {int(column): index for index, column in enumerate(columns)}
    flip = np.array([number[int(flip[column])] for column in columns], dtype=np.intp)
    joined = [(number[a], number[b]) for a, b in edges if a in number and b in number]
    model = _fit(known, flip)
    scores = model.score_best(_take(shapes[_spread(len(shapes), _MAX_SCORED)], columns))
    spread = np.full(shapes.shape[1], np.nan)
    spread[columns] = np.nanmedian(np.abs(scores.errors), axis=0)
    return Examiner(
        _widened(model.mean[None], columns, shapes.shape[1])[0],
        spread,
        columns,
        model,
        _find_limits(scores),
        _pair_groups(flip, joined),
    )


def _take(shapes: Shapes, columns: Ints) -> Shapes:
    """Take some keypoints; shapes without extent tell nothing."""
    known = shapes[:, columns].astype(np.complex128)
    known[~_has_extent(known)] = np.nan
    return known


def _has_extent(shapes: Shapes) -> Bools:
    """Tell which shapes are more than one place; bool (n,)."""
    labelled = np.isfinite(shapes)
    first = shapes[np.arange(len(shapes)), labelled.argmax(axis=1)]
    apart: Bools = (labelled & (shapes != first[:, None])).any(axis=1)
    return apart


def _place_mean(model: _Model, scores: Scores) -> Shapes:
    """Lay the mean shape over every instance, in pixels; two keypoints do not tell which way the instance faces."""
    scored = np.isfinite(scores.squared)[:, None]
    placed = (model.mean - scores.shift[:, None]) / np.where(scored, scores.scale[:, None], 1)
    placed[~scored[:, 0]] = np.nan
    return np.where(scores.mirrored[:, None], placed.conj()[:, model.partners], placed)


def _renumber_outlier(found: Outlier, columns: Ints) -> Outlier:
    return msgspec.structs.replace(found, keypoint=int(columns[found.keypoint]))


def _renumber_exchange(found: Exchange, columns: Ints) -> Exchange:
    pairs = tuple((int(columns[a]), int(columns[b])) for a, b in found.pairs)
    return msgspec.structs.replace(found, pairs=pairs)


def _widened(values: Shapes, columns: Ints, width: int) -> Shapes:
    """Put columns back to where they were; the others are NaN."""
    wide = np.full((len(values), width), np.nan, dtype=np.complex128)
    wide[:, columns] = values
    return wide


def _spread(length: int, count: int) -> Ints:
    """Return at most ``count`` positions, evenly spread."""
    return np.unique(np.linspace(0, max(length - 1, 0), min(length, count)).astype(np.intp))


# ------------------------------------------------------------------------------------- alignment


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
    sample = shapes[_spread(len(shapes), 10 * _MAX_REFERENCES)]
    references = [_normalised(shapes[index]) for index in fullest[_spread(len(fullest), _MAX_REFERENCES)]]
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


# ----------------------------------------------------------------------------------------- model


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
class _Model:
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
        aligned[used.sum(axis=1) < _MIN_POINTS] = np.nan
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


def _fit(shapes: Shapes, partners: Ints) -> _Model:
    """Fit mean and covariance to the central part of the instances."""
    shapes = shapes[np.isfinite(shapes).sum(axis=1) >= _MIN_POINTS]
    mean = find_mean(shapes, partners)
    residuals = _to_reals(_align_either_way(shapes, mean, partners)[0] - mean)
    n, width = residuals.shape
    free = _free_directions(mean)
    freedom = np.maximum(np.isfinite(residuals).sum(axis=1) - 4, 1)
    usual = freedom * (1 - 2 / (9 * freedom)) ** 3  # median of the chi-squared distribution (Wilson and Hilferty, 1931)
    shrinkage = min(1.0, 2 * width / n)  # few instances do not tell how keypoints go together
    within = np.kron(np.eye(width // 2), np.ones((2, 2)))  # 1 where both coordinates are of one keypoint
    floor = _FLOOR**2 * np.eye(width)

    deviation = np.nanmedian(np.abs(residuals - np.nanmedian(residuals, axis=0)), axis=0) / _GAUSSIAN_QUARTILE
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
    return _Model(mean + centre[::2] + 1j * centre[1::2], covariance + free, partners)


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


# -------------------------------------------------------------------------------------- findings


@dataclass(frozen=True)
class _Limits:
    """From where on a shape is suspicious.

    Attributes:
        quartile: distance that a quarter of the instances exceed.
        plausible: distance that few sound instances exceed.
        unusual: distance that no sound instance has.
        deviations: float (n_keypoints,), deviation that no sound keypoint has.
        gain: by how much an exchange of names must lower the squared distance.
    """

    quartile: float
    plausible: float
    unusual: float
    deviations: Reals
    gain: float

    def suspicious(self, scores: Scores) -> Bools:
        """Tell which instances have a keypoint, or a whole shape, that is hardly possible; bool (n,)."""
        far = np.nan_to_num(scores.deviations) > self.deviations
        return far.any(axis=1) | (np.nan_to_num(scores.distance) > self.unusual)


def _find_limits(scores: Scores) -> _Limits:
    """Set limits by medians and quartiles, so that they follow heavy tails and ignore a share of faults."""
    scored = np.isfinite(scores.squared) & (scores.freedom > 0)
    distance = scores.distance[scored]
    middle, quartile = np.quantile(distance, (0.5, 0.75))
    # For many degrees of freedom the distance is about normal with deviation 1 / sqrt(2 * freedom).
    freedom = np.median(scores.freedom[scored])
    tail = max(1.0, quartile / (1 + _GAUSSIAN_QUARTILE / np.sqrt(2 * freedom)))
    step = np.nanquantile(scores.deviations, 0.75, axis=0) - np.nanmedian(scores.deviations, axis=0)
    return _Limits(
        quartile=float(quartile),
        plausible=float(middle + 3 * (quartile - middle)),
        unusual=float(max(4.0, middle + _TAIL * (quartile - middle))),
        deviations=np.maximum(_MIN_DEVIATION, np.nanmedian(scores.deviations, axis=0) + _TAIL * step),
        gain=_MIN_GAIN * tail**2,
    )


def _pair_groups(partners: Ints, edges: Sequence[Pair]) -> list[tuple[Pair, ...]]:
    """List what people exchange: one pair, the pairs that hang together (a leg), and all pairs."""
    pairs = [(i, int(other)) for i, other in enumerate(partners) if i < other]
    of_pair = {point: number for number, pair in enumerate(pairs) for point in pair}
    limb = list(range(len(pairs)))
    for a, b in edges:
        if a in of_pair and b in of_pair:
            old, new = limb[of_pair[a]], limb[of_pair[b]]
            limb = [new if number == old else number for number in limb]
    limbs = [tuple(pair for pair, number in zip(pairs, limb, strict=True) if number == limb_) for limb_ in set(limb)]
    return list(dict.fromkeys([*((pair,) for pair in pairs), *sorted(limbs), *([tuple(pairs)] if pairs else [])]))


def _find_exchanges(
    model: _Model, shapes: Shapes, scores: Scores, limits: _Limits, groups: Sequence[tuple[Pair, ...]]
) -> list[Exchange]:
    """Find instances that an exchange of names makes plausible."""
    worse = np.flatnonzero(
        (np.nan_to_num(scores.distance) > limits.quartile) & (np.nan_to_num(scores.squared) > limits.gain)
    )
    deviations = np.nan_to_num(scores.deviations)
    trials = [
        (index, group)
        for group in groups
        for index in worse[deviations[np.ix_(worse, np.ravel(group))].max(axis=1) > _ODD_DEVIATION].tolist()
    ]
    for index in np.flatnonzero(limits.suspicious(scores)).tolist():
        worst = _worst_keypoints(scores, index, model.partners)
        trials += [(index, (pair,)) for pair in combinations(sorted(worst), 2)]
    if not trials:
        return []
    rows = np.array([index for index, _ in trials])
    exchanged = shapes[rows]
    for number, (_, group) in enumerate(trials):
        first, second = (list(side) for side in zip(*group, strict=True))
        exchanged[number, first + second] = exchanged[number, second + first]
    after = model.score_best(exchanged)
    gain = scores.squared[rows] - after.squared
    good = (gain > limits.gain) & (after.distance <= limits.plausible) & (after.distance < scores.distance[rows])
    best: dict[int, int] = {}
    for number in np.flatnonzero(good).tolist():
        index = trials[number][0]
        if index not in best or gain[number] > gain[best[index]]:
            best[index] = number
    return [
        Exchange(index, trials[number][1], float(scores.distance[index]), float(after.distance[number]))
        for index, number in sorted(best.items())
    ]


def _worst_keypoints(scores: Scores, index: int, partners: Ints) -> list[int]:
    """Return the keypoints of an instance that deviate most, under the names that they bear."""
    deviations = np.nan_to_num(scores.deviations[index], nan=-1)
    columns = [int(c) for c in np.argsort(-deviations, kind="stable")[:_SUSPECTS] if deviations[c] >= 0]
    return [int(partners[c]) for c in columns] if scores.mirrored[index] else columns


def _find_outliers(model: _Model, shapes: Shapes, suspects: Ints, limits: _Limits) -> tuple[list[Outlier], list[int]]:
    """Find the keypoints without which the rest of an instance is plausible; also instances where none is."""
    outliers: list[Outlier] = []
    unusual: list[int] = []
    for index in suspects:
        found = _explain(model, shapes[index], limits)
        outliers += [msgspec.structs.replace(outlier, instance=int(index)) for outlier in found]
        if not found and model.score_best(shapes[index][None]).distance[0] > limits.unusual:
            unusual.append(int(index))
    return outliers, unusual


def _explain(model: _Model, shape: Shapes, limits: _Limits) -> list[Outlier]:
    """Take away one keypoint after the other, the worst first, until the rest is plausible; none when it never is."""
    taken: list[Outlier] = []
    shape = shape.copy()
    for _ in range(1 + np.isfinite(shape).sum() // 6):
        labelled = np.flatnonzero(np.isfinite(shape))
        if len(labelled) <= _MIN_POINTS:
            return []
        scores = model.score_best(np.repeat(shape[None], len(labelled), axis=0), labelled)
        best, second = np.argsort(scores.squared, kind="stable")[:2]
        keypoint = int(labelled[best])
        column = int(model.partners[keypoint]) if scores.mirrored[best] else keypoint
        deviation, error = scores.deviations[best, column], scores.errors[best, column]
        clear = scores.squared[second] - scores.squared[best] > _CLEARLY
        if not clear or deviation <= limits.deviations[column] or abs(error) < _MIN_DISTANCE:
            return []
        expected = (scores.aligned[best, column] - error - scores.shift[best]) / scores.scale[best]
        expected = expected.conjugate() if scores.mirrored[best] else expected
        taken.append(Outlier(0, keypoint, complex(expected), float(abs(error)), float(deviation)))
        share = deviation**2 / (deviation**2 + scores.squared[best])
        if scores.distance[best] <= limits.plausible or (
            share >= _EXPLAINED and scores.distance[best] <= limits.unusual
        ):
            return taken
        shape[keypoint] = np.nan
    return []
