"""The page of a retraining: why, what was compared on which images, and every rule's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from keypipe.gate.telling import to_sections
from keypipe.report.page import Figure, KeyValues, Note, Notes, Picture, Report, Section, Table
from keypipe.splits.power import HEADLINES
from tasks.pages.reports import write_report
from tasks.retraining.judging import Judgement, Part
from tasks.retraining.pictures import to_page
from tasks.retraining.settings import PICTURES
from tasks.workspace.places import REPORT_HTML, report_folder
from tasks.workspace.program import replacing

REPORT = report_folder("retraining")


def write_page(
    root: Path,
    judgement: Judgement,
    reasons: Sequence[str],
    about: Mapping[str, str],
    pictures: Sequence[Picture] = (),
) -> Path:
    """Write ``reports/retraining``.

    Args:
        root: the workspace.
        judgement: what came of the comparison.
        reasons: why the challenger was trained.
        about: what else is to stand there, such as the workspace's registered model.
        pictures: for a page beside it.

    Returns:
        The page, relative to the workspace.
    """
    verdict = judgement.verdict
    headline = f"{verdict.outcome}: {verdict.reason}"
    with replacing(root, REPORT) as folder:
        folder.mkdir()
        page = to_report(judgement, headline, reasons, about)
        write_report(folder, {"headline": headline, "reasons": list(reasons), **_plain(judgement)}, page)
        if pictures:
            (folder / PICTURES.name).write_text(to_page(pictures), encoding="utf-8")
    return REPORT / REPORT_HTML


def _plain(judgement: Judgement) -> dict[str, Any]:
    return dict(msgspec.to_builtins(judgement))


def to_report(judgement: Judgement, headline: str, reasons: Sequence[str], about: Mapping[str, str]) -> Report:
    """Build the page that a person reads."""
    verdict = judgement.verdict
    sections: list[Section] = [KeyValues("Why it was trained", {**about, "reason": "; ".join(reasons)})]
    sections += to_sections(verdict)
    sections.append(_table_of_parts(judgement.parts))
    notes = [Note("info", f"{count} test images do not judge: {why}") for why, count in judgement.left_out.items()]
    notes += [Note("warning", remark) for remark in judgement.remarks]
    if judgement.best:
        notes.append(Note("info", f"the best model that was ever in use, beside the champion, is v{judgement.best}"))
    if notes:
        sections.append(Notes("Which images and models", notes))
    figures = [
        Figure("Outcome", verdict.outcome),
        Figure("Images that judge", verdict.images),
        Figure("Left out", sum(judgement.left_out.values()), "test images that one of the models learnt from"),
        Figure("Judged before", verdict.judged, "challengers, by this test split"),
    ]
    return Report("Which model is used", headline, sections, figures, "retraining")


def _table_of_parts(parts: Sequence[Part]) -> Table:
    names = list(dict.fromkeys(name for part in parts for name in part.figures))
    columns = ["part", "images", *(f"{figure}, {name}" for figure in HEADLINES for name in names)]
    rows = [
        [
            part.title,
            part.images,
            *(_round(part.figures.get(name, {}).get(figure)) for figure in HEADLINES for name in names),
        ]
        for part in parts
    ]
    return Table("On which images", columns, rows, "Only images that no model has learnt from, by their bytes.")


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
