from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given

from keypipe.dataset.coco import format_coco, to_coco
from keypipe.errors import AnnotationError
from keypipe.exchange.coco import parse_coco_labels
from keypipe.exchange.labels import SCHEMA_KEY, LabelSet
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import schema_to_mapping
from tests.keypipe.dataset.test_coco import SCHEMA, images

EXPECTED = Instance("cow", (10, 20, 40, 60), {"nose": Keypoint(15, 25), "tail": Keypoint(30, 50, Visibility.OCCLUDED)})


def document(**changes: Any) -> dict[str, Any]:
    """Return a flawless file; changes go to its one annotation, or to a category or image under their names."""
    category = {"id": 1, "name": "cow", "keypoints": ["nose", "ear", "tail"], "skeleton": [[1, 3]]}
    image = {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}
    annotation = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "bbox": [10, 20, 30, 40],
        "area": 1200,
        "iscrowd": 0,
        "num_keypoints": 2,
        "keypoints": [15, 25, 2, 0, 0, 0, 30, 50, 1],
    }
    category |= changes.pop("category", {})
    image |= changes.pop("image", {})
    annotation |= changes
    drop = {key for entry in (category, image, annotation) for key, value in entry.items() if value is ...}
    entries = [
        {k: v for k, v in entry.items() if k not in drop or v is not ...} for entry in (category, image, annotation)
    ]
    return {"categories": [entries[0]], "images": [entries[1]], "annotations": [entries[2]]}


def parse(**changes: Any) -> LabelSet:
    return parse_coco_labels(json.dumps(document(**changes)).encode())


def test_a_flawless_file_needs_no_repair() -> None:
    labels = parse()
    assert (labels.images[0].name, labels.images[0].size_wh) == ("a.jpg", (100, 80))
    assert labels.images[0].instances == [EXPECTED]
    assert labels.schema.classes["cow"].edges == (("nose", "tail"),)
    assert not labels.repairs | labels.losses
    assert not labels.faults


REPAIRED: dict[str, tuple[dict[str, Any], str]] = {
    "keypoint of annotations": (
        {"keypoint": [15, 25, 2, 0, 0, 0, 30, 50, 1], "keypoints": ...},
        "`keypoint` of annotations",
    ),
    "keypoint of categories": (
        {"category": {"keypoint": ["nose", "ear", "tail"], "keypoints": ...}},
        "`keypoint` of categories",
    ),
    "area 1.0": ({"area": 1.0}, "`area` absent or 1.0"),
    "no area": ({"area": ...}, "`area` absent or 1.0"),
    "wrong num_keypoints": ({"num_keypoints": 3}, "`num_keypoints`"),
    "nested keypoints": ({"keypoints": [[15, 25, 2], [0, 0, 0], [30, 50, 1]]}, "nested"),
    "ids that are texts": ({"image_id": "a", "image": {"id": "a"}}, ""),
    "edges from 0": ({"category": {"skeleton": [[0, 2]]}}, "edges counted from 0"),
    "edges by name": ({"category": {"skeleton": [["nose", "tail"]]}}, "edges given by name"),
    "visibility from 1": ({"keypoints": [15, 25, 3, 0, 0, 1, 30, 50, 2], "num_keypoints": 3}, "counted from 1"),
}


@pytest.mark.parametrize("case", REPAIRED)
def test_what_scripts_get_wrong_is_mended_and_counted(case: str) -> None:
    changes, repair = REPAIRED[case]
    labels = parse(**changes)
    assert labels.images[0].instances == [EXPECTED]
    assert labels.schema.classes["cow"].edges == (("nose", "tail"),)
    assert any(repair in text for text in labels.repairs) or not repair
    assert not labels.faults


def test_a_script_that_writes_1_for_every_keypoint_means_visible() -> None:
    labels = parse(keypoints=[15, 25, 1, 0, 0, 0, 30, 50, 1])
    assert {point.visibility for point in labels.images[0].instances[0].keypoints.values()} == {Visibility.VISIBLE}
    assert labels.repairs == {"visibility 1 for every labelled keypoint, taken as visible": 1}


