"""The small tables that ``dvc plots`` draws, and git keeps: curves, keypoints, confusion.

``dvc.yaml`` names their columns, so all of them are always there; ``nan`` stands for what could not be measured.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from keypipe.evaluation.average_precision import RECALL_THRESHOLDS
from tasks.pages.validation import Measured
from tasks.workspace.places import METRICS

PRECISION = METRICS / "validate_precision.csv"
RELIABILITY = METRICS / "validate_reliability.csv"
KEYPOINTS = METRICS / "validate_keypoints.csv"
CONFUSION = METRICS / "validate_confusion.csv"
PLOTS = (PRECISION, RELIABILITY, KEYPOINTS, CONFUSION)

SPLITS = ("val", "test")

Number = float | int | None


def format_plots(measured: Mapping[str, Measured]) -> dict[Path, str]:
    """Format the tables.

    Args:
        measured: the splits that were measured.

    Returns:
        CSV text by path.
    """
    return {
        PRECISION: _precision(measured),
        RELIABILITY: _reliability(measured),
        KEYPOINTS: _keypoints(measured),
        CONFUSION: _confusion(measured),
    }


def _precision(measured: Mapping[str, Measured]) -> str:
    columns: dict[str, Sequence[Number]] = {"recall": RECALL_THRESHOLDS.tolist()}
    for split in SPLITS:
        curves = measured[split].mean_precision() if split in measured else None
        for name, index in (("oks50", 0), ("oks75", 5)):
            columns[f"{split}_{name}"] = [None] * len(RECALL_THRESHOLDS) if curves is None else curves[index].tolist()
    return _format(columns)


def _reliability(measured: Mapping[str, Measured]) -> str:
    middles = next(iter(measured.values())).evaluation.reliability.middles()
    columns: dict[str, Sequence[Number]] = {"confidence": middles}
    nothing: list[Number] = [None] * len(middles)
    for split in SPLITS:
        found = measured[split].evaluation.reliability if split in measured else None
        columns[f"{split}_labelled"] = found.labelled if found else nothing
        columns[f"{split}_close"] = found.close if found else nothing
        columns[f"{split}_count"] = found.count if found else nothing
    return _format(columns)


def _keypoints(measured: Mapping[str, Measured]) -> str:
    first = next(iter(measured.values())).evaluation
    several = len(first.sigmas) > 1
    names = [f"{error.class_name} {error.keypoint}" if several else error.keypoint for error in first.keypoints]
    columns: dict[str, Sequence[str | Number]] = {"keypoint": names}
    nothing: list[Number] = [None] * len(names)
    for split in SPLITS:
        errors = measured[split].evaluation.keypoints if split in measured else []
        for attribute in ("within", "median_diagonals", "p95_diagonals", "missed", "swapped"):
            columns[f"{split}_{attribute}"] = [getattr(error, attribute) for error in errors] or nothing
    return _format(columns)


def _confusion(measured: Mapping[str, Measured]) -> str:
    rows: list[tuple[str, str, str, int]] = []
    for split, item in measured.items():
        names = [category.name for category in item.truth.categories]
        for actual, counts in zip([*names, "no object"], item.evaluation.confusion, strict=True):
            rows += [
                (split, actual, predicted, count)
                for predicted, count in zip([*names, "not found"], counts, strict=True)
                if (actual, predicted) != ("no object", "not found")
            ]
    names_of_columns = ("side", "actual", "predicted", "count")
    return _format({name: [row[i] for row in rows] for i, name in enumerate(names_of_columns)})


def _format(columns: Mapping[str, Iterable[str | Number]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    return out.getvalue()


def _cell(value: str | Number) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "nan"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
