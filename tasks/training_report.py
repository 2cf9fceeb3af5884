"""The page about a training: its curves, parameters and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping

from keypipe.report import Figure, LineChart, LineCharts, Note, Notes, Report, Section, Table
from tasks.models import Summary


def to_report(summary: Summary) -> Report:
    """Build the page that a person reads."""
    epochs = summary.record.epochs
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    x = list(range(1, len(epochs) + 1))

    def chart(title: str, series: Mapping[str, str]) -> LineChart:
        shown = {label: [epoch.get(name) for epoch in epochs] for label, name in series.items() if name in names}
        return LineChart(title, x, shown, "epoch")

    losses = [name.removeprefix("train/") for name in names if name.startswith("train/")]
    charts = [chart(name, {side: f"{side}/{name}" for side in ("train", "val")}) for name in losses]
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
        Table("Parameters", ["Parameter", "Value"], [[*item] for item in sorted(summary.record.params.items())]),
        Table("Where it comes from", ["Tag", "Value"], [[*item] for item in sorted(origin.items())]),
    ]
    shown = [
        Figure("Epochs", len(epochs), f"best: {summary.best_epoch}"),
        Figure(summary.best_by, f"{summary.best_value:.3f}", "what the best epoch was chosen by, val"),
        Figure("Pose mAP50", f"{_best(summary, 'pose_mAP50'):.3f}", "Ultralytics, best epoch, val"),
        Figure("Box mAP50", f"{_best(summary, 'box_mAP50'):.3f}", "Ultralytics, best epoch, val"),
    ]
    return Report("Training", summary.headline, sections, shown, "train")


def _best(summary: Summary, name: str) -> float:
    if not summary.record.epochs:
        return 0.0
    return summary.record.epochs[summary.best_epoch - 1].get(f"val_ultralytics/{name}", 0.0)
