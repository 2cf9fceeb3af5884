from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.annotations.labelme import (
    LABELME_VERSION,
    LabelmeError,
    LabelmeOptions,
    LabelmeShape,
    decode_image_data,
    format_labelme,
    parse_labelme,
    to_shapes,
)
from keypipe.annotations.shapes import ParsedShapes, parse_shapes
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import parse_schema
from tests.conftest import point, rectangle

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail", "3"]}}})
BOX = (10.0, 10.0, 60.0, 60.0)


def parse(shapes: list[dict[str, Any]], options: LabelmeOptions | None = None) -> ParsedShapes:
    file = parse_labelme(json.dumps({"shapes": shapes, "imagePath": "a.jpg"}).encode())
    return parse_shapes(file, (100, 80), SCHEMA, options or LabelmeOptions(), "a.json")


def test_keypoints_come_in_schema_order_and_unlabelled_ones_are_absent() -> None:
    parsed = parse([point("3", 20, 20), rectangle("cow", BOX), point("nose", 30, 30)])
    assert list(parsed.instances[0].keypoints.items()) == [("nose", Keypoint(30, 30)), ("3", Keypoint(20, 20))]


@pytest.mark.parametrize(
    "shape",
    [
        point("nose", 20, 20, flags={"occluded": True}),
        point("nose", 20, 20, description="Occluded by the fence"),
        point("nose_occ", 20, 20),
    ],
)
def test_occlusion_is_read_from_flag_description_or_suffix(shape: dict[str, Any]) -> None:
    options = LabelmeOptions(occluded_suffix="_occ")
    (instance,) = parse([rectangle("cow", BOX), shape], options).instances
    assert instance.keypoints["nose"].visibility is Visibility.OCCLUDED


def test_occluded_keypoints_can_be_ignored_and_are_counted() -> None:
    shapes = [rectangle("cow", BOX), point("nose", 20, 20, flags={"occluded": True})]
    parsed = parse(shapes, LabelmeOptions(occluded="ignore"))
    assert parsed.instances[0].keypoints == {}
    assert parsed.occluded_ignored == 1


@pytest.mark.parametrize(
    "points", [[[60, 60], [10, 10]], [[10, 60], [60, 10]], [[10, 10], [60, 10], [60, 60], [10, 60]]]
)
def test_corners_in_any_order_and_number(points: list[list[float]]) -> None:
    (instance,) = parse([rectangle("cow", BOX, points=points)]).instances
    assert instance.box_xyxy == BOX


def test_a_box_is_clipped_to_the_image() -> None:
    parsed = parse([rectangle("cow", (-5, -5, 120, 50))])
    assert parsed.instances[0].box_xyxy == (0, 0, 100, 50)
    assert parsed.clipped == 1


@pytest.mark.parametrize(("x", "clipped_x"), [(-0.9, 0), (100.9, 100)])
def test_a_keypoint_just_outside_the_image_is_clipped(x: float, clipped_x: float) -> None:
    parsed = parse([rectangle("cow", (0, 0, 100, 80)), point("nose", x, 20)])
    assert parsed.instances[0].keypoints["nose"].x == clipped_x


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        ([rectangle("cow", BOX), point("nose", 102, 20)], "keypoint-outside-image"),
        ([rectangle("cow", (200, 10, 300, 20))], "bad-box"),
        ([rectangle("cow", BOX, points=[[1, 1]])], "bad-box"),
        ([rectangle("cow", BOX), point("nose", 20, 20, points=[[1, 1], [2, 2]])], "bad-point"),
    ],
)
def test_faults_of_single_shapes(shapes: list[dict[str, Any]], kind: str) -> None:
    faults = parse(shapes).faults
    assert [fault.kind for fault in faults] == [kind]
    assert faults[0].shape == len(shapes) - 1


