"""The share of close keypoints that is to be expected on images without labels, with an interval.

The confidence of YOLO's keypoints says whether a keypoint is labelled, hardly how close it is. So closeness is learnt
where labels are, on the validation side, from what is known of a keypoint without any: score, confidence, geometry by
the shape model, and how far the keypoint moves when the image is mirrored or made smaller. What is learnt rises and
falls only the way that it must, so that it does not invent anything for values that it has not seen.

Of what: the keypoints that are shown (confidence of ``validate.keypoint_conf`` or more) of the objects that are found.
Close are those within 0.1 diagonals of where a person would put them; all others of them are not, those of objects that
are none among them. Objects that are missed have no keypoints and do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.drift.features import FAR
from keypipe.drift.novelty import tell_apart
from keypipe.drift.rows import LoggedObject, Row, keypoints_px
from keypipe.drift.shapes import ClassShapes
from keypipe.errors import needs_extra
from keypipe.evaluation.calibration import MAX_FOLDS
from keypipe.evaluation.keypoint_errors import CLOSE_SHARE
from keypipe.evaluation.matching import MATCH_IOU
from keypipe.keypoints.boxes import Box, box_iou
from keypipe.keypoints.skeleton import Schema

Array = NDArray[np.float64]

MIN_KEYPOINTS = 200
"""Labelled keypoints below which nothing is learnt."""
MIN_UNITS = 10
"""Units of the validation side below which nothing is learnt."""

LEVEL = 0.95
_RESAMPLES = 40
_DRAWS = 20  # of units, for each of these
_BINS = 10

COLUMNS = ("score", "confidence", "mean_confidence", "shown", "size", "aspect", "oddity", "deviation")
VIEW_COLUMNS = ("mirrored", "smaller")
_RISES = {
    "score": 1,
    "confidence": 1,
    "mean_confidence": 1,
    "oddity": -1,
    "deviation": -1,
    "mirrored": -1,
    "smaller": -1,
}
"""Which way closeness goes when a column rises; others may go both ways."""


class Keypoints(msgspec.Struct, frozen=True):
    """The keypoints that are shown on some images.

    Attributes:
        columns: float64 (n, n_columns), as ``COLUMNS`` and, with views, ``VIEW_COLUMNS`` say; NaN = not known.
        kinds: intp (n,), class and keypoint, as a position among the schema's.
        units: intp (n,), the unit of each.
        images: intp (n,), position of the image of each.
        close: bool (n,), whether it is close; empty where there are no labels.
    """

    columns: Array
    kinds: NDArray[np.intp]
    units: NDArray[np.intp]
    images: NDArray[np.intp]
    close: NDArray[np.bool_]


Truth = Sequence[tuple[str, Box, dict[str, tuple[float, float]]]]
"""Annotated objects of an image: class, left, top, right, bottom, and the labelled keypoints by name, pixels."""


def list_keypoints(
    rows: Sequence[Row],
    units: Sequence[int],
    schema: Schema,
    shapes: ClassShapes,
    keypoint_conf: float,
    *,
    views: bool,
    truth: Sequence[Truth] | None = None,
) -> Keypoints:
    """List the keypoints that are shown.

    Args:
        rows: images or frames.
        units: for each the position of its unit.
        schema: of the model.
        shapes: what its objects look like.
        keypoint_conf: confidence from which a keypoint is shown.
        views: whether the columns of the views are there, which all rows then have.
        truth: for each row its annotated objects; None: there are none.
    """
    kind_of = {
        (name, keypoint): index
        for index, (name, keypoint) in enumerate(
            (name, keypoint) for name, skeleton in schema.classes.items() for keypoint in skeleton.keypoints
        )
    }
    columns: list[list[float]] = []
    places: list[tuple[int, int, int]] = []
    close: list[bool] = []
    for number, (row, unit) in enumerate(zip(rows, units, strict=True)):
        matched = _match(row.objects, truth[number]) if truth is not None else {}
        for index, found in enumerate(row.objects):
            for k, values in _describe(found, shapes, keypoint_conf, views=views):
                columns.append(values)
                places.append((kind_of[found.class_name, found.keypoints[k].name], unit, number))
                if truth is not None:
                    close.append(index in matched and _is_close(found, k, matched[index]))
    width = len(COLUMNS) + (len(VIEW_COLUMNS) if views else 0)
    table = np.array(places, dtype=np.intp).reshape(-1, 3)
    return Keypoints(
        np.array(columns, dtype=np.float64).reshape(-1, width),
        table[:, 0],
        table[:, 1],
        table[:, 2],
        np.array(close, dtype=bool),
    )


def _describe(
    found: LoggedObject, shapes: ClassShapes, keypoint_conf: float, *, views: bool
) -> list[tuple[int, list[float]]]:
    shown = [k for k, point in enumerate(found.keypoints) if point.confidence >= keypoint_conf]
    if not shown:
        return []
    shape = shapes.get(found.class_name)
    oddity, deviations = math.nan, np.full(len(found.keypoints), np.nan)
    if shape is not None:
        (oddity,), (deviations,) = shape.measure([found], keypoint_conf)
    confidences = [point.confidence for point in found.keypoints]
    common = [sum(confidences) / len(confidences), len(shown) / len(confidences), found.size]
    common += [math.log(max(found.aspect, 1e-6)), math.log1p(oddity)]
    described: list[tuple[int, list[float]]] = []
    for k in shown:
        point = found.keypoints[k]
        values = [found.score, point.confidence, *common, math.log1p(deviations[k])]
        if views:
            values += [math.nan if move is None else min(move, FAR) for move in (point.mirrored, point.smaller)]
        described.append((k, values))
    return described


def _match(objects: Sequence[LoggedObject], truth: Truth) -> dict[int, tuple[Box, dict[str, tuple[float, float]]]]:
    """Match objects with annotated ones of their class by box, surest first (``evaluation.matching``)."""
    free = list(range(len(truth)))
    matched: dict[int, tuple[Box, dict[str, tuple[float, float]]]] = {}
    for index in sorted(range(len(objects)), key=lambda i: -objects[i].score):
        mine = [j for j in free if truth[j][0] == objects[index].class_name]
        if not mine:
            continue
        overlap = box_iou(np.array(objects[index].box_xyxy), np.array([truth[j][1] for j in mine]))
        if overlap.max() >= MATCH_IOU:
            best = mine[int(overlap.argmax())]
            free.remove(best)
            matched[index] = truth[best][1:]
    return matched


def _is_close(found: LoggedObject, k: int, truth: tuple[Box, dict[str, tuple[float, float]]]) -> bool:
    (left, top, right, bottom), points = truth
    place = points.get(found.keypoints[k].name)
    if place is None:
        return False
    x, y = keypoints_px(found)[k]
    return math.hypot(x - place[0], y - place[1]) <= CLOSE_SHARE * math.hypot(right - left, bottom - top)


# ------------------------------------------------------------------------------------------ learning


class Reliability(msgspec.Struct, frozen=True):
    """How well expected and true closeness agree on the validation side, on units that were not learnt from.

    Attributes:
        keypoints: how many.
        units: how many.
        method: what was learnt with.
        expected: share of close keypoints that was expected.
        observed: share that is.
        error: expected calibration error, mean difference over bins of expectation, weighted by keypoints.
        auc: chance that a close keypoint is expected to be closer than one that is not.
        bins: for each bin: keypoints, mean expectation, share of close ones; empty bins are left out.
    """

    keypoints: int
    units: int
    method: str
    expected: float
    observed: float
    error: float
    auc: float | None
    bins: list[tuple[int, float, float]]


class Closeness(msgspec.Struct, frozen=True):
    """What is learnt of closeness on the validation side.

    Attributes:
        keypoints: what it was learnt from, with the columns that tell anything.
        used: intp, which columns these are.
        reliability: what it is worth.
        left_out: float64 (n,), for each keypoint what is expected of it by what its unit did not teach.
        n_kinds: classes and keypoints of the schema.
        models: what learnt from all units first, then from as many units drawn anew, again and again.
    """

    keypoints: Keypoints
    used: NDArray[np.intp]
    reliability: Reliability
    left_out: Array
    n_kinds: int
    models: list[Any]


def learn_closeness(keypoints: Keypoints, n_kinds: int, seed: int = 0) -> Closeness | None:
    """Learn what makes a keypoint close, by the better of two methods.

    Args:
        keypoints: of the validation side, with labels.
        n_kinds: classes and keypoints of the schema.
        seed: of the units that are drawn anew.

    Returns:
        None where there is too little to learn from.

    Raises:
        PoseError: scikit-learn is not installed.
    """
    n_units = len(np.unique(keypoints.units))
    if len(keypoints.close) < MIN_KEYPOINTS or n_units < MIN_UNITS or len(np.unique(keypoints.close)) < 2:
        return None
    with needs_extra("scikit-learn", "learn"):
        from sklearn.metrics import log_loss
    used = np.flatnonzero([_tells(column) for column in keypoints.columns.T])
    keypoints = msgspec.structs.replace(keypoints, columns=keypoints.columns[:, used])
    with _one_thread():
        results = {method: _cross_fit(method, keypoints, used, n_kinds) for method in _METHODS}
        best = min(results, key=lambda method: log_loss(keypoints.close, results[method], labels=[False, True]))
        rng = np.random.default_rng(seed)
        members = _members(keypoints.units)
        models = [_fit(best, keypoints, used, np.arange(len(keypoints.close)), n_kinds)]
        for _ in range(_RESAMPLES):
            chosen = np.concatenate([members[index] for index in rng.integers(0, len(members), len(members))])
            models.append(_fit(best, keypoints, used, chosen, n_kinds))
    reliability = _judge(keypoints, results[best], best, n_units)
    return Closeness(keypoints, used, reliability, results[best], n_kinds, models)


def _members(units: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the positions of each unit's keypoints."""
    order = np.argsort(units, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(units[order])) + 1)


