from __future__ import annotations

import json
import re
from typing import Any

import pytest

from keypipe.annotations.draft import Draft, draft_schema
from keypipe.annotations.labelme import parse_labelme
from tests.conftest import point, rectangle

BOX = (10.0, 10.0, 90.0, 90.0)


def draft(*files: list[dict[str, Any]]) -> Draft:
    texts = [json.dumps({"shapes": shapes, "imagePath": f"{number}.jpg"}) for number, shapes in enumerate(files)]
    return draft_schema(parse_labelme(text.encode()) for text in texts)


def cow(*names: str, label: str = "cow", group: Any = None) -> list[dict[str, Any]]:
    return [rectangle(label, BOX, group), *(point(name, 20 + 5 * n, 20, group) for n, name in enumerate(names))]


def test_names_that_differ_in_blanks_case_or_width_are_one_with_aliases() -> None:
    files = (
        [cow("nose", "tail")] * 5 + [cow("nose ", "tail")] * 4 + [cow("Nose", "tail")] * 2 + [cow("ｎｏｓｅ", "tail")]
    )
    drafted = draft(*files)
    assert drafted.schema.classes["cow"].keypoints == ("nose", "tail")
    assert drafted.schema.aliases == {"Nose": "nose"}
    assert drafted.notes == (
        "'nose' is what these labels are taken for: 'nose ' (4 times), 'Nose' (2 times), 'ｎｏｓｅ' (1 time)",
    )


def test_a_blank_behind_every_label_is_cut_off() -> None:
    drafted = draft(*[cow("nose ", "tail", label="cow ")] * 3)
    assert {name: skeleton.keypoints for name, skeleton in drafted.schema.classes.items()} == {"cow": ("nose", "tail")}
    assert drafted.schema.aliases == {}
    assert len(drafted.notes) == 2


def test_two_spellings_in_one_object_stay_two_and_are_told() -> None:
    drafted = draft(cow("a", "b"), cow("a", "A", "b"), cow("B"))
    assert {*drafted.schema.classes["cow"].keypoints} == {"a", "A", "b"}
    assert drafted.schema.aliases == {"B": "b"}
    (first, second) = drafted.notes
    assert "'a' and 'A' stand in one object (1.jpg) and stay two" in first
    assert "'B' (1 time)" in second


def test_a_seldom_name_like_a_frequent_one_is_told_as_misspelt() -> None:
    files = [cow("tail_base", "nose", "p1")] * 20 + [cow("tail_bsae", "nosy", "nose", "p11")]
    told = [note for note in draft(*files).notes if "misspelt" in note]
    assert told == [
        "'tail_bsae' (1 time) looks like 'tail_base' (20) misspelt: correct it, or say so in schema.aliases,"
        " `tail_bsae: tail_base`"
    ]


def test_classes_of_two_spellings_are_one() -> None:
    drafted = draft(cow("nose"), cow("nose"), cow("nose", label="Cow"), [*cow("nose"), rectangle("COW ", BOX)])
    assert drafted.schema.class_names == ("cow",)
    assert drafted.schema.aliases == {"Cow": "cow", "COW": "cow"}


def test_a_point_whose_group_has_no_box_is_not_drafted_for_the_box_of_another_group() -> None:
    drafted = draft([*cow("nose", group=1), point("beak", 50, 50, 2)])
    assert drafted.schema.classes["cow"].keypoints == ("nose",)
    drafted = draft([rectangle("cow", BOX), point("nose", 50, 50, 2)], cow("tail", group="1"), cow("ear", group=1.0))
    assert {*drafted.schema.classes["cow"].keypoints} == {"nose", "tail", "ear"}


def test_a_repeated_name_is_a_fault_only_where_most_objects_repeat_it() -> None:
    once, twice = cow("nose"), cow("nose", "nose")
    for files in ([once] * 11 + [twice], [once] * 6 + [twice] * 6):
        drafted = draft(*files)
        assert drafted.faults == ()
        assert drafted.schema.classes["cow"].keypoints == ("nose",)
    (fault,) = draft(*[once] * 5, *[twice] * 4, *[cow("nose", "nose", label="Cow")] * 3).faults
    assert "all points of a 'cow' are called 'nose'" in fault


