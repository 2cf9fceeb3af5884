"""What a sweep tries, as people write it."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from flows.sweeping.space import Dimension, draw, find_present, parse_space
from keypipe.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.lr0=0.001..0.01", Dimension("train.lr0", 0.001, 0.01)),
        ("train.lr0=log:1e-4..1e-2", Dimension("train.lr0", 1e-4, 1e-2, log=True)),
        ("train.batch=8..32", Dimension("train.batch", 8, 32)),
        ("train.mosaic=0..0.5", Dimension("train.mosaic", 0.0, 0.5)),
        ("train.degrees=-10..10", Dimension("train.degrees", -10, 10)),
        ("train.batch=8|16|32", Dimension("train.batch", choices=(8, 16, 32))),
        ("train.optimizer=SGD | AdamW", Dimension("train.optimizer", choices=("SGD", "AdamW"))),
        ("train.augmentation=light|strong|0.5", Dimension("train.augmentation", choices=("light", "strong", 0.5))),
        ("train.cos_lr=true|false", Dimension("train.cos_lr", choices=(True, False))),
        ("train.close_mosaic=null|5", Dimension("train.close_mosaic", choices=(None, 5))),
    ],
)
def test_ranges_and_lists_are_read_and_written_alike(text: str, expected: Dimension) -> None:
    (found,) = parse_space([text])
    assert found == expected
    assert parse_space([str(found)]) == (found,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr0", "expected KEY=LOW..HIGH"),
        ("train.lr0=", "expected KEY=LOW..HIGH"),
        ("train.lr0=a..b", "expected KEY=LOW..HIGH"),
        ("train.lr0=1..2..3", "expected KEY=LOW..HIGH"),
        ("train.lr0=0.1..0.01", "the first number must be less than the second"),
        ("train.lr0=0..inf", "is no YAML value|expected KEY|first number"),
        ("train.lr0=0...inf", "expected KEY=LOW..HIGH"),
        ("train.lr0=log:0..0.1", "a logarithmic range begins above 0"),
        ("train.lr0=0.01", "one value leaves nothing to try"),
        ("train.batch=8|8", "a value is there twice"),
        ("train.lr0=[1]|[2]", "is no single value"),
        ("train.lr0=|", "is no single value"),
        ("convert.depth=scale|cut", "a sweep tries keys of train alone"),
        ("seed=1|2", "a sweep tries keys of train alone"),
        ("train.best_by=oks_AP|oks_AP50", "what trials are compared by"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_space([text])


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.lr0 is there twice"):
        parse_space(["train.lr0=0.1..0.2", "train.lr0=0.3..0.4"])


def test_values_drawn_are_within() -> None:
    texts = ["train.lr0=log:0.001..0.1", "train.batch=8..32", "train.mosaic=0..1.0", "train.optimizer=SGD|AdamW"]
    space = parse_space(texts)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [draw(study.ask(), space) for _ in range(40)]
    assert all(one.holds(values[one.key]) for values in drawn for one in space)
    assert {type(values["train.batch"]) for values in drawn} == {int}
    assert {values["train.optimizer"] for values in drawn} == {"SGD", "AdamW"}
    low = sum(values["train.lr0"] < 0.01 for values in drawn if isinstance(values["train.lr0"], float))
    assert 10 < low < 30, "half of a logarithmic range lies below its geometric middle"


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({"lr0": 0.003, "batch": 16}, {"train.lr0": 0.003, "train.batch": 16}),
        ({"lr0": 0.5, "batch": 16}, None),
        ({"lr0": 0.003, "batch": 12}, None),
        ({"lr0": 0.003, "batch": True}, None),
        ({"lr0": 0.003}, None),
    ],
)
def test_present_values_are_known_where_they_are_tried(train: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert find_present(parse_space(["train.lr0=0.001..0.01", "train.batch=8|16"]), train) == expected
