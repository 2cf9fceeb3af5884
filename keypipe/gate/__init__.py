"""Which challenger may take the champion's place: rules with known error rates, and a verdict that says why."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.gate.common import Common, Predictions, reduce_to_common
    from keypipe.gate.comparison import Scored, Units, number_units, score
    from keypipe.gate.rules import Rules
    from keypipe.gate.telling import to_markdown, to_sections, to_tags
    from keypipe.gate.verdict import Facts, Rule, Verdict, decide
    from keypipe.gate.vetoes import Veto
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        common=("Common", "Predictions", "reduce_to_common"),
        comparison=("Scored", "Units", "number_units", "score"),
        rules=("Rules",),
        telling=("to_markdown", "to_sections", "to_tags"),
        verdict=("Facts", "Rule", "Verdict", "decide"),
        vetoes=("Veto",),
    )

__all__ = [
    "Common",
    "Facts",
    "Predictions",
    "Rule",
    "Rules",
    "Scored",
    "Units",
    "Verdict",
    "Veto",
    "decide",
    "number_units",
    "reduce_to_common",
    "score",
    "to_markdown",
    "to_sections",
    "to_tags",
]
