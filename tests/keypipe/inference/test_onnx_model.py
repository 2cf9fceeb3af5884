from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from keypipe.errors import ModelError
from keypipe.inference.onnx_model import load_onnx_model
from tests.imports import ROOT
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


@pytest.mark.parametrize("reports", ["0", None])
def test_onnxruntime_reports_nothing_unless_asked_to(tmp_path: Path, reports: str | None) -> None:
    """It leaves an identifier of the machine in the user's home where it does."""
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    if reports is not None:
        environment["ORT_DISABLE_TELEMETRY"] = reports
    load = "from keypipe.inference.onnx_model import load_onnx_model; load_onnx_model(Path(sys.argv[1]))"
    program = f"import sys; from pathlib import Path; {load}"
    subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, env=environment, check=True)
    assert bool(list(tmp_path.rglob("deviceid"))) == (reports is not None)


@pytest.mark.parametrize("device", ["tpu", "cuda", "cuda:x"])
def test_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    with pytest.raises(ModelError, match=f"device '{device}'"):
        load_onnx_model(path, device=device)


# ------------------------------------------------------------------------------------ files from others


def keep_outside(path: Path, location: str) -> None:
    """Let a constant of a model be read from another file, by the path that the model gives."""
    model = onnx.load(path)
    (constant,) = (tensor for tensor in model.graph.initializer if tensor.name == "constant")
    size = len(constant.raw_data)
    constant.ClearField("raw_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        entry = constant.external_data.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    (path.parents[1] / "private.bin").write_bytes(b"\x01" * size)


@pytest.mark.parametrize("location", ["../private.bin", "{folder}/private.bin", "link.bin", "/dev/zero", "gone.bin"])
def test_a_model_reads_no_file_outside_its_folder(tmp_path: Path, location: str) -> None:
    path = write_constant_model(tmp_path / "in/m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    load_onnx_model(path)
    (tmp_path / "in/link.bin").symlink_to("../private.bin")
    keep_outside(path, location.format(folder=tmp_path))
    with pytest.raises(ModelError, match="not an ONNX model that onnxruntime can run"):
        load_onnx_model(path)


def test_operators_that_onnxruntime_does_not_have_are_refused(tmp_path: Path) -> None:
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata_of(COW_AND_HAND))
    model = onnx.load(path)
    model.graph.node[1].domain, model.graph.node[1].op_type = "others.ops", "Run"
    model.opset_import.append(onnx.helper.make_opsetid("others.ops", 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"others\.ops:Run.* is not a registered function"):
        load_onnx_model(path)


@pytest.mark.parametrize("fixed", [True, False])
def test_an_input_that_memory_would_not_hold_is_refused(tmp_path: Path, fixed: bool) -> None:
    side_px = 90_000 if fixed else 64
    metadata = metadata_of(COW_AND_HAND, 90_000)
    path = write_constant_model(tmp_path / "m.onnx", raw_output(COW_AND_HAND, []), metadata, side_px)
    if not fixed:
        model = onnx.load(path)
        for axis in (2, 3):
            model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
        path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="its input of 90000x90000 px is larger than"):
        load_onnx_model(path)
