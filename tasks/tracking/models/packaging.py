"""A registered model's folder: an MLflow pyfunc that brings its own inference code and needs no training packages."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keypipe
from keypipe.errors import ModelError
from keypipe.inference.predictor import DEFAULT_THRESHOLDS
from keypipe.inference.tables import INPUT_COLUMN

LIBRARY = Path(keypipe.__file__).parent
CODE = tuple(
    sorted(
        path.relative_to(LIBRARY).as_posix()
        for pattern in ("__init__.py", "errors.py", "lazy.py", "images/*", "inference/*", "keypoints/*")
        for path in LIBRARY.glob(pattern)
        if path.suffix == ".py"
    )
)
"""What of keypipe goes along: the packages that prediction imports from."""

PACKAGES = (
    "mlflow-skinny",
    "pandas",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
    "msgspec",
)
"""What prediction and MLflow's own server for models need; the versions are those that the model was made with."""

SERVED_MODEL = Path(__file__).with_name("served_model.py")


def requirements() -> list[str]:
    """Return what a registered model needs, with exact versions.

    Raises:
        ModelError: one of them is not installed.
    """
    found: list[str] = []
    for name in PACKAGES:
        for candidate in (name, f"{name}-gpu"):  # onnxruntime has a name for each kind of machine
            try:
                found.append(f"{name}=={version(candidate)}")
                break
            except PackageNotFoundError:
                continue
        else:
            raise ModelError(f"{name} is not installed, and a registered model needs it: `make install`")
    return found


def save_package(folder: Path, onnx: Path, example: bytes, metadata: Mapping[str, Any]) -> None:
    """Write a model folder.

    Args:
        folder: is made.
        onnx: the exported network.
        example: an image file for the input example.
        metadata: what MLflow keeps in ``MLmodel``.
    """
    import mlflow.pyfunc
    import pandas as pd

    with _quiet(), tempfile.TemporaryDirectory(prefix="keypipe-model-") as scratch:
        code = Path(scratch) / "keypipe"
        for name in CODE:
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(LIBRARY / name, code / name)
        network = Path(scratch) / "model.onnx"
        shutil.copyfile(onnx, network)
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(SERVED_MODEL),
            artifacts={"onnx": str(network)},
            code_paths=[str(code)],
            pip_requirements=requirements(),
            signature=_signature(),
            input_example=pd.DataFrame({INPUT_COLUMN: [example]}),
            metadata=dict(metadata),
            model_config={"device": "", "threads": 0},
        )


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    keypoint = Object(
        [
            Property("name", DataType.string),
            Property("x", DataType.double),
            Property("y", DataType.double),
            Property("confidence", DataType.double),
        ]
    )
    outputs = [
        ColSpec(DataType.long, "image"),
        ColSpec(DataType.string, "class_name"),
        ColSpec(DataType.double, "score"),
        ColSpec(Array(DataType.double), "box_xyxy"),
        ColSpec(Array(keypoint), "keypoints"),
    ]
    params = [
        ParamSpec("conf", DataType.double, DEFAULT_THRESHOLDS.conf),
        ParamSpec("iou", DataType.double, DEFAULT_THRESHOLDS.iou),
        ParamSpec("max_det", DataType.integer, DEFAULT_THRESHOLDS.max_det),
    ]
    return ModelSignature(Schema([ColSpec(DataType.binary, INPUT_COLUMN)]), Schema(outputs), ParamSchema(params))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow from telling of type hints that it would like."""
    loggers = [logging.getLogger(name) for name in ("mlflow.pyfunc", "mlflow.models.model", "mlflow.utils.environment")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
