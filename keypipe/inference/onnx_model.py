"""ONNX models, run by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypipe.errors import ModelError
from keypipe.inference.model_info import ModelInfo, check_schema, parse_model_info
from keypipe.keypoints.skeleton import Schema


class OnnxModel:
    """A ``RawModel`` run by onnxruntime."""

    def __init__(self, path: Path, threads: int | None = None, device: str | None = None) -> None:
        """Open an ONNX file.

        Args:
            path: the file.
            threads: threads to compute with; None: as many as the machine has cores.
            device: ``cpu``, ``cuda`` or ``cuda:1``; None: a GPU where this onnxruntime serves one.

        Raises:
            ModelError: no such file, not ONNX, no such device, or onnxruntime is not installed.
        """
        self._session = _open_session(path, threads, device)
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            shapes = [tuple(item.shape) for item in inputs]
            raise ModelError(f"{path}: not a pose model: expected one image input (batch, 3, h, w), got {shapes}")
        self._input = inputs[0].name
        self._dtype = np.float16 if inputs[0].type == "tensor(float16)" else np.float32
        self.input_shape: list[Any] = inputs[0].shape
        sides = inputs[0].shape[2:]
        self.input_hw: tuple[int, int] | None = tuple(sides) if all(isinstance(side, int) for side in sides) else None
        self.output_shape: list[Any] = self._session.get_outputs()[0].shape
        self.on_cpu: bool = self._session.get_providers()[0] == "CPUExecutionProvider"
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, images: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Run the model; see ``RawModel``."""
        output = self._session.run(None, {self._input: images.astype(self._dtype, copy=False)})[0]
        return np.asarray(output, dtype=np.float32)


def load_onnx_model(
    path: Path, schema: Schema | None = None, threads: int | None = None, device: str | None = None
) -> tuple[OnnxModel, ModelInfo]:
    """Open an ONNX pose model and read what it says of itself.

    Args:
        path: the file, exported by keypipe or by Ultralytics.
        schema: the schema that the model must have been made for; None: whatever it states.
        threads: threads to compute with; None: as many as the machine has cores.
        device: ``cpu``, ``cuda`` or ``cuda:1``; None: a GPU where this onnxruntime serves one.

    Returns:
        The model and its description.

    Raises:
        ModelError: no such file, not ONNX, not a pose model, or made for another schema.
    """
    model = OnnxModel(path, threads, device)
    try:
        info = parse_model_info(model.metadata, model.input_hw)
        _check_output_shape(model.output_shape, info)
        if schema is not None:
            check_schema(info.schema, schema)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    return model, info


def _open_session(path: Path, threads: int | None, device: str | None) -> Any:
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; `keypipe run` trains and exports one")
    # From 1.29 on it reports its use, from its import on, and keeps an identifier of the machine, unless told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModelError("onnxruntime is not installed: pip install 'keypipe[predict]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads or 0
    providers = _choose_providers(onnxruntime.get_available_providers(), device)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        # onnxruntime's errors share no base class below Exception.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not an ONNX model that onnxruntime can run ({reason})") from error


def _choose_providers(available: Iterable[str], device: str | None) -> list[Any]:
    cpu = "CPUExecutionProvider"
    cuda = "CUDAExecutionProvider"
    if device == "cpu" or (device is None and cuda not in available):
        return [cpu]
    if device is None:
        return [cuda, cpu]
    kind, _, index = device.partition(":")
    if kind.isdigit():
        kind, index = "cuda", kind
    if kind != "cuda" or not (index or "0").isdigit():
        raise ModelError(f"device {device!r}: an ONNX model runs on cpu, cuda or cuda:N")
    if cuda not in available:
        raise ModelError(f"device {device!r}: this onnxruntime has no CUDA; install onnxruntime-gpu or use cpu")
    return [(cuda, {"device_id": int(index or 0)}), cpu]


def _check_output_shape(shape: Sequence[Any], info: ModelInfo) -> None:
    n_slots, n_classes = len(info.slots), len(info.class_names)
    n_values = 3 * n_slots + (6 if info.end2end else 4 + n_classes)
    got = shape[2 if info.end2end else 1] if len(shape) == 3 else None
    if len(shape) != 3 or (isinstance(got, int) and got != n_values):
        raise ModelError(
            f"its output has the shape {tuple(shape)}, but {n_classes} classes and {n_slots} keypoints make"
            f" {n_values} values for each object; export it without NMS inside"
        )
