"""Small ONNX models for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from keypipe.inference.model_info import METADATA_KEY, format_keypipe_metadata
from keypipe.keypoints.skeleton import Schema


def raw_output(
    schema: Schema, objects: list[tuple[str, float, list[float], dict[str, tuple[float, float, float]]]]
) -> NDArray[np.float32]:
    """Build the raw output of a model that finds these objects, whatever the image.

    Args:
        schema: classes and skeletons.
        objects: class name, score, box as centre x, centre y, width, height in input pixels, and keypoints
            as x, y, confidence; other slots hold rubbish, as they do in a real output.
    """
    n_classes, n_slots = len(schema.class_names), len(schema.slots)
    output = np.full((4 + n_classes + 3 * n_slots, max(len(objects), 1)), 0.001, dtype=np.float32)
    for anchor, (class_name, score, box_xywh, keypoints) in enumerate(objects):
        points = np.tile(np.array([7, 7, 0.9], dtype=np.float32), (n_slots, 1))
        for name, values in keypoints.items():
            points[schema.slots.index(name)] = values
        scores = [score if name == class_name else 0.001 for name in schema.class_names]
        output[:, anchor] = np.concatenate([box_xywh, scores, points.ravel()])
    return output


def metadata_of(schema: Schema, side_px: int = 64, own: bool = True, **extra: str) -> dict[str, str]:
    """Return metadata as Ultralytics' exporter writes it, with keypipe's entry when ``own``."""
    slots = list(schema.slots)
    metadata = {
        "task": "pose",
        "names": str(dict(enumerate(schema.class_names))),
        "kpt_shape": str([len(slots), 3]),
        "kpt_names": str(dict.fromkeys(range(len(schema.class_names)), slots)),
        "imgsz": str([side_px, side_px]),
        "end2end": "False",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "version": "8.4.190",
    }
    if own:
        metadata[METADATA_KEY] = format_keypipe_metadata(schema, "AGPL-3.0-or-later", "0.1.0")
    return metadata | extra


def write_constant_model(path: Path, output: NDArray[np.float32], metadata: dict[str, str], side_px: int = 64) -> Path:
    """Write an ONNX model that gives the same raw output for every image."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side_px, side_px])
    result = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, *output.shape])
    nodes = [
        helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["constant", "nothing"], ["output0"]),
    ]
    values = {"zero": np.float32(0), "constant": output[None]}
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "constant", [image], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_colour_model(path: Path, schema: Schema, side_px: int = 64, box_px: float = 12.0) -> Path:
    """Write an ONNX model that finds red, green and blue spots: an object of the first class at the middle of each.

    Its keypoints lie in a row through the middle. A spot of some 20 pixels of the input has a score of 1.
    """
    n_keypoints, n_classes = len(schema.slots), len(schema.class_names)
    rows, columns = np.mgrid[0:side_px, 0:side_px].astype(np.float32) + 0.5
    shifts = np.linspace(-box_px / 2, box_px / 2, n_keypoints).astype(np.float32)
    values = {
        "two": np.float32(2),
        "least": np.float32(0.5),
        "tiny": np.float32(1e-6),
        "columns": columns[None, None],
        "rows": rows[None, None],
        "zero": np.float32(0),
        "one": np.float32(1),
        "full": np.float32(10),
        "sure": np.float32(0.9),
        "box": np.float32(box_px),
        "places": np.array([2, 3], np.int64),
        "channels": np.array([1], np.int64),
        **{f"shift{index}": shift for index, shift in enumerate(shifts)},
    }
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    make = helper.make_node
    nodes = [
        make("ReduceSum", ["images", "channels"], ["all"], keepdims=1),
        make("Mul", ["images", "two"], ["twice"]),
        make("Sub", ["twice", "all"], ["purity"]),
        make("Sub", ["purity", "least"], ["above"]),
        make("Relu", ["above"], ["mask"]),
        make("ReduceSum", ["mask", "places"], ["mass"], keepdims=0),
        make("Add", ["mass", "tiny"], ["weight"]),
        make("Div", ["mass", "full"], ["raw_score"]),
        make("Clip", ["raw_score", "zero", "one"], ["score"]),
        make("Mul", ["score", "zero"], ["nothing"]),
        make("Add", ["nothing", "box"], ["side"]),
        make("Add", ["nothing", "sure"], ["confidence"]),
    ]
    for axis, grid in (("x", "columns"), ("y", "rows")):
        nodes += [
            make("Mul", ["mask", grid], [f"moment_{axis}"]),
            make("ReduceSum", [f"moment_{axis}", "places"], [f"sum_{axis}"], keepdims=0),
            make("Div", [f"sum_{axis}", "weight"], [axis]),
        ]
    parts = ["x", "y", "side", "side", "score", *["nothing"] * (n_classes - 1)]
    for index in range(n_keypoints):
        nodes.append(make("Add", ["x", f"shift{index}"], [f"x{index}"]))
        parts += [f"x{index}", "y", "confidence"]
    nodes += [
        make("Concat", parts, ["flat"], axis=0),
        make("Unsqueeze", ["flat", "first"], ["output0"]),
    ]
    constants.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side_px, side_px])
    size = [1, 4 + n_classes + 3 * n_keypoints, 3]
    result = helper.make_tensor_value_info("output0", TensorProto.FLOAT, size)
    graph = helper.make_graph(nodes, "colours", [image], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    for key, value in metadata_of(schema, side_px).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
