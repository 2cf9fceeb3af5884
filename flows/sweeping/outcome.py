"""What a sweep has come to, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from flows.sweeping.study import Trial, find_best
from keypipe.errors import format_count
from tasks.workspace.documents import format_value

_SHOWN = 20


class SweepOutcome(msgspec.Struct):
    """A sweep as it stands.

    Attributes:
        name: of the sweep.
        by: the figure of the validation split that trials are compared by.
        space: what is tried.
        trials: all of them, in their order.
        asked: how many were asked for.
        message: why it ended before; "" where it did not.
        unrecorded: what MLflow and Prefect were not told.
    """

    name: str
    by: str
    space: Sequence[str]
    trials: list[Trial]
    asked: int = 0
    message: str = ""
    unrecorded: list[str] = []

    @property
    def best(self) -> Trial | None:
        """The best trial that is complete."""
        return find_best(self.trials)


def describe(outcome: SweepOutcome) -> str:
    """Return one line on how a sweep stands."""
    counts = {
        state: sum(trial.state == state for trial in outcome.trials) for state in ("complete", "pruned", "failed")
    }
    parts = [f"{format_count(len(outcome.trials), 'trial')}"]
    parts += [f"{count} {state}" for state, count in counts.items() if count]
    best = outcome.best
    if best is None:
        return f"{', '.join(parts)}; none is complete"
    first = outcome.trials[0]
    compared = ""
    if first.state == "complete" and first.figure is not None and best.number != first.number:
        compared = f" (the first: {first.figure:.4f})"
    return f"{', '.join(parts)}; the best is {best.number}: {outcome.by} {best.figure:.4f}{compared}"


def to_rows(outcome: SweepOutcome) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table of the trials, the best first, then those that were left behind."""
    keys = [text.partition("=")[0] for text in outcome.space]
    heads = ["trial", "state", outcome.by, "epochs", *keys, "MLflow run"]
    order = {"complete": 0, "running": 1, "waiting": 2, "pruned": 3, "failed": 4}
    ranked = sorted(outcome.trials, key=lambda trial: (order[trial.state], -(trial.figure or 0.0), trial.number))
    rows = [
        [
            str(trial.number),
            trial.state,
            "" if trial.figure is None else f"{trial.figure:.4f}",
            str(trial.epochs or ""),
            *(_format(trial.values.get(key)) for key in keys),
            trial.run[:8],
        ]
        for trial in ranked
    ]
    return heads, rows


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else format_value(value)


def to_markdown(outcome: SweepOutcome) -> str:
    """Return a table of the best trials in Markdown."""
    heads, rows = to_rows(outcome)
    lines = [f"**A sweep by keypipe**: {describe(outcome)}.", "", f"Tried: `{'`, `'.join(outcome.space)}`.", ""]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(f"\n{len(rows) - _SHOWN} more: `keypipe sweep {outcome.name}`.")
    return "\n".join(lines)[:4900]