def _tells(column: Array) -> bool:
    """Tell whether a column is known of a tenth of the keypoints at least, and differs among them."""
    known = column[np.isfinite(column)]
    return len(known) >= 0.1 * len(column) and bool(np.ptp(known) > 0)


def _cross_fit(method: str, keypoints: Keypoints, used: NDArray[np.intp], n_kinds: int) -> Array:
    from sklearn.model_selection import GroupKFold

    expected = np.full(len(keypoints.close), keypoints.close.mean())
    for learn, ask in GroupKFold(MAX_FOLDS).split(keypoints.columns, groups=keypoints.units):
        fitted = _fit(method, keypoints, used, learn, n_kinds)
        expected[ask] = _expect(fitted, keypoints.columns[ask], keypoints.kinds[ask], n_kinds)
    clipped: Array = np.clip(expected, 1e-4, 1 - 1e-4)
    return clipped


LOGISTIC = "logistic regression"
BOOSTING = "gradient boosting"
_METHODS = (LOGISTIC, BOOSTING)


def _fit(method: str, keypoints: Keypoints, used: NDArray[np.intp], rows: NDArray[np.intp], n_kinds: int) -> Any:
    """Fit on some keypoints; a constant where all of them are alike."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    close = keypoints.close[rows]
    if len(np.unique(close)) < 2:
        return float(close.mean())
    names = [(*COLUMNS, *VIEW_COLUMNS)[column] for column in used]
    cases = _with_kinds(keypoints.columns[rows], keypoints.kinds[rows], n_kinds)
    if method == LOGISTIC:
        model = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(C=0.3, max_iter=500),
        )
    else:
        rises = [_RISES.get(name, 0) for name in names] + [0] * n_kinds
        model = HistGradientBoostingClassifier(
            max_iter=60,
            learning_rate=0.1,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            l2_regularization=1.0,
            monotonic_cst=rises,
            early_stopping=False,
            random_state=0,
        )
    return model.fit(cases, close)


def _one_thread() -> Any:
    """Keep scikit-learn to one thread: its fits take milliseconds here, and threads that wait for each other longer."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


