"""Keypoints that the others make improbable, under a model of what the shapes of a class look like.

Where the instances are few, or an object has too few keypoints to tell which of them is wrong, nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import msgspec
import numpy as np

from keypipe.diagnosis.shape_model import (
    GAUSSIAN_QUARTILE,
    MIN_POINTS,
    Bools,
    Ints,
    Reals,
    Scores,
    ShapeModel,
    Shapes,
    fit_model,
    spread_evenly,
)

Pair = tuple[int, int]

MIN_INSTANCES = 30
"""Fewer objects of a class do not tell what is usual."""

_MAX_FITTED = 3000  # instances that model and limits are taken from; more change only the time

# The limits below were set on generated data with seeded faults (benchmarks/doctor.py) and on two real sets.
_MIN_DEVIATION = 8.0
_ODD_DEVIATION = 3.0  # a keypoint with another's name deviates by more
_MIN_DISTANCE = 0.15  # shape sizes; less is a matter of taste
_MIN_GAIN = 12.0
_CLEARLY = 6.0  # by how much one explanation must beat the next
_EXPLAINED = 0.85  # share of the squared distance that one keypoint accounts for when it is the culprit
_TAIL = 9.0  # how many times the distance from the median to the third quartile is unusual
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
    _model: ShapeModel
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

    def distances(self, shapes: Shapes) -> Reals:
        """Say how unusual shapes are, without looking for a culprit.

        Args:
            shapes: complex (n_instances, n_keypoints), x + iy in pixels; NaN = not labelled.

        Returns:
            float (n_instances,), root mean square deviation for each degree of freedom, 1 being usual; NaN where too
            few keypoints are labelled.
        """
        scores = self._model.score_best(_take(shapes, self._columns))
        known = (scores.freedom > 0) & (scores.squared >= 0)
        return np.sqrt(np.where(known, scores.squared, np.nan) / np.maximum(scores.freedom, 1))


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
    sample = shapes[spread_evenly(len(shapes), _MAX_FITTED)]
    seen = np.isfinite(sample).sum(axis=0) >= MIN_INSTANCES
    columns = np.flatnonzero(seen & seen[flip])  # a keypoint that hardly occurs has no usual place
    if len(columns) < MIN_POINTS:
        return None
    known = _take(sample, columns)
    if (np.isfinite(known).sum(axis=1) >= MIN_POINTS).sum() < MIN_INSTANCES:
        return None
    number = {int(column): index for index, column in enumerate(columns)}
    flip = np.array([number[int(flip[column])] for column in columns], dtype=np.intp)
    joined = [(number[a], number[b]) for a, b in edges if a in number and b in number]
    model = fit_model(known, flip)
    scores = model.score_best(known)
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


def _place_mean(model: ShapeModel, scores: Scores) -> Shapes:
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
    tail = max(1.0, quartile / (1 + GAUSSIAN_QUARTILE / np.sqrt(2 * freedom)))
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
    model: ShapeModel, shapes: Shapes, scores: Scores, limits: _Limits, groups: Sequence[tuple[Pair, ...]]
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


def _find_outliers(
    model: ShapeModel, shapes: Shapes, suspects: Ints, limits: _Limits
) -> tuple[list[Outlier], list[int]]:
    """Find the keypoints without which the rest of an instance is plausible; also instances where none is."""
    outliers: list[Outlier] = []
    unusual: list[int] = []
    for index in suspects:
        found = _explain(model, shapes[index], limits)
        outliers += [msgspec.structs.replace(outlier, instance=int(index)) for outlier in found]
        if not found and model.score_best(shapes[index][None]).distance[0] > limits.unusual:
            unusual.append(int(index))
    return outliers, unusual


def _explain(model: ShapeModel, shape: Shapes, limits: _Limits) -> list[Outlier]:
    """Take away one keypoint after the other, the worst first, until the rest is plausible; none when it never is."""
    taken: list[Outlier] = []
    shape = shape.copy()
    for _ in range(1 + np.isfinite(shape).sum() // 6):
        labelled = np.flatnonzero(np.isfinite(shape))
        if len(labelled) <= MIN_POINTS:
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
