"""Prediction without torch: an ONNX model, or any other raw model, behind shared pre- and post-processing."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.errors import ConfigError, ModelError
from keypipe.inference.letterbox import Placement, letterbox
from keypipe.inference.postprocess import Detections, decode_end2end_output, decode_output, suppress_overlaps
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import Schema, Skeleton, parse_schema, schema_to_mapping

DEFAULT_CONF = 0.25
DEFAULT_IOU = 0.7
DEFAULT_MAX_DET = 300

METADATA_KEY = "keypipe"
"""Key of the ONNX metadata under which keypipe keeps the schema, the license and its version."""


class RawModel(Protocol):
    """A pose model from input tensor to raw output."""

    def __call__(self, images: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Run the model.

        Args:
            images: float32 (batch, 3, height, width), RGB, 0 to 1.

        Returns:
            float32 (batch, 4 + n_classes + 3 * n_slots, n_anchors), or of an end-to-end model
            (batch, n_found, 6 + 3 * n_slots); see ``keypipe.inference.postprocess``.
        """
        ...


class ModelInfo(msgspec.Struct, frozen=True):
    """What a pose model knows of itself.

    Attributes:
        schema: its classes and skeletons; class ids and slots follow from it.
        imgsz: (height, width) of its input, pixels.
        end2end: whether its output needs no suppression.
        license: license of the weights, where it is stated.
        version: version of the program that wrote the model, where it is stated.
        metadata: everything else that the file states.
    """

    schema: Schema
    imgsz: tuple[int, int]
    end2end: bool = False
    license: str = ""
    version: str = ""
    metadata: dict[str, str] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names; the position is the class id."""
        return self.schema.class_names

    @property
    def slots(self) -> tuple[str, ...]:
        """Keypoint name of every slot."""
        return self.schema.slots

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Edges of all classes as pairs of slots."""
        return self.schema.edges


class Predictor:
    """A raw model with what comes before and after it."""

    def __init__(self, model: RawModel, info: ModelInfo) -> None:
        self.model = model
        self.info = info
        self._slot_indices = {name: info.schema.slot_indices(name) for name in info.class_names}

    def detect(
        self,
        image_bgr: NDArray[np.uint8],
        conf: float = DEFAULT_CONF,
        iou: float = DEFAULT_IOU,
        max_det: int = DEFAULT_MAX_DET,
    ) -> Detections:
        """Find the objects of an image, as arrays.

        Args:
            image_bgr: uint8 (height, width, 3), BGR, upright.
            conf: smallest score of an object.
            iou: overlap above which the weaker of two objects of a class is dropped.
            max_det: how many objects are kept at most.

        Returns:
            The detections in pixels of the image, all slots, best score first.

        Raises:
            ModelError: the model's output does not fit its classes and keypoints.
        """
        tensor, placement = self.prepare(image_bgr)
        return self.finish(self.model(tensor)[0], placement, conf, iou, max_det)

    def prepare(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Placement]:
        """Do what comes before the model.

        Args:
            image_bgr: uint8 (height, width, 3), BGR, upright.

        Returns:
            The model's input, float32 (1, 3, height, width), and where the image lies in it.
        """
        return letterbox(image_bgr, self.info.imgsz)

    def finish(
        self,
        output: NDArray[np.float32],
        placement: Placement,
        conf: float = DEFAULT_CONF,
        iou: float = DEFAULT_IOU,
        max_det: int = DEFAULT_MAX_DET,
    ) -> Detections:
        """Do what comes after the model.

        Args:
            output: the model's raw output for one image; see ``RawModel``.
            placement: as ``prepare`` gave it.
            conf: smallest score of an object.
            iou: overlap above which the weaker of two objects of a class is dropped.
            max_det: how many objects are kept at most.

        Returns:
            The detections in pixels of the image, all slots, best score first.

        Raises:
            ModelError: the model's output does not fit its classes and keypoints.
        """
        self._check_output(output)
        if self.info.end2end:
            found = decode_end2end_output(output, conf, max_det)
        else:
            found = suppress_overlaps(decode_output(output, len(self.info.class_names), conf), iou, max_det)
        return _to_image_pixels(found, placement)

    def predict_image(
        self,
        image_bgr: NDArray[np.uint8],
        conf: float = DEFAULT_CONF,
        iou: float = DEFAULT_IOU,
        max_det: int = DEFAULT_MAX_DET,
    ) -> list[Prediction]:
        """Find the objects of an image, by name.

        Args:
            image_bgr: uint8 (height, width, 3), BGR, upright.
            conf: smallest score of an object.
            iou: overlap above which the weaker of two objects of a class is dropped.
            max_det: how many objects are kept at most.

        Returns:
            The objects, best score first; slots that a class does not have are left out.
        """
        found = self.detect(image_bgr, conf, iou, max_det)
        return [self._to_prediction(found, index) for index in range(len(found))]

    def _to_prediction(self, found: Detections, index: int) -> Prediction:
        class_name = self.info.class_names[int(found.class_ids[index])]
        names = self.info.schema.classes[class_name].keypoints
        rows = found.keypoints[index, self._slot_indices[class_name]].tolist()
        left, top, right, bottom = found.boxes_xyxy[index].tolist()
        return Prediction(
            class_name=class_name,
            score=float(found.scores[index]),
            box_xyxy=(left, top, right, bottom),
            keypoints=[PredictedKeypoint(name, *row) for name, row in zip(names, rows, strict=True)],
        )

    def _check_output(self, output: NDArray[np.float32]) -> None:
        n_slots, n_classes = len(self.info.slots), len(self.info.class_names)
        n_values = 3 * n_slots + (6 if self.info.end2end else 4 + n_classes)
        got = output.shape[1 if self.info.end2end else 0]
        if got != n_values:
            raise ModelError(
                f"the model gives {got} values for each object, but {n_classes} classes and {n_slots} keypoints"
                f" make {n_values}: it was made for another skeleton"
            )