@pytest.mark.parametrize("keypoints", [[15, 25, 0, 0, 30, 50], [[15, 25], [0, 0], [30, 50]]])
def test_keypoints_without_visibility_are_visible(keypoints: list[Any]) -> None:
    (instance,) = parse(keypoints=keypoints).images[0].instances
    assert instance.keypoints == {"nose": Keypoint(15, 25), "tail": Keypoint(30, 50)}


def test_keypoints_without_names_are_numbered() -> None:
    labels = parse(category={"keypoints": ..., "skeleton": ...})
    assert labels.schema.slots == ("1", "2", "3")
    assert list(labels.images[0].instances[0].keypoints) == ["1", "3"]


def test_what_keypipe_cannot_hold_is_counted() -> None:
    labels = parse(
        segmentation=[[1, 2, 3]],
        score=0.5,
        image={"license": 3, "coco_url": "x"},
        keypoints=[15, 25, 2, 9, 9, 0, 30, 50, 1],
        category={"skeleton": [[1, 9]]},
    )
    assert labels.losses == {
        "`segmentation` of annotations": 1,
        "`score` of annotations": 1,
        "`license` of images": 1,
        "`coco_url` of images": 1,
        "positions of keypoints that are not labelled (visibility 0)": 1,
        "edges to keypoints that are not there": 1,
    }
    assert parse(iscrowd=1).losses == {"regions of crowds (iscrowd)": 1}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"image_id": 99}, "its image_id names no image of the file"),
        ({"category_id": 99}, "its category_id names no category of the file"),
        ({"bbox": [1, 2]}, "bbox must be left, top, width, height, and is [1, 2]"),
        ({"bbox": [1, 2, math.inf, 4]}, "bbox must be left, top, width, height, and is [1, 2, inf, 4]"),
        ({"bbox": [1, math.nan, 3, 4]}, "bbox must be left, top, width, height, and is [1, nan, 3, 4]"),
        ({"bbox": [10, 20, -3, 4]}, "has the size -3 x 4"),
        ({"bbox": {"x": 1}}, "and is {...}"),
        ({"bbox": None, "keypoints": ...}, "it has neither a box (bbox is None) nor keypoints"),
        ({"keypoints": [15, math.nan, 2, 0, 0, 0, 30, 50, 1]}, "'nose' is at (15, nan) and has the visibility 2"),
        ({"keypoints": [[[15], 25, 2]] * 3}, "not all numbers"),
        ({"keypoints": [1, 2, 2, 3]}, "expected 9 values for its keypoints, got 4"),
        ({"keypoints": ["1", 2, 2] * 3}, "not all numbers"),
        ({"keypoints": [15, 25, 2, 0, 0, 5, 0, 0, 0]}, "'ear' has the visibility 5"),
    ],
)
def test_what_cannot_be_read_is_a_fault(changes: dict[str, Any], found: str) -> None:
    labels = parse(**changes)
    assert len(labels.faults) == 1
    image_id = changes.get("image_id", 7)
    assert str(labels.faults[0]).startswith(f"annotations.json: annotation id 1 of image id {image_id}: ")
    assert found in labels.faults[0].found
    assert labels.images[0].faulty == ("image_id" not in changes)


@pytest.mark.parametrize(
    ("bbox", "told"),
    [
        (..., "boxes derived from the points"),
        (None, "boxes derived from the points"),
        ([], "boxes derived from the points"),
        ([math.nan] * 4, "boxes derived from the points"),
        ([10, 20, 0, 40], "boxes of no area drawn anew"),
    ],
)
def test_a_box_that_is_absent_or_has_no_area_is_drawn_around_the_points(bbox: Any, told: str) -> None:
    labels = parse_coco_labels(json.dumps(document(bbox=bbox)).encode(), box_margin=0.2)
    assert labels.images[0].instances == [Instance("cow", (10, 20, 35, 55), EXPECTED.keypoints)]
    assert any(key.startswith(told) and "a margin of 0.2" in key for key in labels.repairs)
    assert not labels.faults


