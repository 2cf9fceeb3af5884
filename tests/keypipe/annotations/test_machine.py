from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions, parse_labelme
from keypipe.annotations.machine import find_untouched, to_machine_document
from keypipe.keypoints.instances import Visibility
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import Schema, Skeleton

SCHEMA = Schema({"cow": Skeleton(("nose", "tail", "hoof"))})
COW = Prediction(
    "cow",
    0.91,
    (10.25, 5.5, 60.0, 40.75),
    [
        PredictedKeypoint("nose", 12.34, 8.0, 0.97),
        PredictedKeypoint("tail", 55.0, 20.0, 0.3),
        PredictedKeypoint("hoof", 50.0, 39.0, 0.1),
    ],
)
Edit = Callable[[dict[str, Any]], object]


DEFAULTS = LabelmeOptions()


def document(options: LabelmeOptions = DEFAULTS) -> dict[str, Any]:
    return to_machine_document([COW, COW], "a.jpg", (100, 50), options, 0.5, "1a2b")


def untouched(edited: dict[str, Any]) -> list[int]:
    return find_untouched(parse_labelme(json.dumps(edited).encode()))


def shape(at: int) -> Callable[[Callable[[dict[str, Any]], object]], Edit]:
    return lambda change: lambda doc: change(doc["shapes"][at])