def test_other_shapes_are_ignored_and_counted() -> None:
    left, top = BOX[:2]
    corners = [[left, top], [left + 2, top + 2], [left + 2, top]]
    polygon = {"label": "cow", "points": corners, "shape_type": "polygon"}  # a part of the cow
    parsed = parse([rectangle("dog", BOX), polygon, point("ear", 1, 1), rectangle("cow", BOX)])
    assert parsed.ignored == {"rectangle dog": 1, "polygon cow": 1, "point ear": 1}
    assert not parsed.faults


def polygon(label: str, box: tuple[float, float, float, float], **keys: Any) -> dict[str, Any]:
    left, top, right, bottom = box
    points = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {"label": label, "points": points, "shape_type": "polygon", **keys}


@pytest.mark.parametrize("groups", [(None, None), (None, 1), (1, None), (1, 1)])
def test_an_outline_that_a_rectangle_of_its_class_covers_is_the_same_object(groups: tuple[Any, Any]) -> None:
    drawn = [polygon("cow", (12, 10, 60, 58), group_id=groups[0]), rectangle("cow", BOX, group_id=groups[1])]
    for shapes in (drawn, drawn[::-1]):
        parsed = parse([*shapes, point("nose", 20, 20, group_id=groups[1])], LabelmeOptions(box_from="outline"))
        assert [(instance.box_xyxy, list(instance.keypoints)) for instance in parsed.instances] == [(BOX, ["nose"])]
        assert (parsed.faults, parsed.ignored) == ([], {"polygon cow": 1})


def test_outlines_of_other_objects_than_the_rectangle_are_kept() -> None:
    apart = [rectangle("cow", BOX, group_id=1), polygon("cow", (50, 10, 90, 60))]
    grouped = [rectangle("cow", BOX, group_id=1), polygon("cow", (20, 20, 60, 60), group_id=2)]
    for shapes in (apart, grouped):
        assert len(parse(shapes, LabelmeOptions(box_from="outline")).instances) == 2


def circle(label: str, x: float, y: float, radius: float) -> dict[str, Any]:
    return {"label": label, "points": [[x, y], [x + radius, y]], "shape_type": "circle"}


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        (rectangle("tail", (20, 20, 30, 30)), "the rectangle 'tail' has a keypoint's label and holds no point"),
        (polygon("tail", (20, 20, 30, 30)), "the polygon 'tail' has a keypoint's label and holds no point"),
        (point("cow", 80, 40), "the point 'cow' marks an object that has no rectangle"),
        (circle("cow", 80, 40, 15), "the circle 'cow' marks an object that has no rectangle, with 1 keypoint in it"),
    ],
)
@pytest.mark.parametrize("box_from", ["rectangle", "outline"])
def test_what_is_drawn_as_another_shape_is_one_fault_that_names_it(
    shape: dict[str, Any], found: str, box_from: Any
) -> None:
    inside = [point("3", 88, 40)] if shape["shape_type"] == "circle" else []
    parsed = parse([rectangle("cow", BOX), point("nose", 25, 25), shape, *inside], LabelmeOptions(box_from=box_from))
    assert [(fault.kind, fault.shape) for fault in parsed.faults] == [("wrong-shape-type", 2)]
    assert found in str(parsed.faults[0])


@pytest.mark.parametrize(
    "shape", [rectangle("nose", (20, 20, 30, 30)), point("cow", 40, 40), circle("cow", 35, 35, 20)]
)
def test_another_shape_of_what_is_drawn_as_it_should_be_is_passed_over(shape: dict[str, Any]) -> None:
    parsed = parse([rectangle("cow", BOX), point("nose", 25, 25), shape])
    assert (parsed.faults, parsed.ignored) == ([], {f"{shape['shape_type']} {shape['label']}": 1})


def test_points_of_an_outline_outside_the_schema_are_its_own_where_outlines_are_taken() -> None:
    dog = [polygon("dog", (20, 20, 50, 50), group_id=2), point("nose", 25, 25, group_id=2)]
    (cow,) = parse([rectangle("cow", BOX), *dog], LabelmeOptions(box_from="outline")).instances
    assert not cow.keypoints


