"""What a pose model says of itself: its classes, keypoints and input, read from its metadata."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from keypipe.errors import ConfigError, ModelError
from keypipe.images.depth import DEPTHS, Depth
from keypipe.keypoints.skeleton import Schema, Skeleton, parse_schema, schema_to_mapping

MAX_SIZE = 100_000
"""No input has so many pixels a side, and no model so many keypoints."""
_MAX_INPUT_PX = 1 << 26
"""Pixels of the largest input, 8192 x 8192: 0.8 GB as floating point numbers; a small file can ask for any."""
METADATA_KEY = "keypipe"
"""Key of the ONNX metadata under which keypipe keeps the schema, the license and its version."""


class ModelInfo(msgspec.Struct, frozen=True):
    """What a pose model knows of itself.

    Attributes:
        schema: its classes and skeletons; class ids and slots follow from it.
        imgsz: (height, width) of its input, pixels.
        end2end: whether its output needs no suppression.
        license: license of the weights, where it is stated.
        version: version of the program that wrote the model, where it is stated.
        depth: what became of images with more than 8 bits a sample when it was trained, and is to become of new ones.
        metadata: everything else that the file states.
    """

    schema: Schema
    imgsz: tuple[int, int]
    end2end: bool = False
    license: str = ""
    version: str = ""
    depth: Depth = "cut"
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


def format_keypipe_metadata(schema: Schema, license_name: str, version: str, depth: str = "cut") -> str:
    """Return the JSON that keypipe keeps in a model file under ``METADATA_KEY``.

    Args:
        schema: the schema that the model was trained for.
        license_name: license of the weights.
        version: version of keypipe.
        depth: what became of images with more than 8 bits a sample.

    Returns:
        JSON text; ``parse_model_info`` reads it.
    """
    entry = {"schema": schema_to_mapping(schema), "license": license_name, "version": version}
    if depth != "cut":
        entry["depth"] = depth
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
    imgsz = input_hw or _parse_imgsz(metadata)
    if imgsz[0] * imgsz[1] > _MAX_INPUT_PX:
        raise ModelError(f"its input of {imgsz[0]}x{imgsz[1]} px is larger than {_MAX_INPUT_PX >> 20} Mi pixels")
    known = {METADATA_KEY, "license", "version"}
    return ModelInfo(
        schema=schema,
        imgsz=imgsz,
        end2end=_literal(metadata, "end2end") is True,
        license=str(own.get("license") or metadata.get("license", "")),
        version=str(own.get("version") or metadata.get("version", "")),
        depth=_parse_depth(own),
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
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:  # as literal_eval has them
        raise ModelError(f"its metadata {key} cannot be read: {_shown(metadata[key])}") from error


def _shown(value: object) -> str:
    """Return a value of any kind as text of some length."""
    try:
        return repr(value)[:200]
    except RecursionError:
        return "..."


def _are_whole(value: Any) -> TypeGuard[Sequence[int]]:
    """Tell whether a value is two whole numbers that sizes can be."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(item, int) and not isinstance(item, bool) and 0 < item < MAX_SIZE for item in value)
    )


def _parse_kpt_shape(metadata: Mapping[str, str]) -> tuple[int, int]:
    shape = _literal(metadata, "kpt_shape")
    if not _are_whole(shape):
        raise ModelError(f"its metadata kpt_shape should be [n, 3], got {_shown(shape)}")
    return shape[0], shape[1]


def _parse_names(metadata: Mapping[str, str]) -> tuple[str, ...]:
    names = _literal(metadata, "names")
    if not isinstance(names, Mapping) or not names or not all(isinstance(class_id, int) for class_id in names):
        raise ModelError(f"its metadata names should map class ids to names, got {_shown(names)}")
    return tuple(_to_name(names[class_id]) for class_id in sorted(names))


def _to_name(value: object) -> str:
    return value if isinstance(value, str) else _shown(value)


def _parse_imgsz(metadata: Mapping[str, str]) -> tuple[int, int]:
    imgsz = _literal(metadata, "imgsz")
    sides = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    if not _are_whole(sides):
        raise ModelError(f"its metadata imgsz should be [height, width], got {_shown(imgsz)}")
    return sides[0], sides[1]


def _parse_own_entry(metadata: Mapping[str, str]) -> dict[str, Any]:
    if METADATA_KEY not in metadata:
        return {}
    try:
        entry = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its metadata {METADATA_KEY} is not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise ModelError(f"its metadata {METADATA_KEY} should be a mapping, got {_shown(entry)}")
    return entry


def _parse_depth(own: Mapping[str, Any]) -> Depth:
    depth = own.get("depth", "cut")
    if not isinstance(depth, str) or depth not in DEPTHS:
        raise ModelError(
            f"its metadata {METADATA_KEY} has depth {_shown(depth)}, which this version does not know; update it"
        )
    return depth


def _parse_own_schema(own: Mapping[str, Any]) -> Schema:
    try:
        schema = own.get("schema")
        return parse_schema(schema if isinstance(schema, dict) else {})
    except ConfigError as error:
        raise ModelError(f"its metadata {METADATA_KEY} holds no usable schema:\n{error}") from error


def _schema_of_names(metadata: Mapping[str, str], n_slots: int) -> Schema:
    """Build a schema in which every class has all keypoints, from what Ultralytics alone states."""
    named = _literal(metadata, "kpt_names") or {}
    first = named.get(0) if isinstance(named, dict) else None
    keypoints = tuple(_to_name(name) for name in first) if isinstance(first, list | tuple) else ()
    if len(set(keypoints)) != n_slots:
        keypoints = tuple(str(index) for index in range(n_slots))
    return Schema(dict.fromkeys(_parse_names(metadata), Skeleton(keypoints)))