EDITS: dict[str, tuple[Edit, list[int]]] = {
    "nothing": (lambda doc: None, [0, 1, 2, 3, 4, 5]),
    "a point moved": (shape(1)(lambda s: s.update(points=[[12.5, 8.0]])), [0, 2, 3, 4, 5]),
    "a box pulled": (shape(0)(lambda s: s["points"][1].__setitem__(0, 61.0)), [1, 2, 3, 4, 5]),
    "renamed": (shape(1)(lambda s: s.update(label="hoof")), [0, 2, 3, 4, 5]),
    "another group": (shape(1)(lambda s: s.update(group_id=2)), [0, 2, 3, 4, 5]),
    "occluded": (shape(1)(lambda s: s["flags"].update(occluded=True)), [0, 2, 3, 4, 5]),
    "no longer occluded": (shape(2)(lambda s: s["flags"].update(occluded=False)), [0, 1, 3, 4, 5]),
    "described": (shape(1)(lambda s: s.update(description="look")), [0, 2, 3, 4, 5]),
    "difficult": (shape(1)(lambda s: s.update(difficult=True)), [0, 2, 3, 4, 5]),
    "flag taken away": (shape(1)(lambda s: s["flags"].update(machine=False)), [0, 2, 3, 4, 5]),
    "image confirmed": (lambda doc: doc["flags"].update(confirmed=True), []),
    "image checked in X-AnyLabeling": (lambda doc: doc.update(checked=True), []),
    "an object deleted": (lambda doc: doc["shapes"].__delitem__(slice(0, 3)), [0, 1, 2]),
    "record lost": (shape(1)(lambda s: s.pop("machine")), [0, 1, 2, 3, 4, 5]),
    "record spoilt": (shape(1)(lambda s: s["machine"].update(points=7)), [0, 2, 3, 4, 5]),
    "record beyond all numbers": (shape(1)(lambda s: s["machine"].update(points=[[10**400, 1]])), [0, 2, 3, 4, 5]),
    "flags that are none": (lambda doc: doc.update(flags=[1]), [0, 1, 2, 3, 4, 5]),
    "the editor's rounding": (shape(1)(lambda s: s.update(points=[[12.344, 8.0]])), [0, 1, 2, 3, 4, 5]),
    "flags of --label-flags": (shape(1)(lambda s: s["flags"].update(blurred=False)), [0, 1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_a_person_touched_is_no_longer_the_machines(name: str) -> None:
    edit, left = EDITS[name]
    edited = document()
    edit(edited)
    assert untouched(edited) == left


def test_every_shape_says_whose_it_is_and_how_sure_it_was() -> None:
    shapes = document()["shapes"]
    assert [found["label"] for found in shapes] == ["cow", "nose", "tail"] * 2  # the hoof is probably not labelled
    assert [found["group_id"] for found in shapes] == [1, 1, 1, 2, 2, 2]
    assert [found["score"] for found in shapes[:3]] == [0.91, 0.97, 0.3]
    assert shapes[0]["flags"] == {"machine": True}
    assert [found["flags"] for found in shapes[1:3]] == [
        {"occluded": False, "machine": True},
        {"occluded": True, "machine": True},
    ]
    assert all(found["machine"]["model"] == "1a2b" for found in shapes)


def test_occlusion_is_marked_as_the_workspace_does() -> None:
    by_suffix = document(LabelmeOptions(occluded_flag="", occluded_suffix="_occ"))["shapes"][2]
    assert (by_suffix["label"], by_suffix["flags"]) == ("tail_occ", {"machine": True})
    by_word = document(LabelmeOptions(occluded_flag="", occluded_description="hidden"))["shapes"][2]
    assert (by_word["label"], by_word["description"]) == ("tail", "hidden")
    assert untouched(document(LabelmeOptions(occluded_flag="", occluded_suffix="_occ"))) == [0, 1, 2, 3, 4, 5]


def through_x_anylabeling(edited: dict[str, Any]) -> dict[str, Any]:
    """Save as X-AnyLabeling 2.4 to 4 do: rectangles with four corners, keys of its own, those it does not know kept."""
    saved = copy.deepcopy(edited) | {"version": "2.4.0", "text": ""}
    for found in saved["shapes"]:
        if found["shape_type"] == "rectangle":
            (left, top), (right, bottom) = found["points"]
            found["points"] = [[left, top], [right, top], [right, bottom], [left, bottom]]
        found |= {"difficult": False, "attributes": {}, "kie_linking": []}
    return saved


def test_x_anylabeling_changes_nothing_by_saving() -> None:
    assert untouched(through_x_anylabeling(document())) == [0, 1, 2, 3, 4, 5]


def test_labelme_changes_nothing_by_saving(tmp_path: Path, labelme_files: Any) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(json.dumps(document()))
    loaded = labelme_files.load(tmp_path / "a.json")
    saved = json.loads(labelme_files.save(loaded, loaded.shapes, tmp_path / "b.json").read_text())
    assert untouched(saved) == [0, 1, 2, 3, 4, 5]
    assert [found["machine"] for found in saved["shapes"]] == [found["machine"] for found in document()["shapes"]]
    assert saved["flags"] == {"confirmed": False}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        path = tmp_path / "raw" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (100, 50)).save(path)
        path.with_suffix(".json").write_text(json.dumps(document() | {"imagePath": path.name}))
    confirmed = document() | {"imagePath": "b.jpg", "flags": {"confirmed": True}}
    (tmp_path / "raw/b.json").write_text(json.dumps(confirmed))
    return tmp_path / "raw"


def test_images_that_nobody_confirmed_are_left_out_and_counted(raw: Path) -> None:
    folder = read_folder(raw, SCHEMA, LabelmeOptions(), "negative")
    assert [(file.source, file.machine, bool(file.image)) for file in folder.files] == [
        ("a.json", 6, False),
        ("b.json", 0, True),
    ]
    assert not folder.faults
    assert not folder.unlabelled  # nor is it one without objects


def test_they_are_faults_if_wanted(raw: Path) -> None:
    (fault,) = read_folder(raw, SCHEMA, LabelmeOptions(machine="refuse")).faults
    assert (fault.file, fault.kind, fault.shape) == ("a.json", "unconfirmed", 0)
    assert "6 shapes that a model drew and nobody has confirmed" in fault.found


def test_they_are_taken_if_wanted(raw: Path) -> None:
    files = read_folder(raw, SCHEMA, LabelmeOptions(machine="take")).files
    for file in files:
        assert file.image is not None
        first = file.image.instances[0]
        assert first.box_xyxy == COW.box_xyxy
        assert {name: point.visibility for name, point in first.keypoints.items()} == {
            "nose": Visibility.VISIBLE,
            "tail": Visibility.OCCLUDED,
        }


def test_a_corrected_image_is_taken_only_when_all_of_it_was_looked_at(raw: Path) -> None:
    edited = json.loads((raw / "a.json").read_text())
    edited["shapes"][1]["points"] = [[20, 20]]
    (raw / "a.json").write_text(json.dumps(edited))
    assert [file.machine for file in read_folder(raw, SCHEMA, LabelmeOptions()).files] == [5, 0]
    for found in edited["shapes"]:
        found["flags"]["machine"] = False
    (raw / "a.json").write_text(json.dumps(edited))
    file = read_folder(raw, SCHEMA, LabelmeOptions()).files[0]
    assert file.image is not None
    assert file.image.instances[0].keypoints["nose"].x == 20
