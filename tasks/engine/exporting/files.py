"""Exports of trained weights to the formats that Ultralytics knows."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import msgspec

from keypipe.errors import ModelError
from tasks.engine.exporting.runtimes import block_telemetry
from tasks.engine.settings import first_line
from tasks.engine.weights import finds_once, load_weights

FORMATS: tuple[str, ...] = (
    "torchscript", "onnx", "openvino", "engine", "coreml", "coreai", "saved_model", "pb", "edgetpu", "litert", "paddle",
    "mnn", "ncnn", "imx", "rknn", "executorch", "axelera", "deepx", "qnn", "hailo", "ascend", "xilinx",
)  # fmt: skip
"""The formats of the pinned Ultralytics; a test compares them with its own list."""


class Exported(msgspec.Struct, frozen=True):
    """A model in another format.

    Attributes:
        path: the file or folder.
        imgsz: (height, width) of its input, pixels.
        end2end: whether it gives each object once, so that its output needs no suppression.
    """

    path: Path
    imgsz: tuple[int, int]
    end2end: bool = False


def format_titles() -> dict[str, str]:
    """Return the formats that Ultralytics knows: its name for the command line, and the one for people."""
    from ultralytics.engine.exporter import export_formats

    table = export_formats()
    titles = dict(zip(table["Argument"], table["Format"], strict=True))
    return {name: title for name, title in titles.items() if name != "-"}


def export(
    weights: Path,
    format_name: str,
    imgsz: int | None,
    arguments: Mapping[str, Any],
    metadata: Mapping[str, str],
    calibration: Path,
    scratch: Path,
) -> Exported:
    """Export a checkpoint.

    Args:
        weights: the checkpoint; Ultralytics writes beside it, so a copy in ``scratch`` is exported.
        format_name: such as ``onnx``.
        imgsz: input size in pixels; None for the one it was trained with.
        arguments: further export arguments, such as ``opset`` or ``dynamic``; those that the format does not have
            are left out.
        metadata: what the file is to say of itself besides Ultralytics' own entries.
        calibration: ``data.yaml`` whose train split the formats are calibrated on that know integers only; without
            it Ultralytics would download a dataset.
        scratch: an empty folder.

    Returns:
        Where the export is and what goes in.

    Raises:
        ModelError: the export's toolchain is absent or fails, or the format cannot hold a head without suppression.
    """
    options = _list_options(format_name, imgsz, arguments, calibration)
    copy = scratch / "model.pt"
    copy.write_bytes(weights.read_bytes())
    model = load_weights(copy)
    end2end = finds_once(model)
    if end2end:
        options["nms"] = False
    sizes: list[tuple[int, int]] = []

    def describe(exporter: Any) -> None:
        """Complete the metadata; called when Ultralytics has gathered its own and before it writes."""
        if exporter.metadata["end2end"] != end2end:
            raise ModelError("cannot hold a head that needs no suppression; train without train.nms, or leave it out")
        del exporter.metadata["date"]  # equal weights make equal files
        exporter.metadata["description"] = f"{exporter.pretty_name} pose model exported by keypipe"  # no local paths
        exporter.metadata.update(metadata)
        height, width = exporter.imgsz
        sizes.append((int(height), int(width)))

    model.add_callback("on_export_start", describe)
    block_telemetry()
    try:
        with _quiet():
            path = Path(model.export(format=format_name, device="cpu", verbose=False, **options))
    except ModuleNotFoundError as error:
        raise ModelError(
            f"export.formats: {format_name}: its toolchain is not installed here (no Python module {error.name});"
            " install what https://docs.ultralytics.com/integrations names for it, or leave the format out"
        ) from error
    except Exception as error:  # each toolchain fails in its own way
        raise ModelError(f"export.formats: {format_name}: {first_line(error)}") from error
    finally:
        copy.unlink()
    if format_name == "torchscript":
        strip_origin(path)
    return Exported(path, sizes[0], end2end)


def _list_options(
    format_name: str, imgsz: int | None, arguments: Mapping[str, Any], calibration: Path
) -> dict[str, Any]:
    """Return those of the arguments that a format knows, and what it needs besides."""
    from ultralytics.engine.exporter import FP32_UNSUPPORTED_FORMATS, export_formats

    table = export_formats()
    known = dict(zip(table["Argument"], table["Arguments"], strict=True))[format_name]
    options = {name: value for name, value in arguments.items() if name in known}
    if imgsz:
        options["imgsz"] = imgsz
    if format_name in FP32_UNSUPPORTED_FORMATS and "data" in known:
        options |= {"data": str(calibration), "split": "train"}
    return options


_ALIGNMENT = 64  # caffe2/serialize/inline_container.h, kFieldAlignment: tensors can be mapped into memory


def strip_origin(path: Path) -> None:
    """Take out of a TorchScript file what tells where and when it was made.

    It holds for every operation the stack of source files that made it, with their paths on this machine, and an id
    of its own; torch needs neither.

    Args:
        path: the file, which is written anew.
    """
    with ZipFile(path) as source:
        entries = {info.filename: source.read(info) for info in source.infolist()}
    with path.open("wb") as file, ZipFile(file, "w") as target:
        for name, content in entries.items():
            if name.endswith((".debug_pkl", "/.data/serialization_id")):
                continue
            info = ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            # A local header is 30 bytes, the name, and the extra field with 4 bytes of its own head (APPNOTE 4.3.7).
            padding = -(file.tell() + 30 + len(name.encode()) + 4) % _ALIGNMENT
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            target.writestr(info, content)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ultralytics from announcing an error that is raised as well, and torch from advising against its tracer."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        LOGGER.setLevel(level)
