from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from keypipe.annotations.draft import draft_schema
from keypipe.annotations.labelme import LabelmeFile, LabelmeOptions, LabelmeShape
from keypipe.proposal.marks import Marks, is_word_for_hidden

DEFAULTS = LabelmeOptions()


def dot(name: str, x: float = 20, y: float = 20, kind: str = "point", **values: Any) -> LabelmeShape:
    points = [(x, y)] if kind == "point" else [(x, y), (x + 2, y)]
    return LabelmeShape(name, points, kind, **values)


def box(kind: str = "rectangle", name: str = "cow") -> LabelmeShape:
    return LabelmeShape(name, [(0, 0), (90, 90)], kind)


def propose(*files: Sequence[LabelmeShape], now: LabelmeOptions = DEFAULTS) -> dict[str, Any]:
    marks = Marks()
    for shapes in files:
        marks.add(LabelmeFile(list(shapes)))
    return {proposal.key: proposal.value for proposal in marks.propose(now) if proposal.sure}


@pytest.mark.parametrize("word", ["occluded", "Hidden", "not_visible", "遮挡", "verdeckt", "OCC", "caché"])
def test_words_for_hidden(word: str) -> None:
    assert is_word_for_hidden(word)


@pytest.mark.parametrize("word", ["left", "visible", "difficult", "nose", ""])
def test_other_words(word: str) -> None:
    assert not is_word_for_hidden(word)


def test_a_flag_of_another_name_is_found() -> None:
    shapes = [box(), dot("nose"), dot("tail", flags={"hidden": True, "blurred": True})]
    assert propose(shapes) == {"convert.occluded_flag": "hidden"}
    assert propose([box(), dot("tail", flags={"occluded": True, "hidden": True})]) == {}
    assert propose([box(), dot("tail", flags={"hidden": False})]) == {}


def test_a_flag_that_may_mean_hidden_is_asked_about() -> None:
    marks = Marks()
    for number in range(10):
        marks.add(LabelmeFile([box(), dot("nose"), dot("tail", flags={"v1": number < 4})]))
    (asked,) = marks.propose(DEFAULTS)
    assert (asked.key, asked.value, asked.sure) == ("convert.occluded_flag", "v1", False)
    assert "ticked on 4 of 20 points" in asked.question
    assert (asked.else_value, asked.else_why[:11]) == ("occluded", "v1, if that")


def test_descriptions_and_suffixes_are_found() -> None:
    assert propose([box(), dot("nose", description="is Hidden here")]) == {"convert.occluded_description": "Hidden"}
    assert propose([box(), dot("nose", description="occluded")]) == {}
    shapes = [box(), dot("nose"), dot("ear"), dot("ear_hidden")]
    assert propose(shapes, shapes) == {"convert.occluded_suffix": "_hidden"}
    assert propose([box(), dot("ear_hidden")]) == {}  # no label without it: a name of its own


def test_outlines_circles_and_points_alone_are_found() -> None:
    assert propose([box("polygon"), dot("nose")]) == {"convert.box_from": "outline"}
    assert propose([box("polygon"), box(), dot("nose")]) == {}
    assert propose([box(), dot("nose", kind="circle")]) == {"convert.keypoint_from": "circle"}
    assert propose([box(), dot("nose"), dot("nose", kind="circle")]) == {}  # drawn around a point
    assert propose([dot("nose"), dot("tail", 80)]) == {"convert.box_from_points": 0.1}
    assert propose([box("polygon"), dot("nose")], now=LabelmeOptions(box_from="outline")) == {}


def test_points_without_any_box_become_objects_in_the_draft() -> None:
    files = [LabelmeFile([dot("nose", 20, 20), dot("tail", 80, 40)]) for _ in range(3)]
    marks = Marks()
    for file in files:
        marks.add(file)
    options = LabelmeOptions(box_from_points=0.1)
    draft = draft_schema((marks.prepare(file, options) for file in files), options)
    assert draft.schema.classes["object"].keypoints == ("nose", "tail")
    assert files[0].shapes[0].name == "nose"  # which stays as it was


def test_suffixes_are_cut_off_for_the_draft() -> None:
    file = LabelmeFile([box(), dot("ear"), dot("nose_hidden", 40)])
    prepared = Marks().prepare(file, LabelmeOptions(occluded_suffix="_hidden"))
    assert [shape.name for shape in prepared.shapes] == ["cow", "ear", "nose"]
    assert msgspec.structs.asdict(Marks().prepare(file, DEFAULTS)) == msgspec.structs.asdict(file)