def test_unknown_labels_can_be_refused() -> None:
    parsed = parse([rectangle("cwo", BOX)], LabelmeOptions(unknown_labels="fail"))
    assert "unknown label 'cwo'" in str(parsed.faults[0])


@pytest.mark.parametrize(
    ("content", "message", "shape"),
    [
        (b'{"shapes": [', "broken JSON", None),
        (b"\xff\xfe", "broken JSON", None),
        (b'{"shapes": [{"label": "NaN", "points": [[1, 2]]}, {"label": "a", "points": [[NaN, 2]]}]}', "NaN where", 1),
        (b'{"imageHeight": -Infinity, "shapes": []}', "-Infinity where a number belongs", None),
        (b"[]", "not as labelme writes it", None),
        (b'{"imagePath": "a.jpg"}', "missing required field `shapes`", None),
        (b'{"shapes": [{"label": "a", "points": [["1.5", "2"]]}]}', "Expected `float`, got `str`", 0),
        (b'{"shapes": [{"label": "a", "points": [[1, 2]]}, {"points": []}]}', "missing required field `label`", 1),
    ],
)
def test_a_file_that_labelme_did_not_write_is_refused(content: bytes, message: str, shape: int | None) -> None:
    with pytest.raises(LabelmeError) as caught:
        parse_labelme(content)
    assert message in str(caught.value)
    assert caught.value.shape == shape
    fixes = {"broken JSON": "restore it", "where": "write a number", "Expected `float`": "correct the value"}
    assert next((fix for part, fix in fixes.items() if part in str(caught.value)), "") in caught.value.fix


TURNED = [[35, 10], [60, 35], [35, 60], [10, 35]]

