"""The page of the stage split: what is in each split, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keypipe.diagnosis.findings import Finding
from keypipe.report.page import Cell, Figure, GroupedBarChart, KeyValues, Note, Notes, Report, Section, Table
from keypipe.splits.power import Power
from tasks.pages.findings import to_section
from tasks.workspace.places import RAW

_MAX_ROWS = 200


def to_report(summary: Mapping[str, Any], findings: Sequence[Finding] = ()) -> Report:
    """Build the page that a person reads.

    Args:
        summary: the machine-readable report.
        findings: of the diagnosis.
    """
    splits = {split: figures for split, figures in summary["sides"].items() if figures["images"]}
    warnings = [Note("warning", text) for text in summary["warnings"]]
    sections: list[Section] = [
        *([Notes("Worth a look", warnings)] if warnings else []),
        *_describe_splits(splits),
        *_describe_power(summary["power"]),
        *([to_section(findings, {}, RAW.as_posix())] if findings else []),
        *_describe_exceptions(summary),
        KeyValues(
            "Since the last run",
            [
                ("New images", summary["new_images"]),
                ("Images absent now", summary["absent_images"]),
                ("Draw of all splits", summary["draw"]),
                ("Images moved by the reset", summary["moved_by_reset"]),
            ],
        ),
    ]
    figures = [Figure(split, f["images"], f"{f['share']:.1%} of the images") for split, f in splits.items()]
    return Report("Splits of the dataset", summary["headline"], sections, figures, "split")


def _describe_splits(splits: Mapping[str, Any]) -> list[Section]:
    rows = [
        [split, f["images"], f"{f['share']:.1%}", f"{f['wanted']:.1%}", f["negatives"], f["objects"]]
        for split, f in splits.items()
    ]
    return [
        Table("Splits", ["Split", "Images", "Share", "Wanted", "Without objects", "Objects"], rows),
        GroupedBarChart(
            "Images and objects",
            list(splits),
            {kind: [f[kind] for f in splits.values()] for kind in ("images", "objects")},
        ),
        _shares("Objects by class", "Class", "objects_by_class", splits),
        _shares("Images by their number of objects", "Objects", "images_by_objects", splits),
    ]


def _describe_power(power: Power | None) -> list[Section]:
    """Say what the test split can decide about two models."""
    if power is None:
        return []
    note = (
        "Smallest loss that the gate can rule out in 80 % of such test splits for a challenger that is as good as the"
        " champion, were the models two trainings from the start; models that are much alike want fewer images"
        " (docs/retraining.md)."
    )
    pairs: list[tuple[str, Cell]] = [(name, round(margin, 3)) for name, margin in power.decides.items()]
    return [
        Notes("What the test split can decide", [Note("info", power.text)]),
        *([KeyValues("Smallest margins", pairs, note)] if pairs else []),
    ]


def _describe_exceptions(summary: Mapping[str, Any]) -> list[Section]:
    """List folds, images that are set aside, and those kept together; empty lists are left out."""
    sections: list[Section] = []
    if summary["folds"]:
        fold_rows = [[fold, f["images"], f["objects"]] for fold, f in summary["folds"].items()]
        sections.append(Table("Folds of train and val", ["Fold", "Images", "Objects"], fold_rows))
    if summary["set_aside"]:
        aside_rows: list[list[Cell]] = [
            [aside["image"], *next(iter(aside["touches"].items())), *list(aside["touches"].items())[-1]]
            for aside in summary["set_aside"]
        ]
        columns = ["Image", "Touches", "by", "and", "by"]
        note = "Images that belong to two splits are in none, until the manifest or the groups are mended."
        sections.append(Table("Set aside", columns, aside_rows, note))
    if summary["kept_together"]:
        together: list[list[Cell]] = [
            [len(paths), ", ".join(paths[:4]) + (" …" if len(paths) > 4 else "")] for paths in summary["kept_together"]
        ]
        title = "Kept together: groups and near duplicates"
        sections.append(Table(title, ["Images", "Which"], together[:_MAX_ROWS], f"{len(together)} in all."))
    return sections


def _shares(title: str, what: str, key: str, splits: Mapping[str, Any]) -> Table:
    names = sorted({name for f in splits.values() for name in f[key]}, key=_by_number)
    rows: list[list[Cell]] = []
    for name in names:
        counts = [f[key].get(name, 0) for f in splits.values()]
        rows.append([name, *counts, " / ".join(f"{count / sum(counts):.0%}" for count in counts)])
    return Table(title, [what, *splits, "Shares"], rows)


def _by_number(name: str) -> tuple[int, str]:
    number = name.partition("-")[0]
    return (int(number) if number.isdecimal() else 0, name)
