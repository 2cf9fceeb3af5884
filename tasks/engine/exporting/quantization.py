"""INT8 for ONNX files: weights and activations of the convolutions as 8-bit integers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def quantize(source: Path, target: Path, inputs: Iterable[NDArray[np.float32]]) -> None:
    """Write the INT8 twin of an ONNX file.

    Static quantisation with QDQ nodes (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html):
    symmetric weights, a scale for each channel; activations asymmetric, their ranges those seen on ``inputs``.
    ``find_last_convolutions`` says what stays in float.

    Args:
        source: the ONNX file in float32.
        target: the file to write.
        inputs: inputs of the network, float32 (1, 3, height, width), to see ranges on.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    model = onnx.load(str(source))
    name = model.graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands the inputs over one by one."""

        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """Return the next input, None when there is no more."""
            found = next(self._left, None)
            return None if found is None else {name: found}

    with _quiet():
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=find_last_convolutions(model),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    quantized = onnx.load(str(target))
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    onnx.save(quantized, str(target))


def find_last_convolutions(model: Any) -> list[str]:
    """Return the names of the convolutions after which no other comes: those whose results the head decodes.

    Args:
        model: an ``onnx.ModelProto``.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    found: list[str] = []
    seen: set[str] = set()
    waiting = [output.name for output in model.graph.output]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        node = makers[name]
        if node.op_type == "Conv":
            found.append(node.name)
        # Without a bias: the mean over the bins of a box's sides (DFL), itself a part of the decoding.
        if node.op_type != "Conv" or len(node.input) == 2:
            waiting += node.input
    return sorted(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime from recommending its own pre-processing; onnxslim has done it."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
