from __future__ import annotations

import json
import re
from typing import Any

import pytest

from keypipe.annotations.labelme import ForeignError, parse_labelme
from keypipe.files.foreign import describe_file, describe_json


@pytest.mark.parametrize(
    ("name", "start", "told"),
    [
        ("annotations.xml", b"<?xml version='1.0'?>\n<annotations>\n<version>1.1</version>", "COCO Keypoints 1.0"),
        ("1.xml", b"<annotation>\n<folder>x</folder><object>", "Pascal VOC"),
        ("labels.v001.slp", b"\x89HDF\r\n\x1a\n\0\0", "SLEAP's own file"),
        ("labels.slp", b"", "SLEAP's own file"),
        ("CollectedData_Ann.h5", b"\x89HDF\r\n\x1a\n\0\0", r"give the CollectedData\*.csv beside it"),
        ("videoDLC_resnet50.h5", b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
        ("CollectedData_Ann.csv", b"scorer,Ann,Ann\n", "keypipe import dlc"),
        ("set.zip", b"PK\x03\x04", "unpack it"),
        ("set.tar.gz", b"\x1f\x8b\x08", "unpack it"),
        ("labels.pkl", b"\x80\x04\x95", "could run any code"),
        ("labels.mat", b"MATLAB 5.0", "Matlab"),
    ],
)
def test_files_are_called_what_they_are(name: str, start: bytes, told: str) -> None:
    described = describe_file(name, start)
    assert described is not None
    assert re.search(told, described)


@pytest.mark.parametrize(("name", "start"), [("a.json", b'{"a": 1}'), ("a.txt", b"0 0.5 0.5 0.1 0.1"), ("a", b"")])
def test_what_is_not_known_is_not_named(name: str, start: bytes) -> None:
    assert describe_file(name, start) is None


@pytest.mark.parametrize("document", [None, 1, "x", [], [1], {}, {"a": 1}, [{"a": 1}], {"a": {"regions": []}}])
def test_json_that_is_not_known_is_not_named(document: Any) -> None:
    assert describe_json(document) is None


FOREIGN: list[tuple[Any, str]] = [
    ({"images": [], "annotations": [], "categories": []}, "COCO: `keypipe import coco` reads it"),
    ({"images": [], "annotations": []}, "COCO without categories"),
    ([{"data": {}, "annotations": []}], "Label Studio's own JSON"),
    ([{"annotation_id": 1, "annotator": 1}], "JSON-MIN is no better"),
    ({"_via_img_metadata": {}}, "a project of VGG's Image Annotator"),
    ({"a.jpg1": {"regions": [], "filename": "a.jpg"}}, "a project of VGG's Image Annotator"),
    ({"project": {}, "file": {}, "metadata": {}}, "a project of VGG's Image Annotator"),
    ({"categories": {}, "items": []}, "Datumaro's JSON"),
    ({"objects": [], "size": {}}, "Supervisely's JSON"),
    ({"metadata": {}, "instances": []}, "SuperAnnotate's JSON"),
    ({"version": 1.3, "people": []}, "keypoints that OpenPose found"),
    ([{"image_id": 1, "score": 0.5, "keypoints": []}], "predictions in COCO's form of results"),
    ([{"image": "a.jpg", "annotations": []}], "CreateML's JSON"),
]


@pytest.mark.parametrize(("document", "told"), FOREIGN)
def test_json_of_other_tools_is_called_by_its_tool_by_every_reader(document: Any, told: str) -> None:
    described = describe_json(document)
    assert described is not None
    assert told in described
    with pytest.raises(ForeignError, match="this is " + re.escape(described)) as caught:
        parse_labelme(json.dumps(document).encode())
    assert "take it out of the folder" in caught.value.fix
