"""The page of a window: what differs, what accuracy is to be expected, and pictures of what is new."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image, UnidentifiedImageError

from keypipe.drawing.pictures import draw_predictions, encode_jpeg
from keypipe.drift.comparison import Difference, unit_weights
from keypipe.drift.features import Feature
from keypipe.drift.rows import Row, keypoints_px
from keypipe.drift.segments import PICTURES
from keypipe.errors import AnnotationError, format_count
from keypipe.evaluation.keypoint_errors import CLOSE_SHARE
from keypipe.images.media import read_image
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.report.page import (
    BarChart,
    Figure,
    Gallery,
    GroupedBarChart,
    KeyValues,
    LineChart,
    LineCharts,
    Note,
    Notes,
    Picture,
    Report,
    Section,
    Table,
)
from tasks.drift.settings import LOG
from tasks.drift.watch import Watched, format_time
from tasks.pages.reports import write_report
from tasks.workspace.places import REPORT_HTML, report_folder
from tasks.workspace.program import replacing

REPORT = report_folder("drift")

_MAX_NEW = 12
_MAX_USUAL = 6
_MAX_OF_UNIT = 2
_MAX_CURVES = 6
_MAX_BARS = 12
_STEPS = 20
_PICTURE_PX = 480
_SEVERITY = {"steady": "good", "images differ": "info", "drift": "warning", "cannot tell": "info"}


def write_page(root: Path, watched: Watched, log: Path | None = None) -> Path:
    """Write ``reports/drift``.

    Args:
        root: the workspace.
        watched: what the window came to.
        log: folder of the log; None: the workspace's.

    Returns:
        The page, relative to the workspace.
    """
    with replacing(root, REPORT) as folder:
        folder.mkdir()
        write_report(folder, summarise(watched), to_report(watched, log or root / LOG))
    return REPORT / REPORT_HTML


def summarise(watched: Watched) -> dict[str, Any]:
    """Return what programs read of a window."""
    window, comparison = watched.window, watched.comparison
    return {
        "headline": watched.headline,
        "kind": watched.kind,
        "alarm": watched.kind == "drift",
        "model": watched.model,
        "version": watched.version,
        "window": {
            "since": watched.since,
            "until": watched.until,
            "images": len(window.rows),
            "logged": window.found,
            "units": comparison.window_units,
            "left_out": window.others,
            "damaged_segments": window.unreadable,
        },
        "validation": {"images": len(watched.side.rows), "units": comparison.reference_units},
        "alpha": comparison.alpha,
        "effect": comparison.effect,
        "differences": msgspec.to_builtins(comparison.differences),
        "separable": watched.novelty.auc if watched.novelty else None,
        "expected_close": msgspec.to_builtins(watched.expected),
        "reliability": msgspec.to_builtins(watched.reliability),
    }


def to_report(watched: Watched, log: Path) -> Report:
    """Build the page that a person reads."""
    sections: list[Section] = [Notes("What came of it", _to_notes(watched))]
    clear = watched.comparison.clear()
    shown = clear or watched.comparison.differences
    if watched.comparison.differences:
        sections.append(_to_bars(watched))
        if curves := _to_curves(watched, shown):
            sections.append(LineCharts("How the values lie", curves, _CURVES_NOTE))
    sections += _to_galleries(watched, log)
    sections += _to_accuracy(watched)
    if watched.comparison.differences:
        sections.append(_to_table(watched))
    sections.append(_to_facts(watched))
    return Report(
        "Is what the model sees still what it was measured on?", watched.headline, sections, _figures(watched), "drift"
    )


_CURVES_NOTE = (
    "Share of the values in each step; every group, video or hour counts alike. What is clearest comes first."
)


def _figures(watched: Watched) -> list[Figure]:
    expected = watched.expected
    share: str | None = None
    note = "too few labelled keypoints on the validation side"
    if expected is not None and expected.share is not None:
        share = f"{expected.share:.1%}"
        note = f"{expected.low:.1%} to {expected.high:.1%}, of shown keypoints"
    elif expected is not None:
        note = "cannot be said: see below"
    figures = [
        Figure("Verdict", watched.kind),
        Figure("Close keypoints expected", share or "–", note),
    ]
    if watched.reliability is not None:
        figures.append(Figure("Close on validation", f"{watched.reliability.observed:.1%}", "measured, with labels"))
    if watched.novelty is not None:
        figures.append(Figure("Told apart", f"{watched.novelty.auc:.0%}", "of pairs of images; 50 %: not at all"))
    figures.append(Figure("Images", len(watched.window.rows), f"in {watched.comparison.window_units} units"))
    return figures


def _to_notes(watched: Watched) -> list[Note]:
    comparison, expected = watched.comparison, watched.expected
    notes = [Note(_SEVERITY[watched.kind], f"{watched.headline[:1].upper()}{watched.headline[1:]}.")]
    if watched.kind == "drift":
        notes.append(
            Note(
                "info",
                "Look at the pictures below. If they are what the model is to do: label some of them, and retrain.",
            )
        )
    if expected is not None and expected.share is None:
        reasons = "; ".join(expected.why_not)
        notes.append(Note("warning", f"No accuracy can be expected here: {reasons}."))
    if expected is None:
        notes.append(
            Note("info", "The validation side has too few labelled keypoints to learn from what accuracy to expect.")
        )
    if comparison.window_units < 20 and comparison.enough:
        notes.append(
            Note(
                "info",
                f"{comparison.window_units} units are few: only large differences can be found. A longer window has"
                " more.",
            )
        )
    for why, count in watched.window.others.items():
        notes.append(Note("info", f"Left out: {format_count(count, 'image')} {why}."))
    if watched.window.found > len(watched.window.rows):
        notes.append(
            Note("info", f"{len(watched.window.rows)} of {watched.window.found} images, by chance (drift.most_images).")
        )
    if damaged := watched.window.unreadable:
        notes.append(Note("warning", f"{format_count(len(damaged), 'segment')} of the log could not be read."))
    return notes


def _to_bars(watched: Watched) -> Section:
    comparison = watched.comparison
    bars = [(_name(found), abs(found.effect)) for found in (comparison.clear() or comparison.differences)[:_MAX_BARS]]
    what = "that count" if comparison.clear() else "that come nearest to counting"
    note = (
        f"Size from 0 to 1 (Cliff's delta). A difference counts from {comparison.effect:g} on, if it is significant as"
        f" well (p below {comparison.alpha:g} after Holm's correction for {len(comparison.differences)} questions)."
    )
    return BarChart(f"Differences {what}", bars, note=note)


def _name(found: Difference) -> str:
    if found.question == "spread":
        return f"{found.title}: {'more' if found.effect > 0 else 'less'} spread"
    return f"{found.title}: {'larger' if found.effect > 0 else 'smaller'}"


def _to_curves(watched: Watched, shown: Sequence[Difference]) -> list[LineChart]:
    charts: list[LineChart] = []
    for name in list(dict.fromkeys(found.name for found in shown))[:_MAX_CURVES]:
        before, now = watched.features[0][name], watched.features[1][name]
        pooled = np.concatenate([before.values, now.values])
        low, high = np.percentile(pooled, [0.5, 99.5])
        if high <= low:
            low, high = float(pooled.min()), float(pooled.max())
        if high <= low:
            continue
        edges = np.linspace(low, high, _STEPS + 1)
        middles = [_round(float(value)) for value in (edges[:-1] + edges[1:]) / 2]
        series: dict[str, Sequence[float | None]] = {
            "validation": _histogram(before, edges),
            "window": _histogram(now, edges),
        }
        charts.append(LineChart(before.title, middles, series))
    return charts


def _histogram(feature: Feature, edges: np.ndarray) -> list[float | None]:
    counts, _ = np.histogram(np.clip(feature.values, edges[0], edges[-1]), edges, weights=unit_weights(feature.units))
    return [round(float(count), 4) for count in counts]


def _round(value: float) -> float:
    """Round to three digits that count."""
    return 0.0 if value == 0 else round(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def _to_table(watched: Watched) -> Table:
    comparison = watched.comparison
    rows = [
        [
            found.title,
            found.family,
            found.question,
            _round(found.reference),
            _round(found.window),
            round(found.effect, 2),
            f"{found.adjusted:.2g}",
            "counts" if found.is_clear(comparison.alpha, comparison.effect) else "",
        ]
        for found in comparison.differences
    ]
    columns = [
        "feature",
        "family",
        "question",
        "median, validation",
        "median, window",
        "effect",
        "p, corrected",
        "verdict",
    ]
    note = (
        "level: are values larger or smaller; spread: are they more or less spread. Differences of pixels alone are no"
        " alarm. The least p that the permutations can give is printed as it is."
    )
    return Table("All questions", columns, rows, note)


# ------------------------------------------------------------------------------------------ accuracy


def _to_accuracy(watched: Watched) -> list[Section]:
    expected, reliability = watched.expected, watched.reliability
    if expected is None or reliability is None:
        return []
    of = f"shown keypoints within {CLOSE_SHARE:g} box diagonals of where a person would put them"
    rows: list[tuple[str, Any]] = []
    if expected.share is not None:
        rows.append(("expected in the window", f"{expected.share:.1%} ({expected.low:.1%} to {expected.high:.1%})"))
    else:
        rows.append(("expected in the window", "cannot be said"))
        rows += [("why", reason) for reason in expected.why_not]
    rows += [
        ("keypoints shown in the window", expected.keypoints),
        (
            "told apart by what it is expected from",
            "–" if expected.separable is None else f"{expected.separable:.0%} of pairs",
        ),
        ("outside what the validation side shows", f"{expected.outside:.1%} of the keypoints"),
        ("measured on the validation side", f"{reliability.observed:.1%} of {reliability.keypoints} keypoints"),
        ("expected there, from units left out", f"{reliability.expected:.1%}"),
        ("mean error of the expectation there", f"{reliability.error:.3f}"),
        ("learnt by", reliability.method),
    ]
    sections: list[Section] = [
        KeyValues("Accuracy without labels", rows, f"Share of {of}. Objects that are missed do not count.")
    ]
    if len(reliability.bins) > 1:
        chart = GroupedBarChart(
            "Whether the expectation keeps its word",
            [f"about {mean:.0%} expected ({count})" for count, mean, _ in reliability.bins],
            {
                "expected": [round(100 * mean, 1) for _, mean, _ in reliability.bins],
                "close": [round(100 * share, 1) for _, _, share in reliability.bins],
            },
            " %",
            "On the validation side, each unit by what the others taught. In brackets: keypoints.",
        )
        sections.append(chart)
    return sections


def _to_facts(watched: Watched) -> KeyValues:
    rows = watched.window.rows
    thresholds = rows[0].thresholds if rows else None
    kinds = sorted({unit.partition(" ")[0] for unit in watched.units})
    facts: list[tuple[str, Any]] = [
        ("model", watched.model),
        ("window", f"{format_time(watched.since)} to {format_time(watched.until)}"),
        ("images in the window", len(rows)),
        ("units", f"{watched.comparison.window_units} ({', '.join(kinds)})"),
        ("validation side", f"{len(watched.side.rows)} images, {watched.comparison.reference_units} units"),
        ("views", "mirrored and smaller as well" if rows and all(row.views for row in rows) else "none"),
    ]
    if thresholds is not None:
        facts.append(("thresholds", f"score {thresholds.conf:g}, overlap {thresholds.iou:g}"))
    return KeyValues("What was compared", facts)


# ------------------------------------------------------------------------------------------ pictures


def _to_galleries(watched: Watched, log: Path) -> list[Section]:
    if watched.novelty is None:
        return []
    sections: list[Section] = []
    new = _choose(watched.novelty.window, watched.units, _MAX_NEW, lambda i: bool(watched.window.rows[i].picture))
    pictures = [
        picture
        for index in new
        if (picture := _draw_logged(watched, watched.window.rows[index], watched.units[index], log)) is not None
    ]
    if pictures:
        note = (
            "The images of the window that are least like the validation side, by a classifier that has not learnt from"
            " them."
        )
        sections.append(Gallery("What is new", pictures, note))
    elif watched.window.rows and not any(row.picture for row in watched.window.rows):
        text = "No pictures were logged; drift.log_picture_mb keeps small ones (docs/drift.md says who may see them)."
        sections.append(Notes("Pictures", [Note("info", text)]))
    usual = _choose(-watched.novelty.reference, watched.side.units, _MAX_USUAL, lambda _: True)
    beside = [
        picture
        for index in usual
        if (picture := _draw(watched, watched.side.rows[index], watched.side.files[index], watched.side.units[index]))
        is not None
    ]
    if beside:
        sections.append(
            Gallery("What the validation side looks like", beside, "Images that are least like the window.")
        )
    return sections


def _choose(scores: np.ndarray, units: Sequence[str], most: int, usable: Any) -> list[int]:
    """Return the positions of the highest scores, few of each unit."""
    chosen: list[int] = []
    taken: dict[str, int] = {}
    for index in np.argsort(-scores, kind="stable"):
        unit = units[int(index)]
        if len(chosen) < most and taken.get(unit, 0) < _MAX_OF_UNIT and usable(int(index)):
            taken[unit] = taken.get(unit, 0) + 1
            chosen.append(int(index))
    return chosen


def _draw_logged(watched: Watched, row: Row, unit: str, log: Path) -> Picture | None:
    name = Path(row.picture).name  # a row names a file of the folder, whatever stands there
    return _draw(watched, row, log / PICTURES / name, unit)


def _draw(watched: Watched, row: Row, path: Path, unit: str) -> Picture | None:
    try:
        image = np.ascontiguousarray(read_image(path, watched.side.info.depth)[..., ::-1])
    except (OSError, AnnotationError, UnidentifiedImageError, Image.DecompressionBombError):
        return None  # dropped from the log since, or damaged
    scale = image.shape[1] / max(row.size_wh[0], 1)
    found = [
        Prediction(
            item.class_name,
            item.score,
            tuple(value * scale for value in item.box_xyxy),
            [
                PredictedKeypoint(point.name, x * scale, y * scale, point.confidence)
                for point, (x, y) in zip(item.keypoints, keypoints_px(item).tolist(), strict=True)
            ],
        )
        for item in row.objects
    ]
    drawn = draw_predictions(image, found, watched.side.info.schema, longest_side_px=_PICTURE_PX)
    best = max((item.score for item in row.objects), default=None)
    what = "no object" if best is None else f"{len(row.objects)} found, best score {best:.2f}"
    when = format_time(row.at) if row.at else row.image
    return Picture(encode_jpeg(drawn, quality=78), f"{when}: {what}", unit)
