from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.proposal.training import Images
from tasks.grading.preflight import Times
from tasks.progress import tell_nobody
from tasks.starting.cost import reckon
from tasks.starting.looking import Source, Weights
from tasks.starting.start import by_default, decline, measure, propose
from tests.workspace import set_params

# an epoch of one batch and one batch of validation, which took half a second
TIMES = Times(seconds=9.0, step_seconds=2.0, load_seconds=1.0, epoch_seconds=3.5, total_seconds=35.0, epochs=10)


def test_an_epoch_is_its_steps_and_its_validation() -> None:
    cost = reckon(TIMES, Images(150, 32), 224, 16, workers=0)
    assert cost.epoch_seconds == pytest.approx(10 * 3.0 + 2 * 0.5)
    assert cost.total_seconds == pytest.approx(10 * cost.epoch_seconds)
    assert (cost.imgsz, cost.batch, cost.epochs) == (224, 16, 10)


def test_processes_that_load_work_beside_the_steps() -> None:
    beside = Times(seconds=9.0, step_seconds=2.0, load_seconds=1.0, epoch_seconds=2.5, total_seconds=25.0, epochs=10)
    assert reckon(beside, Images(150, 16), 224, 16, workers=2).epoch_seconds == pytest.approx(10 * 2.0 + 0.5)


def test_parameters_that_a_training_would_refuse_are_why_nothing_was_measured(drawn: Path) -> None:
    start = propose(drawn, Source(None), Weights(published=False, why_not="none"), decline, tell_nobody)
    set_params(drawn, **{"train.epoch": 3})
    measure(drawn, start, by_default(start.choices), tell_nobody)
    assert start.cost is None
    assert "did you mean epochs?" in start.why_no_cost
