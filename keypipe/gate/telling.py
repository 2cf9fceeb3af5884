"""The verdict as it is told: tags for MLflow, a table in Markdown, parts of a page."""

from __future__ import annotations

from collections.abc import Sequence

from keypipe.gate.noninferiority import Bounds
from keypipe.gate.verdict import Rule, Verdict
from keypipe.gate.vetoes import LEVEL as VETO_LEVEL
from keypipe.report.formatting import Cell
from keypipe.report.sections import Note, Notes, Section, Table
from keypipe.splits.power import MIN_GROUPS, POWER

TAG_LENGTH = 5000
"""Characters of a tag at most; MLflow takes 8,000 for a run."""

_POWER = f"{100 * POWER:.0f} %"
_SEVERITIES = {"promoted": "good", "rejected": "error", "undecided": "warning"}


def to_headline(verdict: Verdict) -> str:
    """Return the verdict as a sentence."""
    asked = "; a person is asked" if verdict.needs_approval else ""
    return f"{verdict.outcome}: {verdict.reason}{asked}"


def to_tags(verdict: Verdict) -> dict[str, str]:
    """Return the verdict as names and texts, such as ``gate.champion.oks_AP.difference``."""
    tags = {
        "gate.outcome": verdict.outcome,
        "gate.needs_approval": str(verdict.needs_approval).lower(),
        "gate.reason": verdict.reason,
        "gate.units": f"{verdict.units} {verdict.unit}s",
        "gate.images": str(verdict.images),
        "gate.judged_before": str(verdict.judged),
        "gate.stale": str(verdict.stale).lower(),
    }
    if verdict.suffices is not None:
        tags["gate.suffices"] = str(verdict.suffices)
    for rule in verdict.rules:
        place = f"gate.{rule.against}.{rule.name}"
        tags[place] = rule.state
        figures = {"value": rule.value, "reference": rule.reference, "limit": rule.limit, "p": rule.p}
        if rule.difference is not None:
            figures |= {"difference": rule.difference.value, "low": rule.difference.low, "high": rule.difference.high}
        tags |= {f"{place}.{name}": f"{value:.6g}" for name, value in figures.items() if value is not None}
    vetoed = [veto.name for veto in verdict.vetoes if veto.vetoed]
    tags["gate.vetoes"] = ", ".join(vetoed) or "none"
    if verdict.left_out:
        tags["gate.left_out"] = "; ".join(verdict.left_out)
    return {name: text[:TAG_LENGTH] for name, text in tags.items()}


def to_markdown(verdict: Verdict) -> str:
    """Return the verdict as a Markdown text, for an artifact."""
    lines: list[str] = []
    for section in to_sections(verdict):
        lines += [f"### {section.title}", ""]
        if isinstance(section, Table):
            lines += [_to_row(section.columns), _to_row(["---"] * len(section.columns))]
            lines += [_to_row([_to_text(cell) for cell in row]) for row in section.rows]
        elif isinstance(section, Notes):
            lines += [f"- {text}" for _, text in section.notes]
        lines += ["", section.note, ""] if section.note else [""]
    return "\n".join(lines).rstrip() + "\n"


def to_sections(verdict: Verdict) -> list[Section]:
    """Return the verdict as parts of a page."""
    sections: list[Section] = [
        Notes("The gate", [Note(_SEVERITIES[verdict.outcome], to_headline(verdict)), *_to_notes(verdict)]),
        Table(
            "Figures",
            ("figure", "against", "outcome", "challenger", "reference", "difference", "low", "high", "limit"),
            [_to_cells(rule, rule.difference) for rule in verdict.rules if rule.difference is not None],
            _say_bounds(verdict),
        ),
        Table(
            "Other rules",
            ("rule", "outcome", "found"),
            [[rule.name, rule.state, rule.text] for rule in verdict.rules if rule.difference is None],
        ),
    ]
    if verdict.vetoes:
        rows = [
            [
                veto.name,
                round(veto.champion, 4),
                round(veto.challenger, 4),
                round(veto.challenger - veto.champion, 4),
                round(veto.p, 4),
                "veto" if veto.vetoed else "",
                round(veto.detectable, 4),
            ]
            for veto in verdict.vetoes
        ]
        columns = ["what", "champion", "challenger", "difference", "p", "veto", f"loss seen in {_POWER}"]
        note = (
            "Share of close keypoints; OKS AP for a class. Were no loss larger than what counts, any veto at all would"
            f" come up in {100 * VETO_LEVEL:.0f} % of comparisons at most (Holm). The last column is the loss that is"
            f" seen in {_POWER} of test splits like this one: a smaller one may well be missed."
        )
        sections.append(Table("Keypoints and classes", columns, rows, note))
    return sections


def _to_notes(verdict: Verdict) -> list[Note]:
    notes: list[Note] = []
    if verdict.decidable:
        margins = ", ".join(f"{value:.3f} of {name}" for name, value in verdict.decidable.items())
        notes.append(
            Note("info", f"{verdict.units} {verdict.unit}s decide margins of {margins} for an equal challenger")
        )
    if verdict.units < MIN_GROUPS:
        notes.append(Note("warning", f"below {MIN_GROUPS} {verdict.unit}s nothing is decided by figures"))
    notes.append(Note("info", f"this test split has judged {verdict.judged} challengers before"))
    if verdict.stale:
        text = "this test split is stale: challengers have been chosen by it for too long; draw or annotate new images"
        notes.append(Note("warning", text))
    return notes + [Note("info", f"left out: {text}") for text in verdict.left_out]


def _say_bounds(verdict: Verdict) -> str:
    return (
        f"Low and high are one-sided bounds of the difference at a level of {100 * verdict.level:g} %, from"
        f" {verdict.units} {verdict.unit}s; docs/retraining.md shows how often they are wrong."
    )


def _to_cells(rule: Rule, bounds: Bounds) -> list[Cell]:
    figures = (rule.value, rule.reference, bounds.value, bounds.low, bounds.high, rule.limit)
    return [rule.name, rule.against, rule.state, *(None if figure is None else round(figure, 4) for figure in figures)]


def _to_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _to_text(cell: Cell) -> str:
    return "" if cell is None else f"{cell:g}" if isinstance(cell, float) else str(cell)