def _to_image_pixels(found: Detections, placement: Placement) -> Detections:
    corners = placement.to_image(found.boxes_xyxy.reshape(-1, 2, 2))
    points = placement.to_image(found.keypoints[..., :2])
    return Detections(
        boxes_xyxy=corners.reshape(-1, 4),
        scores=found.scores,
        class_ids=found.class_ids,
        keypoints=np.concatenate([points, found.keypoints[..., 2:]], axis=-1),
    )


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


def format_keypipe_metadata(schema: Schema, license_name: str, version: str) -> str:
    """Return the JSON that keypipe keeps in a model file under ``METADATA_KEY``.

    Args:
        schema: the schema that the model was trained for.
        license_name: license of the weights.
        version: version of keypipe.

    Returns:
        JSON text; ``parse_model_info`` reads it.
    """
    entry = {"schema": schema_to_mapping(schema), "license": license_name, "version": version}
    return json.dumps(entry, ensure_ascii=False)


def parse_model_info(metadata: Mapping[str, str], input_hw: tuple[int, int] | None = None) -> ModelInfo:
    """Read a model's description from its metadata.

    Args:
        metadata: as Ultralytics' exporter writes it (``task``, ``names``, ``kpt_shape``, ``kpt_names``, ``imgsz``,
            each as Python prints it), with keypipe's own entry beside it where keypipe exported the model.
        input_hw: (height, width) of the input where the model fixes it.

    Returns:
        The description. Without keypipe's entry the skeletons have no edges and no pairs, and keypoints that
        have no names are called by their number, from "0", as Ultralytics does.

    Raises:
        ModelError: not a pose model, or its parts contradict each other.
    """
    task = metadata.get("task")
    if task != "pose":
        kind = f"its task is {task!r}" if task else "it does not state its task"
        raise ModelError(f"not a pose model: {kind}; export one with `keypipe run` or `yolo export`")
    n_slots, n_dims = _parse_kpt_shape(metadata)
    if n_dims != 3:
        raise ModelError(
            f"its keypoints have {n_dims} values (kpt_shape [{n_slots}, {n_dims}]); keypipe needs x, y and confidence"
        )
    own = _parse_own_entry(metadata)
    schema = _parse_own_schema(own) if own else _schema_of_names(metadata, n_slots)
    names = _parse_names(metadata)
    if schema.class_names != names or len(schema.slots) != n_slots:
        raise ModelError(
            f"its schema ({', '.join(schema.class_names)}; {len(schema.slots)} keypoints) and its network"
            f" ({', '.join(names)}; {n_slots} keypoints) differ"
        )
    known = {METADATA_KEY, "license", "version"}
    return ModelInfo(
        schema=schema,
        imgsz=input_hw or _parse_imgsz(metadata),
        end2end=_literal(metadata, "end2end") is True,
        license=str(own.get("license") or metadata.get("license", "")),
        version=str(own.get("version") or metadata.get("version", "")),
        metadata={key: value for key, value in metadata.items() if key not in known},
    )


