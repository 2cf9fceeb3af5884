"""The page about a training: its curves, parameters and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from keypipe.report.page import (
    Cell,
    Figure,
    Gallery,
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
from tasks.grading.epochs import MEAN
from tasks.grading.preflight import Facts, Later, show_survivors
from tasks.workspace.models import Summary, decode_figures
from tasks.workspace.places import PREFLIGHT_FACTS, PREFLIGHT_PICTURE


def read_preflight(root: Path) -> list[Section]:
    """Build the sections about the pre-flight of a workspace's training; none where it was left out."""
    facts, picture = root / PREFLIGHT_FACTS, root / PREFLIGHT_PICTURE
    if not (facts.exists() and picture.exists()):
        return []
    return to_preflight_sections(decode_figures(facts.read_bytes(), Facts), picture.read_bytes())


def to_preflight_sections(facts: Facts, picture: bytes) -> list[Section]:
    """Build the sections about a pre-flight.

    Args:
        facts: what it saw.
        picture: the augmented images, the bytes of a JPEG file.
    """
    rows: list[tuple[str, Cell]] = [
        *((f"{name.replace('_', ' ')} of batch {facts.batch}", f"{value:.3f}") for name, value in facts.losses.items()),
        (f"Objects lost by augmentation, {facts.images} images", show_survivors(facts.objects)),
        ("Keypoints lost by augmentation", show_survivors(facts.keypoints)),
        *_later_rows(facts.later),
        ("Objects left without a keypoint", facts.bare_objects),
        ("Longest side of an object, px", round(facts.largest_object_px, 1)),
    ]
    note = "Augmented as the network got them: look for keypoints in the wrong place, and left and right exchanged."
    return [
        Gallery("What the network trains on", [Picture(picture, f"batch {facts.batch}")], note, min_width_px=960),
        KeyValues("Before the training started", rows),
    ]


def _later_rows(later: Later | None) -> list[tuple[str, Cell]]:
    if later is None:
        return []
    when = f"at strength {later.strength:.2g}, from epoch {later.epoch}"
    return [
        (f"Objects lost {when}", show_survivors(later.objects)),
        (f"Keypoints lost {when}", show_survivors(later.keypoints)),
    ]


def to_report(summary: Summary, preflight: Sequence[Section] = ()) -> Report:
    """Build the page that a person reads.

    Args:
        summary: what the training left.
        preflight: the sections about its pre-flight.
    """
    epochs = summary.record.epochs
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    x = list(range(1, len(epochs) + 1))

    def chart(title: str, series: Mapping[str, str]) -> LineChart:
        shown = {label: [epoch.get(name) for epoch in epochs] for label, name in series.items() if name in names}
        return LineChart(title, x, shown, "epoch")

    losses = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    charts = [chart(name, {split: f"{split}/{name}" for split in ("train", "val")}) for name in losses]
    figures = ("precision", "recall", "mAP50", "mAP50-95")
    charts += [
        chart(f"{kind} on val (Ultralytics)", {name: f"val_ultralytics/{kind}_{name}" for name in figures})
        for kind in ("pose", "box")
    ]
    charts.append(
        chart(
            "figures on val (keypipe)",
            {name.removeprefix("val_epoch/"): name for name in names if name.startswith("val_epoch/")},
        )
    )
    charts.append(chart("learning rate", {name: name for name in names if name.startswith("lr/")}))
    origin = {**summary.record.tags, "MLflow run": summary.run_id}
    sections: list[Section] = [
        *([Notes("Worth a look", [Note("warning", text) for text in summary.warnings])] if summary.warnings else []),
        LineCharts("Losses and figures by epoch", charts),
        *preflight,
        Table("Parameters", ["Parameter", "Value"], [[*item] for item in sorted(summary.record.params.items())]),
        Table("Where it comes from", ["Tag", "Value"], [[*item] for item in sorted(origin.items())]),
    ]
    best = f"the mean of the last {summary.averaged}" if summary.averaged else f"{summary.best_epoch}"
    shown = [
        Figure("Epochs", len(epochs), f"best: {best}"),
        Figure(summary.best_by, f"{summary.best_value:.3f}", "what the best was chosen by, val"),
        Figure("Pose mAP50", f"{_best(summary, 'pose_mAP50'):.3f}", "Ultralytics, the best, val"),
        Figure("Box mAP50", f"{_best(summary, 'box_mAP50'):.3f}", "Ultralytics, the best, val"),
    ]
    return Report("Training", summary.headline, sections, shown, "train")


def _best(summary: Summary, name: str) -> float:
    if not summary.record.epochs:
        return 0.0
    if summary.averaged:
        return summary.record.epochs[-1].get(f"{MEAN}/{name}", 0.0)
    return summary.record.epochs[summary.best_epoch - 1].get(f"val_ultralytics/{name}", 0.0)
