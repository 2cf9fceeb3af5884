"""A column of encoded images in, one row for each object out."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from keypipe.errors import AnnotationError
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.tables import OUTPUT_COLUMNS, decode_cell, predict_rows
from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.onnx_files import metadata_of, raw_output, write_constant_model

SCHEMA = Schema({"cow": Skeleton(("nose", "tail"), (("nose", "tail"),))})
COW = ("cow", 0.9, [32.0, 32.0, 20.0, 10.0], {"nose": (25, 30, 0.9), "tail": (40, 33, 0.8)})
CALF = ("cow", 0.5, [10.0, 50.0, 10.0, 8.0], {"nose": (8, 48, 0.7), "tail": (12, 52, 0.6)})


def encode(size_wh: tuple[int, int], kind: str = "JPEG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    Image.new("RGB", size_wh, (90, 120, 60)).save(written, kind, exif=exif)
    return written.getvalue()


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(SCHEMA, [COW, CALF]), metadata_of(SCHEMA))
    return Predictor(*load_onnx_model(path))


def test_rows_are_objects_in_pixels_of_each_image(predictor: Predictor) -> None:
    rows = predict_rows(predictor, [encode((64, 64)), encode((128, 128), "PNG")])
    assert [(row["image"], row["score"]) for row in rows] == [(0, 0.9), (0, 0.5), (1, 0.9), (1, 0.5)]
    assert all(tuple(row) == OUTPUT_COLUMNS for row in rows)
    assert rows[0]["box_xyxy"] == [22.0, 27.0, 42.0, 37.0]
    assert rows[2]["box_xyxy"] == [44.0, 54.0, 84.0, 74.0]
    assert rows[2]["keypoints"][0] == {"name": "nose", "x": 50.0, "y": 60.0, "confidence": 0.9}
    assert predict_rows(predictor, [encode((64, 64))], Thresholds(conf=0.95)) == []
    assert predict_rows(predictor, []) == []


@pytest.mark.parametrize(
    "cell",
    [
        encode((64, 32)),
        bytearray(encode((64, 32))),
        memoryview(encode((64, 32))),
        base64.b64encode(encode((64, 32))).decode(),
        base64.encodebytes(encode((64, 32))).decode(),  # in lines
        f"data:image/jpeg;base64,{base64.b64encode(encode((64, 32))).decode()}",
        encode((32, 64), orientation=6),  # upright it lies
    ],
)
def test_an_image_is_bytes_or_base64_text(cell: Any) -> None:
    assert decode_cell(cell).shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (b"hello", "image 1: not an image"),
        ("hello", "image 1: expected an image file as base64 text, got text that is none"),
        (base64.b64encode(b"hello").decode(), "image 1: not an image"),
        (3, "image 1: expected an image file as bytes or base64 text, got int"),
        (float("nan"), "got float"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image_is_named_by_its_row(predictor: Predictor, cell: Any, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        predict_rows(predictor, [encode((64, 64)), cell])