def test_a_lone_point_without_a_box_is_kept_for_a_person_to_draw_one() -> None:
    labels = parse(bbox=[15, 25, 0, 0], keypoints=[15, 25, 2, 0, 0, 0, 0, 0, 0])
    assert labels.images[0].instances == []
    assert labels.images[0].loose == [{"nose": Keypoint(15, 25)}]


def test_keypoints_that_a_table_left_empty_are_not_labelled() -> None:
    nothing = [None, math.nan, None]
    labels = parse(keypoints=[15, 25, 2, *nothing, 30, 50, 1])
    assert labels.images[0].instances == [EXPECTED]
    assert not labels.faults


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"version": "6", "shapes": [], "imagePath": "1.jpg"}', "`keypipe init FOLDER`"),
        (b'[{"id": 1, "data": {"image": "1.jpg"}, "annotations": []}]', "Label Studio's own JSON"),
        (b'[{"image_id": 1, "category_id": 1, "keypoints": [], "score": 0.9}]', "predictions"),
        (b'{"images": [], "annotations": [{"caption": "a cow"}]}', "captions"),
        (b'{"1.jpg123": {"filename": "1.jpg", "regions": []}}', "VIA"),
        (b"[" * 100_000, "brackets in brackets"),
        (b'{"images": ' + b"9" * 5000 + b"}", "broken JSON"),
    ],
)
def test_a_file_of_another_tool_is_called_what_it_is(content: bytes, told: str) -> None:
    with pytest.raises(AnnotationError, match=told):
        parse_coco_labels(content)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"images": []}', b'{"images": 1, "annotations": [], "categories": []}']
)
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(AnnotationError, match=r"annotations\.json"):
        parse_coco_labels(content)


def test_an_image_listed_twice_is_one() -> None:
    twice = document()
    twice["images"].append(twice["images"][0] | {"id": 8, "file_name": "a.jpg"})
    twice["annotations"].append(twice["annotations"][0] | {"image_id": 8})
    labels = parse_coco_labels(json.dumps(twice).encode())
    assert [len(image.instances) for image in labels.images] == [2]
    assert labels.repairs == {"images listed twice": 1}


def test_images_with_one_id_are_a_fault_that_names_both() -> None:
    joined = document()
    joined["images"] += [joined["images"][0] | {"id": "7", "file_name": "b.jpg"}, {"id": 8, "file_name": "c.jpg"}]
    labels = parse_coco_labels(json.dumps(joined).encode())
    (fault,) = labels.faults
    assert str(fault).startswith("annotations.json: images 'a.jpg' and 'b.jpg' both have the id 7 -> give each an id")
    assert [image.faulty for image in labels.images] == [True, True, False]


def test_categories_with_one_id_are_refused() -> None:
    joined = document()
    joined["categories"] *= 2  # the very same one twice says nothing new
    assert parse_coco_labels(json.dumps(joined).encode()).images[0].instances == [EXPECTED]
    joined["categories"][1] = joined["categories"][0] | {"name": "horse"}
    with pytest.raises(AnnotationError, match=r"annotations\.json: categories 'cow' and 'horse' both have the id 1;"):
        parse_coco_labels(json.dumps(joined).encode())


def test_names_are_read_in_the_normal_form() -> None:
    category = {"name": " ｃｏｗ ", "keypoints": ["nose ", "ear", "tail"], "skeleton": [["nose ", "tail"]]}
    labels = parse(category=category)
    assert labels.images[0].instances == [EXPECTED]
    assert labels.schema.classes["cow"].edges == (("nose", "tail"),)


@pytest.mark.parametrize(
    ("category", "told"),
    [
        ({"name": None}, "the category with the id 1 has no name"),
        ({"keypoints": ["nose", None, "tail"]}, "keypoint 2 of category 'cow' has no name"),
        ({"keypoints": ["nose", "nose ", "tail"]}, "category 'cow' has a keypoint's name twice"),
    ],
)
def test_a_name_that_is_absent_or_repeated_is_refused(category: dict[str, Any], told: str) -> None:
    with pytest.raises(AnnotationError, match=rf"annotations\.json: {told}"):
        parse(category=category)


