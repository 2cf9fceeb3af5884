from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from keypipe.proposal.training import Images
from tasks.grading.preflight import Times
from tasks.progress import tell_nobody
from tasks.starting.cost import reckon
from tasks.starting.looking import Source, Weights
from tasks.starting.page import tell_cost
from tasks.starting.start import by_default, decline, measure, propose
from tests.conftest import point, rectangle
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


def test_a_folder_without_an_object_of_any_size_is_why_nothing_was_measured(
    drawn: Path, tmp_path: Path, write_labelme: Callable[..., Path]
) -> None:
    for number in range(3):
        flat = [rectangle("cow", (20, 20, 20, 20)), point("nose", 20, 20)]
        write_labelme(f"{number}.jpg", flat, folder=tmp_path / "flat")
    why_not = Weights(published=False, why_not="none")
    start = propose(drawn, Source(tmp_path / "flat"), why_not, decline, tell_nobody)
    measure(drawn, start, by_default(start.choices), tell_nobody)
    assert start.cost is None
    assert start.why_no_cost == "no image has an object that can be read: `keypipe doctor` shows why"


def test_what_it_will_cost_is_told_as_an_estimate() -> None:
    cost = msgspec.structs.replace(reckon(TIMES, Images(150, 32), 640, 16, workers=0), load=3.0)
    told = dict(tell_cost(cost, ""))
    assert told["a step"] == "2.00 s, measured: 16 images of 640 px, forward and backward"
    assert told["10 epochs"] == "about 5 min at most, an estimate from one step"
    assert told["at train.imgsz 320"] == "about 78 s, and objects half as large"
    assert "busy: 3.0 processes for each core" in told["the machine"]
    idle = msgspec.structs.replace(reckon(TIMES, Images(150, 32), 224, 16, workers=0), load=0.5)
    assert [what for what, _ in tell_cost(idle, "")] == ["a step", "an epoch", "10 epochs"]
    assert dict(tell_cost(None, "no images")) == {"time": "not measured: no images"}
