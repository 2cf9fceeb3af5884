"""The validation side: what the model in use says of labelled images that it has not learnt from."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from keypipe.dataset.coco import CocoFile, CocoImage
from keypipe.drift.closeness import Truth
from keypipe.drift.log import to_row
from keypipe.drift.rows import Row
from keypipe.drift.shapes import ClassShape, learn_shape
from keypipe.errors import DatasetError
from keypipe.images.media import read_image
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.results import ModelStamp, round_prediction
from keypipe.keypoints.skeleton import Schema
from keypipe.splits.manifest import name_units, read_manifest
from tasks.drift.in_use import ModelInUse
from tasks.progress import Progress
from tasks.workspace import params as read
from tasks.workspace.dataset import read_split
from tasks.workspace.places import MANIFEST, STATE

SOURCE = "validation"
MEMORY = STATE / "cache/drift"
"""What models said of images, by the hash of the model's file and the thresholds."""


class ValidationSide(msgspec.Struct, frozen=True):
    """Labelled images that a model has not learnt from, and what it says of them.

    Attributes:
        info: what the model says of itself.
        rows: one for each image.
        units: name of the unit of each: its group, or the image itself.
        truth: for each the annotated objects.
        files: for each its file.
        shapes: what objects look like, learnt from the train split.
    """

    info: ModelInfo
    rows: list[Row]
    units: list[str]
    truth: list[Truth]
    files: list[Path]
    shapes: dict[str, ClassShape]


def look_at_validation_side(
    root: Path, model: ModelInUse, splits: Sequence[str], thresholds: Thresholds, progress: Progress, *, views: bool
) -> ValidationSide:
    """Let a model look at the validation side; what it said before is remembered.

    Args:
        root: the workspace.
        model: the model in use.
        splits: that count, such as ``val`` and ``test``.
        thresholds: which objects are kept.
        progress: is told how far it is.
        views: whether the mirrored and the smaller image are looked at as well.

    Raises:
        DatasetError: no image is there that it has not learnt from, or one is no longer what it was.
        ModelError: the model cannot be used.
    """
    info, predictor = _open(root, model)
    images: list[CocoImage] = []
    truth: list[Truth] = []
    for split in splits:
        file = read_split(root, split)
        chosen = [image for image in file.images if model.heldout(image.md5, set(splits))]
        images += chosen
        truth += _list_truth(file, chosen)
    if not images:
        raise DatasetError(
            f"{model.name}: none of the images on {' and '.join(splits)} was there when it was trained, so there is"
            " nothing to compare with; `keypipe run` brings the dataset up to date"
        )
    memory = root / MEMORY / f"{model.sha256[:32]}-{_key(thresholds)}.msgpack"
    known = _recall(memory)
    stamp = ModelStamp(model.name, model.sha256)
    missing = [image for image in images if image.md5 not in known or (views and not known[image.md5].views)]
    for number, image in enumerate(missing, start=1):
        path = _checked(root, image)
        pixels = read_image(path, info.depth)
        found = [round_prediction(item) for item in predictor.predict_image(pixels, thresholds)]
        known[image.md5] = to_row(
            predictor,
            pixels,
            found,
            views=views,
            model=stamp,
            thresholds=thresholds,
            source=SOURCE,
            group="",
            image=image.file_name,
            at=0.0,
        )
        progress("images of the validation side", number, len(missing))
    if missing:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_bytes(msgspec.msgpack.encode(known))
    names = [image.file_name for image in images]
    _, units = name_units(names, read_manifest(root / MANIFEST).lines)
    rows = [msgspec.structs.replace(known[image.md5], image=image.file_name) for image in images]
    files = [root / "data" / name for name in names]
    return ValidationSide(info, rows, units, truth, files, _learn_shapes(root, info.schema))


def _open(root: Path, model: ModelInUse) -> tuple[ModelInfo, Predictor]:
    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.onnx)
        raw, info = load_onnx_model(path, threads=read.read_local(root).threads, device="cpu")
    return info, Predictor(raw, info)


def _checked(root: Path, image: CocoImage) -> Path:
    path = root / "data" / image.file_name
    try:
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except FileNotFoundError as error:
        raise DatasetError(f"data/{image.file_name} is not there; get it with `dvc pull`") from error
    if md5 != image.md5:
        raise DatasetError(f"data/{image.file_name} is no longer the image that was split; `keypipe run`")
    return path


def _key(thresholds: Thresholds) -> str:
    return hashlib.sha256(msgspec.json.encode(thresholds)).hexdigest()[:12]


def _recall(path: Path) -> dict[str, Row]:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Row])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _list_truth(file: CocoFile, images: Sequence[CocoImage]) -> list[Truth]:
    names = {category.id: category for category in file.categories}
    objects: dict[int, list[tuple[str, tuple[float, float, float, float], dict[str, tuple[float, float]]]]] = {}
    for item in file.annotations:
        category = names[item.category_id]
        left, top, width, height = item.bbox
        points = np.array(item.keypoints, dtype=np.float64).reshape(-1, 3)
        labelled = {
            name: (float(x), float(y))
            for name, (x, y, seen) in zip(category.keypoints, points, strict=True)
            if seen > 0
        }
        found = (category.name, (left, top, left + width, top + height), labelled)
        objects.setdefault(item.image_id, []).append(found)
    return [objects.get(image.id, []) for image in images]


def _learn_shapes(root: Path, schema: Schema) -> dict[str, ClassShape]:
    """Learn what objects of each class look like, from the train split."""
    train = read_split(root, "train")
    shapes: dict[str, ClassShape] = {}
    for name, annotated in _to_shapes(train, schema).items():
        learnt = learn_shape(annotated, schema.classes[name]) if len(annotated) else None
        if learnt is not None:
            shapes[name] = learnt
    return shapes


def _to_shapes(file: CocoFile, schema: Schema) -> Mapping[str, np.ndarray]:
    """Return the annotated shapes of each class, complex (n_objects, n_keypoints), in the model's order."""
    shapes: dict[str, list[list[complex]]] = {name: [] for name in schema.classes}
    for objects in _list_truth(file, file.images):
        for name, _, points in objects:
            if name in shapes:
                missing = complex(np.nan, np.nan)
                keypoints = schema.classes[name].keypoints
                shapes[name].append([complex(*points[key]) if key in points else missing for key in keypoints])
    return {
        name: np.array(rows, dtype=np.complex128).reshape(-1, len(schema.classes[name].keypoints))
        for name, rows in shapes.items()
    }
