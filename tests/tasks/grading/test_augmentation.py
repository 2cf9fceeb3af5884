"""How strongly images are changed: the forms of the parameter, its course, and what it does to the arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keypipe.errors import ConfigError
from tasks.grading.augmentation import DEFAULT_AUGMENTATION, StrengthCourse, StrengthSchedule, weaken
from tasks.train import TrainParams
from tasks.workspace import params as read


def load(tmp_path: Path, section: str) -> TrainParams:
    (tmp_path / "params.yaml").write_text(f"train: {section}\n")
    return read.load_section(read.read_params(tmp_path), "train", TrainParams)


@pytest.mark.parametrize(
    ("section", "strengths"),
    [
        ("{}", [1, 1, 1, 1, 1]),
        ("{augmentation: strong}", [1, 1, 1, 1, 1]),
        ("{augmentation: light}", [0.4, 0.4, 0.4, 0.4, 0.4]),
        ("{augmentation: 0}", [0, 0, 0, 0, 0]),
        ("{augmentation: {from: 0.2, to: strong, over: 0.8}}", [0.2, 0.4, 0.6, 0.8, 1.0]),
        ("{augmentation: {from: light, to: strong}}", [0.4, 0.64, 0.88, 1, 1]),
        ("{augmentation: {from: strong, to: 0.5, over: 1}}", [1.0, 0.9, 0.8, 0.7, 0.6]),
    ],
)
def test_every_form_has_its_course(tmp_path: Path, section: str, strengths: list[float]) -> None:
    params = load(tmp_path, section)
    course = StrengthCourse(params.augmentation)
    assert [course.at(epoch, 5) for epoch in range(5)] == pytest.approx(strengths)
    assert course.changes == (len(set(strengths)) > 1)
    assert course.is_full == (set(strengths) == {1})
    assert course.at(course.settles(5), 5) == course.at(4, 5)
    assert course.settles(5) == 0 or course.at(course.settles(5) - 1, 5) != course.at(4, 5)
    assert "augmentation" not in params.arguments, "it is keypipe's own, and not passed to Ultralytics"


@pytest.mark.parametrize(
    "value",
    ["heavy", "1.5", "-0.1", "{from: light}", "{from: light, to: strong, over: 0}", "{from: light, to: 2}", "null",
     "true", "[light, strong]", "{from: light, to: strong, until: 3}"],
)  # fmt: skip
def test_what_is_none_is_refused_in_one_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"\n  augmentation: {value}")
    (line,) = str(caught.value).splitlines()
    assert line.startswith("params.yaml:2: train.augmentation: expected light, strong, a number from 0 to 1, or {from:")


def test_strength_scales_what_changes_an_image_and_leaves_the_rest() -> None:
    arguments: dict[str, Any] = {
        "scale": 0.5, "translate": 0.1, "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "degrees": 0.0, "mosaic": 1.0,
        "fliplr": 0.5, "lr0": 0.003,
    }  # fmt: skip
    light = weaken(arguments, 0.4)
    assert light == pytest.approx(
        {"scale": 0.2, "translate": 0.04, "hsv_h": 0.006, "hsv_s": 0.28, "hsv_v": 0.16, "mosaic": 0.4}
    )
    assert {**arguments, **weaken(arguments, 1.0)} == arguments
    assert not any(weaken(arguments, 0.0).values())


def test_a_range_of_factors_shrinks_towards_one() -> None:
    assert weaken({"scale": [0.5, 2.0]}, 0.4)["scale"] == pytest.approx((0.8, 1.4))


def test_the_default_and_a_training_without_the_key_are_the_same(tmp_path: Path) -> None:
    assert load(tmp_path, "{}") == load(tmp_path, "{augmentation: strong}")
    assert StrengthCourse().is_full
    assert StrengthCourse(DEFAULT_AUGMENTATION).is_full
    assert not StrengthCourse(StrengthSchedule.model_validate({"from": "light", "to": "strong"})).is_full