def check_schema(found: Schema, expected: Schema) -> None:
    """Check that a model was made for a schema.

    Raises:
        ModelError: other classes, or other keypoints, or another order.
    """
    if found.class_names != expected.class_names:
        raise ModelError(
            f"the model was made for the classes {', '.join(found.class_names)},"
            f" the schema has {', '.join(expected.class_names)}"
        )
    for name, skeleton in expected.classes.items():
        of_model = found.classes[name].keypoints
        if of_model != skeleton.keypoints:
            raise ModelError(
                f"the model was made for the keypoints {', '.join(of_model)} of {name},"
                f" the schema has {', '.join(skeleton.keypoints)}"
            )


def _literal(metadata: Mapping[str, str], key: str) -> Any:
    """Return a metadata value that Ultralytics wrote with ``str()``, or None when it is absent."""
    if key not in metadata:
        return None
    try:
        return ast.literal_eval(metadata[key])
    except (ValueError, SyntaxError) as error:
        raise ModelError(f"its metadata {key} cannot be read: {metadata[key]!r}") from error


def _parse_kpt_shape(metadata: Mapping[str, str]) -> tuple[int, int]:
    shape = _literal(metadata, "kpt_shape")
    if not isinstance(shape, Sequence) or len(shape) != 2:
        raise ModelError(f"its metadata kpt_shape should be [n, 3], got {shape!r}")
    return int(shape[0]), int(shape[1])


def _parse_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    names = _literal(metadata, "names")
    if not isinstance(names, Mapping) or not names:
        raise ModelError(f"its metadata names should map class ids to names, got {names!r}")
    return tuple(str(names[class_id]) for class_id in sorted(names))


def _parse_imgsz(metadata: Mapping[str, str]) -> tuple[int, int]:
    imgsz = _literal(metadata, "imgsz")
    if isinstance(imgsz, int):
        return imgsz, imgsz
    if isinstance(imgsz, Sequence) and len(imgsz) == 2:
        return int(imgsz[0]), int(imgsz[1])
    raise ModelError(f"its metadata imgsz should be [height, width], got {imgsz!r}")


def _parse_own_entry(metadata: Mapping[str, str]) -> dict[str, Any]:
    if METADATA_KEY not in metadata:
        return {}
    try:
        entry: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    except json.JSONDecodeError as error:
        raise ModelError(f"its metadata {METADATA_KEY} is not JSON ({error})") from error
    return entry


def _parse_own_schema(own: Mapping[str, Any]) -> Schema:
    try:
        return parse_schema(own.get("schema", {}))
    except ConfigError as error:
        raise ModelError(f"its metadata {METADATA_KEY} holds no usable schema:\n{error}") from error


def _schema_of_names(metadata: Mapping[str, str], n_slots: int) -> Schema:
    """Build a schema in which every class has all keypoints, from what Ultralytics alone states."""
    named = _literal(metadata, "kpt_names") or {}
    keypoints = tuple(str(name) for name in named.get(0, range(n_slots)))
    if len(set(keypoints)) != n_slots:
        keypoints = tuple(str(index) for index in range(n_slots))
    return Schema(dict.fromkeys(_parse_names(metadata), Skeleton(keypoints)))
