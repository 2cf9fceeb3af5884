"""Rows of a prediction log that are drawn, and a model whose answer depends on how bright the image is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from keypipe.drift.rows import LoggedKeypoint, LoggedObject, PixelStatistics, Row
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.onnx_files import metadata_of, raw_output

NAMES = ("nose", "tail", "left_ear", "right_ear", "hoof")
SCHEMA = Schema({"cow": Skeleton(NAMES, (("nose", "tail"),), (("left_ear", "right_ear"),))})
SHA = "ab" * 32
SHAPE = np.array([[0.1, 0.4], [0.9, 0.3], [0.2, 0.1], [0.3, 0.2], [0.7, 0.95]])
"""Places of the keypoints in the box."""


def make_row(
    rng: np.random.Generator,
    *,
    at: float = 0.0,
    group: str = "",
    score: float = 0.8,
    shift: float = 0.0,
    brightness: float = 0.5,
    move: float | None = None,
    source: str = "predict",
    **more: object,
) -> Row:
    """Draw a row of one object: its score lies about ``score``, and its keypoints are ``shift`` lower."""
    places = SHAPE + rng.normal(0, 0.02, SHAPE.shape) + (0, shift)
    confidences = np.clip(rng.normal(0.9, 0.05, len(NAMES)), 0, 1)
    moves = [None if move is None else abs(float(rng.normal(move, 0.01))) for _ in NAMES]
    points = [
        LoggedKeypoint(name, float(x), float(y), float(confidence), moved, moved)
        for name, (x, y), confidence, moved in zip(NAMES, places, confidences, moves, strict=True)
    ]
    width, height = rng.normal(60, 5), rng.normal(40, 4)
    left, top = rng.uniform(0, 20, 2)
    found = LoggedObject(
        "cow",
        float(np.clip(rng.normal(score, 0.05), 0, 1)),
        (float(left), float(top), float(left + width), float(top + height)),
        float(np.sqrt(width * height / (128 * 96))),
        float(width / height),
        points,
    )
    pixels = PixelStatistics(
        float(rng.normal(brightness, 0.03)), float(rng.normal(0.2, 0.02)), 0.3, float(rng.normal(-1, 0.1))
    )
    values: dict[str, object] = {
        "at": at,
        "source": source,
        "model": "models:/cows/1",
        "sha256": SHA,
        "group": group,
        "image": f"{rng.integers(1 << 40)}.jpg",
        "size_wh": (128, 96),
        "thresholds": Thresholds(),
        "pixels": pixels,
        "views": move is not None,
        "objects": [found],
    }
    return Row(**(values | more))  # type: ignore[arg-type]


def make_rows(n: int, seed: int, per_group: int = 1, spread: float = 0.0, **settings: float) -> list[Row]:
    """Draw rows in groups; scores of a group go up and down together by ``spread``."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    score = settings.pop("score", 0.8)
    for index in range(n):
        own = score + rng.normal(0, spread)
        rows += [make_row(rng, group=f"g{seed}-{index}", score=own, **settings) for _ in range(per_group)]  # type: ignore[arg-type]
    return rows


def number(rows: Sequence[Row]) -> list[int]:
    """Number the groups of rows."""
    names = sorted({row.group for row in rows})
    return [names.index(row.group) for row in rows]


def lit_predictor(path: Path, side_px: int = 64) -> Predictor:
    """Return a model that sees an object whose score is the image's brightness, left of the middle."""
    points = {name: (10.0 + 8 * k, 20.0 + 4 * k, 0.9) for k, name in enumerate(NAMES)}
    base = raw_output(SCHEMA, [("cow", 0.0, [30.0, 32.0, 40.0, 40.0], points)])
    slope = np.zeros_like(base)
    slope[4] = 1.0
    return write_and_load(path, base, slope, side_px)


def write_and_load(path: Path, base: NDArray[np.float32], slope: NDArray[np.float32], side_px: int) -> Predictor:
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side_px, side_px])
    result = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, *base.shape])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["slope", "mean"], ["lit"]),
        helper.make_node("Add", ["base", "lit"], ["output0"]),
    ]
    constants = [numpy_helper.from_array(value[None], name) for name, value in (("base", base), ("slope", slope))]
    graph = helper.make_graph(nodes, "lit", [image], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    for key, value in metadata_of(SCHEMA, side_px).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    raw, info = load_onnx_model(path, threads=1, device="cpu")
    return Predictor(raw, info)
