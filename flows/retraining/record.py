"""What became of the last retraining, for ``keypipe status`` and for whoever started it; and how an outcome is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.outcome import Outcome, RuleRow
from flows.system.state_files import read_record, write_record
from tasks.workspace.places import STATE

if TYPE_CHECKING:
    from keypipe.gate.verdict import Rule, Verdict

LAST_RETRAINING = STATE / "last-retraining.json"


def write_outcome(root: Path, outcome: Outcome) -> None:
    """Write down what became of a retraining."""
    write_record(root / LAST_RETRAINING, outcome)


def read_outcome(root: Path) -> Outcome | None:
    """Return what became of the last retraining; None where none has ended."""
    return read_record(root / LAST_RETRAINING, Outcome)


def to_rows(verdict: Verdict) -> tuple[RuleRow, ...]:
    """Return every rule of a verdict, and the keypoints and classes that are vetoed."""
    rows = [
        RuleRow(
            rule=_name(rule),
            champion=rule.limit if rule.reference is None else rule.reference,
            challenger=rule.value,
            interval=_interval(rule),
            verdict=rule.state,
        )
        for rule in verdict.rules
    ]
    rows += [
        RuleRow(rule=veto.name, champion=veto.champion, challenger=veto.challenger, verdict="veto")
        for veto in verdict.vetoes
        if veto.vetoed
    ]
    return tuple(rows)


def _name(rule: Rule) -> str:
    return rule.name if rule.against == "limit" else f"{rule.name} against the {rule.against}"


def _interval(rule: Rule) -> tuple[float, float] | None:
    bounds = rule.difference
    return None if bounds is None or bounds.low is None or bounds.high is None else (bounds.low, bounds.high)


def to_table(rows: Sequence[RuleRow]) -> list[dict[str, str]]:
    """Return rows as texts by column, as Prefect's table and the console show them."""
    return [
        {
            "rule": row.rule,
            "champion": _format(row.champion),
            "challenger": _format(row.challenger),
            "difference": "" if row.interval is None else f"{row.interval[0]:+.3f} to {row.interval[1]:+.3f}",
            "verdict": row.verdict,
        }
        for row in rows
    ]


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
