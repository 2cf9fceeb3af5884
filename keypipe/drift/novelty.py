"""Whether images can be told from those of the reference, and which of them best: a classifier two-sample test.

A classifier learns to tell the two sets apart, and is asked about units that it has not learnt from (D. Lopez-Paz and
M. Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017). An area under its curve of 0.5 means that it cannot.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.errors import needs_extra
from keypipe.evaluation.calibration import MAX_FOLDS

Array = NDArray[np.float64]


class Novelty(msgspec.Struct, frozen=True):
    """How well two sets of cases can be told apart.

    Attributes:
        auc: chance that a case of the window looks more like the window than one of the reference does; 0.5: not at
            all, 1: always. Each unit counts alike.
        window: float64 (n_window,), for each case of the window how much it looks like one, 0 to 1, by a classifier
            that has not learnt from its unit.
        reference: float64 (n_reference,), the same of the reference's.
    """

    auc: float
    window: Array
    reference: Array


def tell_apart(
    reference: Array, window: Array, reference_units: Sequence[int], window_units: Sequence[int]
) -> Novelty | None:
    """Learn to tell two sets apart.

    Args:
        reference: float64 (n_reference, n_columns); NaN = not known.
        window: float64 (n_window, n_columns).
        reference_units: the unit of each case.
        window_units: the unit of each case.

    Returns:
        None where one side has fewer than two units.

    Raises:
        PoseError: scikit-learn is not installed.
    """
    sides = [np.unique(np.asarray(units), return_inverse=True)[1] for units in (reference_units, window_units)]
    n_units = [int(units.max(initial=-1)) + 1 for units in sides]
    folds = min(MAX_FOLDS, *n_units)
    if folds < 2:
        return None
    with needs_extra("scikit-learn", "learn"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import StratifiedGroupKFold
    cases = np.concatenate([_to_columns(reference, reference), _to_columns(reference, window)])
    label = np.repeat([0, 1], [len(reference), len(window)])
    units = np.concatenate([sides[0], sides[1] + n_units[0]])
    weights = np.concatenate([_alike(sides[0]), _alike(sides[1])])
    scores = np.full(len(cases), 0.5)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    for learn, ask in splitter.split(cases, label, units):
        if len(set(label[learn])) < 2:
            continue
        classifier = LogisticRegression(C=0.1, max_iter=500)
        classifier.fit(cases[learn], label[learn], weights[learn] * len(learn) / weights[learn].sum())
        scores[ask] = classifier.predict_proba(cases[ask])[:, 1]
    auc = float(roc_auc_score(label, scores, sample_weight=weights))
    return Novelty(auc, scores[len(reference) :], scores[: len(reference)])


def _to_columns(reference: Array, cases: Array) -> Array:
    """Turn values into their places among the reference's, how far from the middle these are, and what lies beyond."""
    columns: list[Array] = []
    for known, values in zip(reference.T, cases.T, strict=True):
        ordered = np.sort(known[np.isfinite(known)])
        present = np.isfinite(values)
        if not len(ordered):
            continue
        filled = np.where(present, values, np.median(ordered))
        low, high = np.searchsorted(ordered, filled, "left"), np.searchsorted(ordered, filled, "right")
        place = (low + high) / len(ordered) - 1  # -1 to 1
        beyond = ((filled < ordered[0]) | (filled > ordered[-1])).astype(np.float64)
        columns += [place, np.abs(place) - 0.5, beyond, (~present).astype(np.float64)]
    return np.stack(columns, axis=1) if columns else np.zeros((len(cases), 1))


def _alike(units: NDArray[np.intp]) -> Array:
    count = np.bincount(units)
    return np.asarray(1.0 / (count[units] * len(count)), dtype=np.float64)
