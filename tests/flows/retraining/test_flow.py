"""A retraining from the first champion on: promoted, skipped, rejected, undecided, and how it is told."""

from __future__ import annotations

from flows.outcome import Outcome
from tests.flows.retraining.conftest import Farm


def test_the_first_champion(first_champion: tuple[Farm, Outcome]) -> None:
    _, outcome = first_champion
    assert outcome.kind == "promoted", outcome