def _with_kinds(columns: Array, kinds: NDArray[np.intp], n_kinds: int) -> Array:
    return np.concatenate([columns, np.eye(n_kinds)[kinds]], axis=1)


def _expect(fitted: Any, columns: Array, kinds: NDArray[np.intp], n_kinds: int) -> Array:
    if isinstance(fitted, float):
        return np.full(len(columns), fitted)
    if not len(columns):
        return np.empty(0)
    return np.asarray(fitted.predict_proba(_with_kinds(columns, kinds, n_kinds))[:, 1], dtype=np.float64)


def _judge(keypoints: Keypoints, expected: Array, method: str, n_units: int) -> Reliability:
    from sklearn.metrics import roc_auc_score

    edges = np.linspace(0, 1, _BINS + 1)
    number = np.clip(np.digitize(expected, edges[1:-1]), 0, _BINS - 1)
    bins: list[tuple[int, float, float]] = []
    for index in range(_BINS):
        mine = number == index
        if mine.any():
            bins.append((int(mine.sum()), float(expected[mine].mean()), float(keypoints.close[mine].mean())))
    error = sum(count * abs(mean - share) for count, mean, share in bins) / len(expected)
    return Reliability(
        keypoints=len(expected),
        units=n_units,
        method=method,
        expected=float(expected.mean()),
        observed=float(keypoints.close.mean()),
        error=float(error),
        auc=float(roc_auc_score(keypoints.close, expected)),
        bins=bins,
    )


# ----------------------------------------------------------------------------------------- expecting


class Expected(msgspec.Struct, frozen=True):
    """What is to be expected of images without labels.

    Attributes:
        share: of the keypoints that are shown, those that are close; None where nothing can be said.
        low: bound that the true share is not below, in ``LEVEL`` of cases.
        high: bound that it is not above.
        keypoints: how many are shown.
        units: of the images.
        separable: how well objects can be told from the validation side's by what closeness is expected from, 0.5 to 1;
            None: too few units.
        outside: share of the keypoints with a value beyond all but a hundredth of the validation side's.
        why_not: why nothing can be said, sentences; empty where a number is given.
    """

    share: float | None
    low: float | None
    high: float | None
    keypoints: int
    units: int
    separable: float | None
    outside: float
    why_not: tuple[str, ...]