DIALECTS: dict[str, dict[str, Any]] = {
    "labelme 3, before groups and flags": {
        "version": "3.16.7",
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "shapes": [
            {
                "label": "cow",
                "line_color": None,
                "fill_color": None,
                "points": [[10, 10], [60, 60]],
                "shape_type": "rectangle",
            },
            {"label": "nose", "line_color": None, "fill_color": None, "points": [[20, 20]], "shape_type": "point"},
        ],
    },
    "labelme 4": {"version": "4.5.6", "flags": {}, "shapes": [rectangle("cow", BOX), point("nose", 20, 20)]},
    "labelme 5.2 and later": {
        "version": "5.4.1",
        "flags": {"blurred": False},
        "shapes": [
            rectangle("cow", BOX, description="", mask=None),
            point("nose", 20, 20, description="", mask=None),
        ],
    },
    "labelme 7": {
        "version": "7.0.0",
        "flags": {},
        "shapes": [
            rectangle("cow", BOX, shape_type="oriented_rectangle", points=TURNED, locked=True, mask=None),
            point("nose", 20, 20, locked=False),
        ],
    },
    "X-AnyLabeling": {
        "version": "2.4.0",
        "flags": {},
        "shapes": [
            rectangle(
                "cow",
                BOX,
                points=[[10, 10], [60, 10], [60, 60], [10, 60]],
                description=None,
                score=0.97,
                difficult=False,
                attributes={},
                kie_linking=[],
            ),
            point("nose", 20, 20, description=None, score=0.9, difficult=False, attributes={}, kie_linking=[]),
        ],
        "text": "",
    },
    "X-AnyLabeling, turned": {
        "version": "2.5.0",
        "shapes": [
            rectangle("cow", BOX, shape_type="rotation", points=TURNED, direction=0.785),
            point("nose", 20, 20, flags=None),
        ],
    },
    "groups that are words": {
        "shapes": [rectangle("cow", BOX, group_id="a"), point("nose", 20, 20, group_id="a")],
    },
    "labels that are numbers": {
        "shapes": [rectangle("cow", BOX), point("nose", 20, 20) | {"label": "nose "}, point("x", 5, 5) | {"label": 4}],
    },
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_is_read(dialect: str) -> None:
    document = {"imagePath": "a.jpg", "imageData": None, "imageHeight": 80, "imageWidth": 100} | DIALECTS[dialect]
    file = parse_labelme(json.dumps(document).encode())
    parsed = parse_shapes(file, (100, 80), SCHEMA, LabelmeOptions(), "a.json")
    assert parsed.instances == [Instance("cow", BOX, {"nose": Keypoint(20, 20)})]
    assert not parsed.faults


@pytest.mark.parametrize("flags", [{}, None, {"occluded": False}, {"difficult": True}, {"occluded": "yes"}])
def test_other_flags_do_not_occlude(flags: dict[str, Any] | None) -> None:
    (instance,) = parse([rectangle("cow", BOX), point("nose", 20, 20, flags=flags)]).instances
    assert instance.keypoints["nose"].visibility is Visibility.VISIBLE


def test_flag_and_word_can_be_others_or_none() -> None:
    shapes = [
        rectangle("cow", BOX),
        point("nose", 20, 20, flags={"hidden": True}),
        point("tail", 20, 20, description="occluded"),
    ]
    (instance,) = parse(shapes, LabelmeOptions(occluded_flag="hidden", occluded_description="")).instances
    assert instance.keypoints["nose"].visibility is Visibility.OCCLUDED
    assert instance.keypoints["tail"].visibility is Visibility.VISIBLE


ALIASED = parse_schema(
    {"classes": {"cow": {"keypoints": ["nose", "tail"]}}, "aliases": {"heifer": "cow", "snout": "nose", "7": "tail"}}
)


def parse_aliased(shapes: list[dict[str, Any]], **options: Any) -> ParsedShapes:
    file = parse_labelme(json.dumps({"shapes": shapes}).encode())
    return parse_shapes(file, (100, 80), ALIASED, LabelmeOptions(**options), "a.json")


def test_aliases_are_read_as_what_they_stand_for_and_counted() -> None:
    shapes = [rectangle("heifer", BOX), point("snout_occ", 20, 20), point("7", 30, 30)]
    parsed = parse_aliased(shapes, occluded_suffix="_occ", unknown_labels="fail")
    expected = {"nose": Keypoint(20, 20, Visibility.OCCLUDED), "tail": Keypoint(30, 30)}
    assert parsed.instances == [Instance("cow", BOX, expected)]
    assert parsed.aliased == {"heifer -> cow": 1, "snout -> nose": 1, "7 -> tail": 1}
    assert not parsed.faults


def test_a_name_and_its_alias_on_one_object_are_a_repeated_keypoint() -> None:
    parsed = parse_aliased([rectangle("cow", BOX), point("nose", 20, 20), point("snout", 21, 20)])
    assert [(fault.shape, fault.kind) for fault in parsed.faults] == [(2, "repeated-keypoint")]


def test_a_keypoint_that_did_not_exist_when_people_annotated_is_not_labelled() -> None:
    newer = parse_schema({"classes": {"cow": {"keypoints": ["nose", "horn", "tail"]}}})
    file = parse_labelme(json.dumps({"shapes": [rectangle("cow", BOX), point("tail", 20, 20)]}).encode())
    parsed = parse_shapes(file, (100, 80), newer, LabelmeOptions(), "a.json")
    assert parsed.instances == [Instance("cow", BOX, {"tail": Keypoint(20, 20)})]
    assert not parsed.faults


@pytest.mark.parametrize("group", [None, 4])
def test_points_without_a_rectangle_are_a_fault_or_get_a_box_that_is_listed(group: int | None) -> None:
    shapes = [point("nose", 20, 20, group), point("tail", 40, 30, group)]
    refused = parse(shapes)
    assert [fault.kind for fault in refused.faults] == ["keypoint-without-object"] * 2
    derived = parse(shapes, LabelmeOptions(box_from_points=0.1))
    assert derived.instances == [
        Instance("cow", (18.0, 18.0, 42.0, 32.0), {"nose": Keypoint(20, 20), "tail": Keypoint(40, 30)})
    ]
    assert derived.derived_boxes == [0]
    assert not derived.faults


def test_a_derived_box_ends_at_the_image() -> None:
    (instance,) = parse([point("nose", 1, 1), point("tail", 99, 79)], LabelmeOptions(box_from_points=0.5)).instances
    assert instance.box_xyxy == (0, 0, 100, 80)


def test_an_object_that_gets_no_box_is_one_fault() -> None:
    parsed = parse([point("nose", 20, 20, 1)], LabelmeOptions(box_from_points=0.1))
    assert [(fault.shape, fault.kind) for fault in parsed.faults] == [(0, "no-extent")]


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_labelme(b'\xef\xbb\xbf{"shapes": []}').shapes == []


def test_image_data_is_decoded_only_on_request() -> None:
    file = parse_labelme(json.dumps({"shapes": [], "imageData": base64.b64encode(b"image").decode()}).encode())
    assert file.has_image_data
    assert decode_image_data(file) == b"image"
    with pytest.raises(LabelmeError, match="base64"):
        decode_image_data(parse_labelme(b'{"shapes": [], "imageData": "%%%"}'))


numbers = st.floats(-1e4, 1e4, allow_nan=False)
shapes_as_labelme_has_them = st.lists(
    st.builds(
        LabelmeShape,
        st.text(max_size=5),
        st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4),
        st.sampled_from(["point", "rectangle", "polygon", "oriented_rectangle"]),
        st.none() | st.integers(0, 99),
        st.dictionaries(st.text(max_size=3), st.booleans(), max_size=2),
        st.text(max_size=3),
    ),
    max_size=4,
)


