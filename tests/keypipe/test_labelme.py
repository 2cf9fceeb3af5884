from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from keypipe.annotation import Keypoint, Visibility
from keypipe.labelme import LabelmeError, LabelmeOptions, ParsedShapes, decode_image_data, parse_labelme, parse_shapes
from keypipe.skeleton import parse_schema
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
    polygon = {"label": "cow", "points": [[1, 1], [2, 2], [3, 1]], "shape_type": "polygon"}
    parsed = parse([rectangle("dog", BOX), polygon, point("ear", 1, 1), rectangle("cow", BOX)])
    assert parsed.ignored == {"rectangle dog": 1, "polygon cow": 1, "point ear": 1}
    assert not parsed.faults


def test_unknown_labels_can_be_refused() -> None:
    parsed = parse([rectangle("cwo", BOX)], LabelmeOptions(unknown_labels="fail"))
    assert "unknown label 'cwo'" in str(parsed.faults[0])


@pytest.mark.parametrize(
    ("content", "message", "shape"),
    [
        (b'{"shapes": [', "broken JSON", None),
        (b"\xff\xfe", "broken JSON", None),
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


def test_x_anylabeling_and_labelme_7_keys_are_passed_over() -> None:
    shape = rectangle(
        "cow", BOX, shape_type="oriented_rectangle", locked=True, score=0.5, kie_linking=[], attributes={}
    )
    del shape["group_id"]
    assert len(parse([shape]).instances) == 1


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_labelme(b'\xef\xbb\xbf{"shapes": []}').shapes == []


def test_image_data_is_decoded_only_on_request() -> None:
    file = parse_labelme(json.dumps({"shapes": [], "imageData": base64.b64encode(b"image").decode()}).encode())
    assert file.has_image_data
    assert decode_image_data(file) == b"image"
    with pytest.raises(LabelmeError, match="base64"):
        decode_image_data(parse_labelme(b'{"shapes": [], "imageData": "%%%"}'))
