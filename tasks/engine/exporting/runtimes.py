"""What runs exported models: one small class for each engine, all alike from outside."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keypipe.errors import ModelError
from keypipe.inference.onnx_model import OnnxModel
from keypipe.inference.predictor import RawModel
from tasks.engine.inference import TorchForward
from tasks.engine.settings import first_line

F32 = NDArray[np.float32]


class Runtime(Protocol):
    """Opens models of a format.

    Attributes:
        timed: whether the number of threads can be chosen, so that times can be compared.
    """

    timed: bool

    @property
    def name(self) -> str:
        """Name and version, for the report."""
        ...

    def load(self, path: Path, threads: int, batch: int = 1) -> RawModel:
        """Open a model on the CPU.

        Args:
            path: the file or folder that was exported.
            threads: threads to compute with.
            batch: images at once; where the file takes one at a time, a twin of it is made in memory or beside it.

        Raises:
            ModelError: this engine cannot run the file.
        """
        ...


class PyTorch:
    """The checkpoint itself, which all others are compared with."""

    timed = True

    @property
    def name(self) -> str:
        """Name and version."""
        return f"torch {version('torch')}"

    def load(self, path: Path, threads: int, batch: int = 1) -> RawModel:  # noqa: ARG002 - takes any batch
        """Open a checkpoint; see ``Runtime``."""
        return TorchForward(path, "cpu", threads)


class OnnxRuntime:
    """ONNX files, by the same class that predicts without torch."""

    timed = True

    @property
    def name(self) -> str:
        """Name and version."""
        return f"onnxruntime {version('onnxruntime')}"

    def load(self, path: Path, threads: int, batch: int = 1) -> RawModel:
        """Open an ONNX file; see ``Runtime``."""
        model = OnnxModel(path, threads, "cpu")
        if batch == 1 or not isinstance(model.input_shape[0], int):
            return model
        twin = path.with_name(f".batch-{path.name}")
        try:
            open_batch_axis(path, twin)
            return OnnxModel(twin, threads, "cpu")
        finally:
            twin.unlink(missing_ok=True)


def open_batch_axis(source: Path, target: Path) -> None:
    """Write a twin of an ONNX file that takes any number of images.

    Ultralytics' exporter writes a batch of one into the shape of every ``Reshape``. A 0 there means: as it comes in
    (https://onnx.ai/onnx/operators/onnx__Reshape.html). The file that is kept stays as it is: from a batch axis that
    is open Ultralytics concludes that height and width are open as well.

    Args:
        source: an ONNX file with a batch of one.
        target: the file to write.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        shape = tensors.get(node.input[1]) if node.op_type == "Reshape" else None
        values = None if shape is None else numpy_helper.to_array(shape).copy()
        if shape is not None and values is not None and len(values) > 1 and values[0] == 1:
            values[0] = 0
            shape.CopyFrom(numpy_helper.from_array(values, shape.name))
    del model.graph.value_info[:]  # shapes of inner tensors, which hold for a batch of one
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, str(target))


class TorchScript:
    """TorchScript files, by torch."""

    timed = True

    @property
    def name(self) -> str:
        """Name and version."""
        return f"torch {version('torch')}"

    def load(self, path: Path, threads: int, batch: int = 1) -> RawModel:  # noqa: ARG002 - takes any batch
        """Open a TorchScript file; see ``Runtime``."""
        import torch
        import torchvision  # noqa: F401 - registers operators that a file may use

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would rather have torch.export, Ultralytics not yet
            module: Any = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]

        def run(images: F32, /) -> F32:
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            with torch.inference_mode():
                return np.ascontiguousarray(module(torch.from_numpy(images)).numpy(), dtype=np.float32)

        return run


class OpenVino:
    """OpenVINO folders, computed in the precision that the file has.

    Left alone OpenVINO rounds to bfloat16 on every processor that is fast at it, which moved keypoints of an input
    of 160 px by up to 10 px.
    """

    timed = True

    @property
    def name(self) -> str:
        """Name and version."""
        return f"openvino {version('openvino')}"

    def load(self, path: Path, threads: int, batch: int = 1) -> RawModel:
        """Open the folder of an OpenVINO model; see ``Runtime``."""
        block_telemetry()
        import openvino

        core = openvino.Core()
        model = core.read_model(next(path.glob("*.xml")))
        shape = model.input().partial_shape
        if batch > 1 and shape[0].is_static:
            model.reshape([batch, *list(shape)[1:]])
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_HYPER_THREADING": True,  # or it leaves every second thread of the machine alone
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(model, "CPU", settings)

        def run(images: F32, /) -> F32:
            return np.array(compiled(images)[0], dtype=np.float32)

        return run


class UltralyticsBackend:
    """Any other format that Ultralytics itself can run."""

    timed = False

    @property
    def name(self) -> str:
        """Name and version."""
        return f"ultralytics {version('ultralytics')}"

    def load(self, path: Path, threads: int, batch: int = 1) -> RawModel:  # noqa: ARG002 - Ultralytics' own choice
        """Open a file or folder that Ultralytics exported; see ``Runtime``."""
        import torch
        from ultralytics.nn.autobackend import AutoBackend

        try:
            backend = AutoBackend(str(path), device=torch.device("cpu"), verbose=False)
        except Exception as error:  # each engine fails in its own way
            raise ModelError(f"{path.name}: cannot be run here ({first_line(error)})") from error

        def run(images: F32, /) -> F32:
            with torch.inference_mode():
                out = backend(torch.from_numpy(images))
            raw: Any = out[0] if isinstance(out, list | tuple) else out
            return np.ascontiguousarray(raw.numpy(), dtype=np.float32)

        return run


RUNTIMES: dict[str, Runtime] = {"onnx": OnnxRuntime(), "torchscript": TorchScript(), "openvino": OpenVino()}
"""What each format is run by; every other one by ``UltralyticsBackend``."""


def block_telemetry() -> None:
    """Keep OpenVINO's converter from reporting its use: it does so when ``openvino_telemetry`` can be imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes the import fail