def expect(learnt: Closeness, window: Keypoints, *, most_separable: float, most_outside: float, seed: int) -> Expected:
    """Say which share of keypoints is to be expected close, or why that cannot be said.

    The interval holds three things: which units the validation side happens to have (it is drawn anew and learnt from
    again), which units the window happens to have, and how far single units are off what is expected of them.

    Args:
        learnt: on the validation side.
        window: keypoints of the images.
        most_separable: area under the curve from which the window is too different.
        most_outside: share of keypoints outside the validation side's range from which it is.
        seed: of the resamples.
    """
    n_units = len(np.unique(window.units))
    window = msgspec.structs.replace(window, columns=window.columns[:, learnt.used])
    if not len(window.columns):
        return Expected(None, None, None, 0, n_units, None, 0.0, ("no keypoint is shown on these images",))
    separable = _separate(learnt.keypoints, window)
    outside = _find_outside(learnt.keypoints.columns, window.columns)
    why_not: list[str] = []
    if n_units < 2:
        why_not.append("all images are of one unit")
    if separable is not None and separable > most_separable:
        why_not.append(
            f"what the model says can be told from the validation side in {separable:.0%} of pairs (at most"
            f" {most_separable:.0%})"
        )
    if outside > most_outside:
        why_not.append(
            f"{outside:.0%} of the keypoints lie outside what the validation side shows (at most {most_outside:.0%})"
        )
    if why_not:
        return Expected(None, None, None, len(window.columns), n_units, separable, outside, tuple(why_not))
    with _one_thread():
        share, draws = _draw(learnt, window, seed)
    low, high = np.percentile(draws, [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2])
    return Expected(
        share,
        float(np.clip(low, 0, share)),
        float(np.clip(high, share, 1)),
        len(window.columns),
        n_units,
        separable,
        outside,
        (),
    )


def _draw(learnt: Closeness, window: Keypoints, seed: int) -> tuple[float, Array]:
    rng = np.random.default_rng(seed)
    whole, *others = (_expect(model, window.columns, window.kinds, learnt.n_kinds) for model in learnt.models)
    share = float(whole.mean())
    residuals = learnt.keypoints.close - learnt.left_out
    members = _members(learnt.keypoints.units)
    sums = np.array([residuals[rows].sum() for rows in members])
    sizes = np.array([len(rows) for rows in members])
    own, own_of = np.unique(window.units, return_inverse=True)
    counts = np.bincount(own_of, minlength=len(own)).astype(np.float64)
    draws: list[float] = []
    for expected in others:
        totals = np.bincount(own_of, weights=expected, minlength=len(own))
        for _ in range(_DRAWS):
            drawn = rng.integers(0, len(own), len(own))
            units = rng.integers(0, len(members), len(own))
            off = sums[units].sum() / max(sizes[units].sum(), 1)
            draws.append(float(totals[drawn].sum() / counts[drawn].sum() + off))
    return share, np.array(draws)


def _separate(reference: Keypoints, window: Keypoints) -> float | None:
    """Tell how well objects can be told apart by the columns alone; one image's keypoints are taken together."""
    sides = [_by_image(side) for side in (reference, window)]
    found = tell_apart(sides[0][0], sides[1][0], sides[0][1].tolist(), sides[1][1].tolist())
    return None if found is None else max(found.auc, 1 - found.auc)


def _by_image(keypoints: Keypoints) -> tuple[Array, NDArray[np.intp]]:
    images, first, number = np.unique(keypoints.images, return_index=True, return_inverse=True)
    known = np.isfinite(keypoints.columns)
    filled = np.where(known, keypoints.columns, 0.0)
    sums = np.stack([np.bincount(number, column, len(images)) for column in filled.T], axis=1)
    count = np.stack([np.bincount(number, column, len(images)) for column in known.T.astype(float)], axis=1)
    means = np.where(count > 0, sums / np.maximum(count, 1), np.nan)
    return means, keypoints.units[first]


def _find_outside(reference: Array, window: Array) -> float:
    """Return the share of keypoints with a value beyond the reference's, each hundredth at its ends apart."""
    outside = np.zeros(len(window), dtype=bool)
    for known, values in zip(reference.T, window.T, strict=True):
        finite = known[np.isfinite(known)]
        if len(finite):
            low, high = np.percentile(finite, [0.5, 99.5])
            room = 0.1 * (high - low)
            outside |= (values < low - room) | (values > high + room)
    return float(outside.mean()) if len(outside) else 0.0