def test_two_categories_of_one_name_need_the_same_keypoints() -> None:
    twice = document()
    twice["categories"].append({"id": 2, "name": "cow ", "keypoints": ["nose"]})
    with pytest.raises(AnnotationError, match="two categories are called 'cow'"):
        parse_coco_labels(json.dumps(twice).encode())


@given(images)
def test_what_keypipe_exports_comes_back_whole(images: list[AnnotatedImage]) -> None:
    file = to_coco(images, SCHEMA)
    file.info |= {SCHEMA_KEY: schema_to_mapping(SCHEMA)}
    labels = parse_coco_labels(format_coco(file))
    assert labels.schema == SCHEMA
    ordered = sorted(images, key=lambda image: image.path)
    assert [(image.name, image.size_wh) for image in labels.images] == [(i.path, i.size_wh) for i in ordered]
    assert [image.instances for image in labels.images] == [list(image.instances) for image in ordered]
    assert not labels.repairs | labels.losses
    assert not labels.faults
    assert msgspec.json.decode(format_coco(file))["info"]["description"] == "keypipe"


SHARES: list[dict[str, Any]] = [
    {"bbox": [0.1, 0.2, 0.3, 0.4], "keypoints": [0.15, 0.25, 2, 0, 0, 0, 0.3, 0.5, 1]},
    {"keypoints": [0.15, 0.25, 2, 0, 0, 0, 0.3, 0.5, 1]},
    {"bbox": [0, 0, 1, 1]},
    {"bbox": None, "keypoints": [[0.15, 0.25], [0, 0], [0.3, 0.5]]},
    {"bbox": [0.1, 0.2, 0.3, 0.4], "image": {"width": ..., "height": ...}},
]


@pytest.mark.parametrize("changes", SHARES)
def test_shares_of_the_image_are_refused_with_file_and_image(changes: dict[str, Any]) -> None:
    message = (
        r"annotations\.json: 1 of 1 annotations have coordinates between 0 and 1\.5, .* id 1 of the image 'a\.jpg'"
    )
    with pytest.raises(AnnotationError, match=message):
        parse(**changes)


def test_a_few_annotations_in_shares_are_faults() -> None:
    text = document()
    more = [text["annotations"][0] | {"id": number} for number in (2, 3)]
    text["images"].append({"id": 8, "file_name": "b.jpg", "width": 100, "height": 80})
    wrong = text["annotations"][0] | {"id": 4, "image_id": 8, "bbox": [0.1, 0.2, 0.3, 0.4]}
    text["annotations"] += [*more, wrong]
    labels = parse_coco_labels(json.dumps(text).encode())
    (fault,) = labels.faults
    assert "annotation id 4 of image id 8: it has coordinates between 0 and 1.5" in str(fault)
    assert [image.faulty for image in labels.images] == [False, True]


def test_a_tiny_image_may_have_all_of_it_in_its_first_pixels() -> None:
    labels = parse(bbox=[0, 0, 1, 1], keypoints=[1, 1, 2, 0, 0, 0, 0, 1, 2], image={"width": 4, "height": 4})
    assert not labels.faults


def test_boxes_of_two_corners_are_refused() -> None:
    text = document(bbox=[10, 20, 90, 70])
    text["annotations"].append(text["annotations"][0] | {"id": 2, "bbox": [5, 5, 40, 60]})
    with pytest.raises(AnnotationError, match=r"boxes are left, top, right, bottom, .* of annotation id 1 on 'a\.jpg'"):
        parse_coco_labels(json.dumps(text).encode())
    text["annotations"].append(text["annotations"][0] | {"id": 3, "bbox": [50, 50, 20, 20]})  # no corners
    assert len(parse_coco_labels(json.dumps(text).encode()).images[0].instances) == 3


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_an_image_without_a_name_is_a_fault(name: Any) -> None:
    (fault,) = parse(image={"file_name": name}).faults
    assert str(fault).startswith("annotations.json: the image with the id 7 has no file_name")
