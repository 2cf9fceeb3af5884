"""The page about a diagnosis: what is wrong with the annotations, and where keypoints usually lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keypipe.diagnosis.class_checks import ClassStatistics, Cloud
from keypipe.diagnosis.diagnosis import Diagnosis
from keypipe.diagnosis.findings import Finding
from keypipe.drawing.colours import keypoint_colours
from keypipe.keypoints.skeleton import Schema
from keypipe.report.page import (
    BarChart,
    Figure,
    GroupedBarChart,
    Note,
    Notes,
    Report,
    ScatterPlot,
    ScatterPlots,
    Section,
    Table,
)
from tasks.pages.findings import to_section

MAX_PICTURES = 30
"""Pictures of one kind on the page."""

_MAX_DOTS = 250


def to_report(
    summary: Mapping[str, Any], diagnosis: Diagnosis, pictures: Mapping[Finding, bytes], schema: Schema, raw: str
) -> Report:
    """Build the page that a person reads."""
    counts = summary["counts"]
    sections: list[Section] = []
    if not diagnosis.findings:
        sections.append(Notes("Nothing found", [Note("good", "No check found anything in these annotations.")]))
    else:
        note = (
            "The ring marks the keypoint, the cross where the object's other keypoints put it. At most"
            f" {MAX_PICTURES} of a kind have a picture; report.json beside this page lists everything."
        )
        sections.append(to_section(diagnosis.findings, pictures, raw, note))
    sections += _describe_classes(diagnosis)
    by_name = {item.name: item for item in diagnosis.classes}
    sections += [_plot_positions(cloud, schema, by_name[cloud.class_name]) for cloud in diagnosis.clouds]
    figures = [
        Figure("Errors", sum(counts["error"].values()), "make a model or its figures wrong"),
        Figure("Warnings", sum(counts["warning"].values()), "probably mistakes"),
        Figure("Notes", sum(counts["info"].values()), "good to know"),
        Figure("Annotation files", summary["annotation_files"]),
        Figure("Objects", sum(item.objects for item in diagnosis.classes)),
    ]
    return Report("Is the data in order?", str(summary["headline"]), sections, figures, "doctor")


def _describe_classes(diagnosis: Diagnosis) -> list[Section]:
    classes = diagnosis.classes
    splits = list(
        dict.fromkeys(split for item in classes for split in ("train", "val", "test") if split in item.objects_by_split)
    )
    sections: list[Section] = []
    if splits:
        series: dict[str, list[float | None]] = {
            split: [item.objects_by_split.get(split, 0) for item in classes] for split in splits
        }
        sections.append(GroupedBarChart("Objects by class and split", [item.name for item in classes], series))
    else:
        sections.append(BarChart("Objects by class", [(item.name, item.objects) for item in classes]))
    for item in classes:
        rows = [
            [
                point.name,
                point.visible,
                point.occluded,
                point.not_labelled,
                round(100 * (point.visible + point.occluded) / max(item.objects, 1), 1),
                None if point.spread is None else round(100 * point.spread, 1),
                point.findings,
            ]
            for point in item.keypoints
        ]
        columns = ["keypoint", "visible", "occluded", "not labelled", "labelled, %", "spread, %", "out of place"]
        note = "Spread: usual distance from where the object's other keypoints put it, in percent of the object's size."
        sections.append(Table(f"Keypoints of {item.name}", columns, rows, note))
    return sections


def _plot_positions(cloud: Cloud, schema: Schema, statistics: ClassStatistics) -> ScatterPlots:
    """Plot every keypoint of a class over the mean shape."""
    skeleton = schema.classes[cloud.class_name]
    names = skeleton.keypoints
    colours = keypoint_colours(schema)
    known = np.abs(cloud.aligned[np.isfinite(cloud.aligned)])
    scale = 1 / max(1.15 * float(np.quantile(known, 0.995)), 1e-9)

    def place(value: complex) -> tuple[float, float]:
        point = value * scale
        return max(-0.97, min(0.97, point.real)), max(-0.97, min(0.97, point.imag))

    lines = [
        (place(cloud.mean[names.index(a)]), place(cloud.mean[names.index(b)]))
        for a, b in skeleton.edges
        if np.isfinite(cloud.mean[names.index(a)]) and np.isfinite(cloud.mean[names.index(b)])
    ]
    plots = []
    for column, (name, figures) in enumerate(zip(names, statistics.keypoints, strict=True)):
        values = cloud.aligned[:, column]
        rows = np.flatnonzero(np.isfinite(values))
        shown = rows[np.unique(np.linspace(0, max(len(rows) - 1, 0), min(len(rows), _MAX_DOTS)).astype(int))]
        odd = rows[cloud.marked[rows, column]][:_MAX_DOTS]
        dots = [place(complex(values[row])) for row in shown]
        marked = [place(complex(values[row])) for row in odd]
        detail = f"{figures.visible + figures.occluded} labelled"
        detail += f", {figures.findings} out of place" if figures.findings else ""
        plots.append(ScatterPlot(name, dots, marked, lines, detail, "#{:02x}{:02x}{:02x}".format(*colours[name])))
    note = (
        "All objects in one frame: moved, turned and scaled onto their mean shape, and mirrored where they face the"
        " other way, so that left is then seen on the right. Rings are out of place."
    )
    return ScatterPlots(f"Positions of the keypoints of {cloud.class_name}", plots, note)
