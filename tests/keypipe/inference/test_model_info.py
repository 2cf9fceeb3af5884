from __future__ import annotations

import json
from pathlib import Path

import pytest

from keypipe.errors import ModelError
from keypipe.inference.model_info import METADATA_KEY, format_keypipe_metadata, parse_model_info
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.keypoints.skeleton import Schema, Skeleton, parse_schema
from tests.keypipe.inference.test_predictor import COW_AND_HAND
from tests.onnx_files import metadata_of, raw_output, write_constant_model

OTHER_ORDER = Schema({"奶牛": Skeleton(("left_ear", "nose", "right_ear")), "hand": Skeleton(("thumb", "nose"))})
OTHER_CLASSES = Schema({"cat": Skeleton(("nose", "left_ear", "right_ear", "thumb"))})


def test_keypipe_metadata_is_read_back(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    _, info = load_onnx_model(path)
    assert info.schema == COW_AND_HAND
    assert (info.license, info.version, info.imgsz) == ("AGPL-3.0-or-later", "0.1.0", (64, 64))


def test_what_becomes_of_deep_images_stands_in_the_metadata() -> None:
    entry = format_keypipe_metadata(COW_AND_HAND, "", "0.1.0", "scale")
    assert parse_model_info(metadata_of(COW_AND_HAND, **{METADATA_KEY: entry})).depth == "scale"
    assert parse_model_info(metadata_of(COW_AND_HAND)).depth == "cut"
    assert "depth" not in metadata_of(COW_AND_HAND)[METADATA_KEY]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"task": "detect"}, "not a pose model: its task is 'detect'"),
        ({"kpt_shape": "[4, 2]"}, "keypipe needs x, y and confidence"),
        ({"kpt_shape": "[17, 3]"}, r"its schema .*4 keypoints.* and its network .*17 keypoints.* differ"),
        ({"names": "{0: 'cow'}"}, "differ"),
        ({"names": "__import__('os')"}, "metadata names cannot be read"),
        ({METADATA_KEY: "{"}, "is not JSON"),
        ({METADATA_KEY: format_keypipe_metadata(COW_AND_HAND, "", "", "stretch")}, "has depth 'stretch'"),
        ({METADATA_KEY: json.dumps({"schema": {"classes": {}}})}, "no usable schema"),
    ],
)
def test_unusable_metadata(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    output = raw_output(COW_AND_HAND, [])
    path = write_constant_model(tmp_path / "m.onnx", output, metadata_of(COW_AND_HAND) | metadata)
    with pytest.raises(ModelError, match=message):
        load_onnx_model(path)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (OTHER_ORDER, "made for the keypoints nose, left_ear, right_ear of 奶牛"),
        (OTHER_CLASSES, "made for the classes"),
    ],
)
def test_model_for_another_schema(tmp_path: Path, schema: Schema, message: str) -> None:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    with pytest.raises(ModelError, match=message):
        load_onnx_model(path, schema)


def test_keypoints_without_names_are_numbered() -> None:
    schema = parse_schema({"classes": {"ruler": {"keypoints": ["a", "b"]}}})
    metadata = metadata_of(schema, own=False)
    del metadata["kpt_names"]
    assert parse_model_info(metadata).slots == ("0", "1")
