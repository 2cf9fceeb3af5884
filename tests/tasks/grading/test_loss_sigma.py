from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keypipe.errors import ConfigError
from tasks.grading.loss_sigma import DEFAULT_LOSS_SIGMA, SigmaCourse, SigmaSchedule, TrainSigma, read_final_sigmas
from tasks.workspace import params as read


def load(tmp_path: Path, text: str) -> Any:
    (tmp_path / "params.yaml").write_text(text)
    return read.read_params(tmp_path)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("train: {loss_sigma: 0.2}", [0.2, 0.2]),
        ("train: {loss_sigma: 1}", [1.0, 1.0]),
        ("train: {loss_sigma: [0.1, 0.3], lr0: 1}", [0.1, 0.3]),
        ("train: {loss_sigma: {from: 0.5, to: 0.1}}", [0.1, 0.1]),
        ("train: {loss_sigma: {from: 0.5, to: [0.1, 0.2], over: 1}}", [0.1, 0.2]),
        ("train: {}", [0.1, 0.1]),
        ("seed: 1", [0.1, 0.1]),
    ],
)
def test_every_form_is_read(tmp_path: Path, text: str, last: list[float]) -> None:
    assert read_final_sigmas(load(tmp_path, text), 2).tolist() == last


@pytest.mark.parametrize(
    "value",
    ["small", "{from: 0.5}", "{from: 0.5, to: 0.1, over: 0}", "{from: 0.5, to: 0.1, over: 1.2}", "{from: a, to: 0.1}",
     "{from: 0.5, to: 0.1, until: 3}", "true", "null"],
)  # fmt: skip
def test_what_is_none_is_refused_in_one_line(tmp_path: Path, value: str) -> None:
    document = load(tmp_path, f"train:\n  loss_sigma: {value}\n")
    with pytest.raises(ConfigError) as caught:
        read.load_section(document, "train", TrainSigma)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("params.yaml:2: train.loss_sigma: expected a number, a list of numbers, or {from: ")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "train.loss_sigma: expected one number above 0, or 2 of them, got 0"),
        ([0.1], "train.loss_sigma: expected one number above 0, or 2 of them, got"),
        (SigmaSchedule.model_validate({"from": [0.1, 0.2, 0.3], "to": 0.1}), "train.loss_sigma.from: expected"),
        (SigmaSchedule.model_validate({"from": 0.3, "to": -0.1}), "train.loss_sigma.to: expected one number above 0"),
    ],
)
def test_sigmas_that_do_not_fit_the_keypoints(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SigmaCourse(value, 2)


def test_the_course_of_a_schedule() -> None:
    course = SigmaCourse(SigmaSchedule.model_validate({"from": [0.5, 0.3], "to": 0.1, "over": 0.5}), 2)
    expected = [[0.5, 0.3], [0.3, 0.2], [0.1, 0.1], [0.1, 0.1]]
    np.testing.assert_allclose([course.at(epoch, 4) for epoch in range(4)], expected)


@given(st.floats(0.01, 2), st.floats(0.01, 2), st.floats(0.01, 1), st.integers(1, 50))
def test_a_course_starts_and_ends_where_it_should_and_never_turns(
    start: float, end: float, over: float, epochs: int
) -> None:
    course = SigmaCourse(SigmaSchedule.model_validate({"from": start, "to": end, "over": over}), 1)
    values = [course.at(epoch, epochs)[0] for epoch in range(epochs + 1)]
    assert values[0] == start
    assert values[-1] == end
    steps = np.diff(values)
    assert (steps >= 0).all() or (steps <= 0).all()


def test_a_constant_is_constant() -> None:
    course = SigmaCourse([0.1, 0.2], 2)
    assert course.at(0, 10).tolist() == course.at(9, 10).tolist() == [0.1, 0.2]


def test_the_default_is_written_as_it_is_read() -> None:
    text = yaml.safe_dump(DEFAULT_LOSS_SIGMA.model_dump(by_alias=True))
    assert SigmaSchedule.model_validate(yaml.safe_load(text)) == DEFAULT_LOSS_SIGMA
