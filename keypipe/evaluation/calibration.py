"""What the keypoint confidence would be worth, were it calibrated: isotonic regression, measured on images left out.

B. Zadrozny and C. Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", KDD 2002.
Nothing is calibrated in the model: the figures say whether it would pay, the curve which confidence to ask for.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from keypipe.errors import needs_extra
from keypipe.evaluation.keypoint_errors import CLOSE_SHARE, KeypointTable, Mask, measure_reliability
from keypipe.keypoints.boxes import Array

MAX_FOLDS = 5
CONFIDENCES = tuple(step / 20 for step in range(21))
"""Confidences at which the curves are given."""


class Calibration(msgspec.Struct, frozen=True):
    """The keypoint confidence made to keep its word, for the two things that it may be read as.

    Attributes:
        folds: parts that the images were cut into; each was measured with what the others taught.
        confidences: where the curves are given.
        labelled: share of keypoints of each confidence that are labelled, rising, as learnt from all images.
        close: share of them that are labelled and within ``CLOSE_SHARE`` diagonals.
        ece_labelled: expected calibration error against ``labelled`` once calibrated, on images left out; that of
            ``Reliability`` is the same before.
        ece_close: the same against ``close``.
    """

    folds: int
    confidences: list[float]
    labelled: list[float]
    close: list[float]
    ece_labelled: float
    ece_close: float


def calibrate_confidence(tables: Sequence[KeypointTable], units: Sequence[str]) -> Calibration | None:
    """Calibrate the confidence of the keypoints of detected objects, all classes and keypoints together.

    Args:
        tables: all classes.
        units: for each image the unit that it belongs to; a unit is left out as a whole.

    Returns:
        None where keypoints were found in fewer than two units.

    Raises:
        PoseError: scikit-learn is not installed.
    """
    found = [np.repeat(table.found[:, None], table.visibility.shape[1], axis=1) for table in tables]
    unit_of = np.unique(np.asarray(units, dtype=object).astype(str), return_inverse=True)[1]
    of_image = [np.where(rows, unit_of[table.image][:, None], -1) for table, rows in zip(tables, found, strict=True)]
    groups = _pool(of_image, found)
    n_folds = min(MAX_FOLDS, len(np.unique(groups)))
    if n_folds < 2:
        return None
    with needs_extra("scikit-learn", "learn"):
        from sklearn.isotonic import IsotonicRegression
        from sklearn.model_selection import GroupKFold, cross_val_predict
    confidence = _pool([table.confidence for table in tables], found)
    curves: list[list[float]] = []
    errors: list[float] = []
    for name, hits in (
        ("ece_labelled", [table.visibility > 0 for table in tables]),
        ("ece_close", [table.distance_diagonals <= CLOSE_SHARE for table in tables]),
    ):
        outcome = _pool(hits, found)
        isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        left_out = cross_val_predict(isotonic, confidence, outcome, groups=groups, cv=GroupKFold(n_folds))
        errors.append(getattr(measure_reliability(_with_confidence(tables, found, left_out)), name))
        curves.append(isotonic.fit(confidence, outcome).predict(np.array(CONFIDENCES)).tolist())
    return Calibration(n_folds, list(CONFIDENCES), curves[0], curves[1], errors[0], errors[1])


def flatten_calibration(calibration: Calibration) -> dict[str, float]:
    """Return the errors after calibration by their metric names."""
    return {
        "keypoint_confidence_ece_isotonic": calibration.ece_labelled,
        "keypoint_confidence_ece_close_isotonic": calibration.ece_close,
    }


def _pool(parts: Sequence[Array | Mask], found: Sequence[Mask]) -> Array:
    """Join what the keypoints of detected objects have, float64 (n,)."""
    return np.concatenate([np.empty(0), *(part[rows] for part, rows in zip(parts, found, strict=True))])


def _with_confidence(tables: Sequence[KeypointTable], found: Sequence[Mask], pooled: Array) -> list[KeypointTable]:
    """Return the tables with other confidences, which ``_pool`` has joined."""
    ends = np.cumsum([rows.sum() for rows in found])
    replaced: list[KeypointTable] = []
    for table, rows, part in zip(tables, found, np.split(pooled, ends[:-1]), strict=True):
        confidence = np.full(rows.shape, np.nan)
        confidence[rows] = part
        replaced.append(msgspec.structs.replace(table, confidence=confidence))
    return replaced