def test_points_in_two_boxes_of_a_class_do_not_tell_that_a_name_is_repeated() -> None:
    boxes = [rectangle("cow", (10, 10, 60, 60)), rectangle("cow", (20, 20, 100, 90))]
    assert draft(*[[*boxes, point("nose", 40, 40), point("nose", 50, 50)]] * 12).faults == ()
    inside_one = [*boxes, point("nose", 12, 12), point("nose", 15, 15), point("nose", 50, 50)]
    assert len(draft(*[inside_one] * 12).faults) == 1
    groups = [rectangle("cow", (10, 10, 60, 60), 1), boxes[1], point("nose", 40, 40, 1), point("nose", 50, 50, 1)]
    assert len(draft(*[groups] * 12).faults) == 1


def circle(label: str, x: float, y: float, radius: float = 3) -> dict[str, Any]:
    return {"label": label, "points": [[x, y], [x + radius, y]], "shape_type": "circle"}


def test_circles_in_a_rectangle_are_told() -> None:
    drafted = draft([*cow("nose"), circle("tail", 30, 30), circle("nose", 20, 21), circle("sun", 95, 5)])
    assert drafted.schema.classes["cow"].keypoints == ("nose",)
    assert drafted.notes == (
        "1 circle 'tail' in a rectangle: circles are no keypoints unless convert.keypoint_from: circle in params.yaml"
        " says so; set it first, and use the folder again",
    )


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([rectangle("cow", BOX), circle("nose", 20, 20)], "1 rectangle shape, 1 circle shape; .*keypoint_from: circle"),
        (
            [{"label": "a", "points": [[1, 1], [9, 9]], "shape_type": "line"}] * 2,
            "2 line shapes; a rectangle for every object and a point for every keypoint are needed$",
        ),
        ([point("nose", 5, 5)], "1 point shape; .*set convert.box_from_points"),
        (
            [{"label": "cow", "points": [[1, 1], [9, 9], [1, 9]], "shape_type": "polygon"}],
            "1 polygon shape; .*; convert.box_from: outline",
        ),
        ([rectangle("cow", BOX), point("nose", 95, 95)], "1 point shape; draw the rectangles around their points"),
        ([], "shapes found: none; a rectangle"),
    ],
)
def test_shapes_that_make_no_object_are_counted(shapes: list[dict[str, Any]], expected: str) -> None:
    drafted = draft(shapes)
    assert not drafted.schema.classes
    assert re.search(expected, drafted.shapes)


def test_shares_of_the_image_are_no_pixels() -> None:
    shares = [rectangle("cow", (0.1, 0.1, 0.9, 0.9)), point("nose", 0.2, 0.2)]
    (fault,) = draft(shares, shares, cow("nose")).faults
    assert fault.startswith("2 of 3 files, such as that of 0.jpg, hold shares of the image: labelme's positions are")
    assert draft(shares, cow("nose")).faults == ()


def test_left_and_right_are_paired_in_other_spellings_and_doubts_are_told() -> None:
    drafted = draft(cow("nose", "L_ear", "R_ear", "LH", "RH", "L1", "R1"))
    assert drafted.schema.classes["cow"].pairs == (("L_ear", "R_ear"), ("LH", "RH"))
    (note,) = drafted.notes
    assert note.startswith("'L1' and 'R1' may be left and right of one thing")
    assert "pairs: [[L1, R1]] for 'cow'" in note


def test_shapes_without_a_label_are_counted_and_no_class() -> None:
    drafted = draft(cow("nose"), [rectangle(" ", BOX), point("", 20, 20)])
    assert [*drafted.schema.classes] == ["cow"]
    assert drafted.notes == ("2 shapes without a label: convert passes them over",)


def test_an_image_of_one_pixel_is_not_in_shares() -> None:
    text = json.dumps({"shapes": [rectangle("cow", (0, 0, 1, 1)), point("nose", 1, 1)]})
    for size, is_fault in (({}, True), ({"imageWidth": 1, "imageHeight": 1}, False)):
        file = parse_labelme(json.dumps(json.loads(text) | size).encode())
        assert bool(draft_schema([file]).faults) == is_fault


def test_points_that_no_rectangle_ever_holds_are_told() -> None:
    outside = [*cow("nose"), point("tail", 95, 95)]
    told = "3 points 'tail' in no rectangle, and in none of its group: 'tail' is no keypoint yet"
    assert [note[: len(told)] for note in draft(*[outside] * 3).notes] == [told]
    assert draft(*[outside] * 3, cow("nose", "tail")).notes == ()  # elsewhere it is one; convert tells of these
