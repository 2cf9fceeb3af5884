"""Which images a window holds, what belongs together, and what came of it in words."""

from __future__ import annotations

import numpy as np
import pytest

from keypipe.drift.comparison import Comparison, Difference
from tasks.drift.watch import describe, name_unit, to_kind
from tests.keypipe.drift.samples import make_row


def row(**more: object) -> object:
    return make_row(np.random.default_rng(0), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "group_by", "unit"),
    [
        ({"group": "barn 3"}, None, "group barn 3"),
        ({"group": "film.mp4", "image": "film.mp4#7"}, "folder", "group film.mp4"),
        ({"source": "serve", "at": 3600.0 * 5 + 1}, None, "hour 1970-01-01 05"),
        ({"source": "serve", "at": 1.0, "group": "cam"}, "folder", "group cam"),
        ({"image": "a/b.jpg"}, None, "image a/b.jpg"),
        ({"image": "a/b.jpg"}, "folder", "group a"),
        ({"image": "a/cow12_3.jpg"}, r"cow(\d+)", "group 12"),
        ({"image": "a/calf.jpg"}, r"cow(\d+)", "image a/calf.jpg"),
    ],
)
def test_units(values: dict[str, object], group_by: str | None, unit: str) -> None:
    assert name_unit(row(**values), group_by) == unit  # type: ignore[arg-type]


def difference(name: str, family: str, adjusted: float = 0.001, effect: float = 0.5) -> Difference:
    return Difference(name, name, family, "level", 0.5, 0.6, effect, adjusted, adjusted, 20)  # type: ignore[arg-type]


def test_kinds_and_their_sentences() -> None:
    def compared(*found: Difference, units: int = 20) -> Comparison:
        return Comparison(list(found), 50, units, 0.01, 0.33)

    steady = compared(difference("score", "outputs", 0.02), difference("size", "geometry", 0.001, 0.1))
    pixels = compared(difference("brightness", "pixels"))
    drifted = compared(difference("score", "outputs"), difference("brightness", "pixels"))
    several = compared(*(difference(name, "geometry") for name in "abcd"))
    few = compared(units=4)
    kinds = [to_kind(found) for found in (steady, pixels, drifted, several, few)]
    assert kinds == ["steady", "images differ", "drift", "drift", "cannot tell"]
    assert describe("steady", steady, "v3") == "v3 answers as on the validation side"
    assert describe("images differ", pixels, "v3") == "brightness is new, and v3 answers as on the validation side"
    assert describe("drift", drifted, "v3") == "score: with v3 is not what it was on the validation side"
    assert describe("drift", several, "v3").startswith("a, b, c and 1 more: with v3 are not what they were")
    assert describe("cannot tell", few, "v3").startswith("too few units to tell anything (4 units in the window, 50")