@given(shapes_as_labelme_has_them)
def test_what_is_written_is_read_back(shapes: list[LabelmeShape]) -> None:
    file = parse_labelme(format_labelme(shapes, "牛.jpg", (64, 48)).encode())
    assert file.shapes == shapes
    assert (file.image_path, file.image_width, file.image_height, file.has_image_data) == ("牛.jpg", 64, 48, False)


inside = st.floats(0, 80, allow_nan=False)
keypoints = st.dictionaries(
    st.sampled_from(["nose", "tail", "3"]),
    st.builds(Keypoint, inside, inside, st.sampled_from([Visibility.OCCLUDED, Visibility.VISIBLE])),
)
boxes = st.tuples(st.floats(0, 39), st.floats(0, 39), st.floats(40, 100), st.floats(40, 80))


@given(st.lists(st.builds(Instance, st.just("cow"), boxes, keypoints), max_size=4))
def test_instances_come_back_from_labelme_whatever_overlaps(instances: list[Instance]) -> None:
    file = parse_labelme(format_labelme(to_shapes(instances, "hidden"), "a.jpg", (100, 80)).encode())
    parsed = parse_shapes(file, (100, 80), SCHEMA, LabelmeOptions(occluded_flag="hidden"), "a.json")
    assert parsed.instances == instances
    assert not parsed.faults


def test_the_file_is_what_labelme_itself_writes(tmp_path: Any, labelme_files: Any) -> None:
    shapes = to_shapes([Instance("奶牛", (1.5, 2, 30, 40), {"nose": Keypoint(3, 4, Visibility.OCCLUDED)})])
    text = format_labelme(shapes, "a.jpg", (64, 48))
    from PIL import Image

    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    loaded = labelme_files.load(tmp_path / "a.json")
    again = labelme_files.save(loaded, loaded.shapes, tmp_path / "b.json").read_text(encoding="utf-8")
    assert again.replace(labelme_files.VERSION, LABELME_VERSION, 1) == text


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"images": [], "annotations": [], "categories": []}'])
def test_json_without_shapes_is_to_be_taken_out_and_not_saved_again(content: bytes) -> None:
    with pytest.raises(LabelmeError) as caught:
        parse_labelme(content)
    assert caught.value.fix == "it is no annotation of labelme's: take it out of the folder"


def test_json_that_is_broken_behind_its_first_object_is_called_broken() -> None:
    with pytest.raises(LabelmeError, match="broken JSON"):
        parse_labelme(b'{"version": "5.1"}, {"label": "nose"}]}')
