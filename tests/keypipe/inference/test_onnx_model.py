from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keypipe.errors import ModelError
from keypipe.inference.onnx_model import load_onnx_model
from tests.keypipe.inference.test_predictor import COW_AND_HAND
from tests.onnx_files import metadata_of, raw_output, write_constant_model


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: no such model file"):
        load_onnx_model(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a model", b"\xff" * 2000])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx: not an ONNX model"):
        load_onnx_model(tmp_path / "m.onnx")


def test_no_metadata_at_all(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), {})
    with pytest.raises(ModelError, match="it does not state its task"):
        load_onnx_model(path)


def test_output_of_another_size(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "m.onnx", np.zeros((9, 5), np.float32), metadata_of(COW_AND_HAND))
    with pytest.raises(ModelError, match="export it without NMS inside"):
        load_onnx_model(path)


@pytest.mark.parametrize("device", ["tpu", "cuda", "cuda:x"])
def test_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    with pytest.raises(ModelError, match=f"device '{device}'"):
        load_onnx_model(path, device=device)
