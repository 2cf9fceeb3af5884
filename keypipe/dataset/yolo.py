"""YOLO-pose: label lines, ``data.yaml``, and the folder that ``yolo`` itself can train on.

Format: https://docs.ultralytics.com/datasets/pose/ — class, box centre and size, then x, y, visibility of
every keypoint slot; all lengths as shares of the image's width and height.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset.coco import CocoAnnotation, CocoCategory
from keypipe.errors import ConfigError
from keypipe.keypoints.instances import AnnotatedImage, Instance
from keypipe.keypoints.skeleton import Schema

SPLITS = ("train", "val", "test")

SUFFIXES = ("avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
"""Suffixes of what Ultralytics takes for an image; it reads most formats by their bytes. A test compares them."""


class YoloInstance(msgspec.Struct, frozen=True):
    """One label line.

    Attributes:
        class_id: from 0.
        box_xywhn: centre x, centre y, width, height as shares of the image's size.
        keypoints: x, y (shares) and visibility (0, 1, 2) per slot.
    """

    class_id: int
    box_xywhn: tuple[float, float, float, float]
    keypoints: tuple[tuple[float, float, int], ...]


def to_yolo(instance: Instance, size_wh: tuple[int, int], schema: Schema) -> YoloInstance:
    """Convert an instance to a label line's values.

    Args:
        instance: pixels.
        size_wh: the image's width and height in pixels, both > 0.
        schema: gives class ids and slots; slots that the class lacks or that are not labelled are (0, 0, 0).
    """
    width, height = size_wh
    left, top, right, bottom = instance.box_xyxy
    box = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    keypoints: list[tuple[float, float, int]] = []
    for name in schema.slots:
        point = instance.keypoints.get(name)
        keypoints.append((0.0, 0.0, 0) if point is None else (point.x / width, point.y / height, int(point.visibility)))
    return YoloInstance(schema.class_names.index(instance.class_name), box, tuple(keypoints))


def format_labels(instances: Iterable[YoloInstance]) -> str:
    """Format label lines; none gives an empty text, which marks a negative image.

    Six digits after the point for every value, as Ultralytics' published label files have them, byte for byte.
    """
    return "".join(_format_line(instance) for instance in instances)


def _format_line(instance: YoloInstance) -> str:
    values = [instance.class_id, *instance.box_xywhn]
    for x, y, visibility in instance.keypoints:
        values += (x, y, visibility)
    return _line_format(len(values)) % tuple(values)


@cache
def _line_format(n_values: int) -> str:
    return "%d" + " %.6f" * (n_values - 1) + "\n"


class LabelFormatter:
    """Formats label files straight from the values of a COCO file; the same text as by way of ``to_yolo``."""

    def __init__(self, categories: Sequence[CocoCategory], schema: Schema) -> None:
        """Look up class ids and slots once.

        Args:
            categories: of the COCO file; classes of the schema.
            schema: class ids and slots.
        """
        self._line_format = _line_format(5 + 3 * len(schema.slots))
        self._classes: dict[int, tuple[int, list[int | None]]] = {}
        for category in categories:
            places = {name: 3 * number for number, name in enumerate(category.keypoints)}
            slots = [places.get(name) for name in schema.slots]
            class_id = schema.class_names.index(category.name)
            self._classes[category.id] = (class_id, slots)

    def format(self, size_wh: tuple[int, int], annotations: Iterable[CocoAnnotation]) -> str:
        """Format a label file.

        Args:
            size_wh: the image's width and height in pixels, both > 0.
            annotations: its objects.
        """
        return "".join(self._line_format % tuple(self._values(size_wh, annotation)) for annotation in annotations)

    def _values(self, size_wh: tuple[int, int], annotation: CocoAnnotation) -> list[float]:
        width, height = size_wh
        class_id, slots = self._classes[annotation.category_id]
        left, top, box_width, box_height = annotation.bbox
        right, bottom, flat = left + box_width, top + box_height, annotation.keypoints
        values = [class_id, (left + right) / 2 / width, (top + bottom) / 2 / height]
        values += ((right - left) / width, (bottom - top) / height)
        for at in slots:
            if at is not None and flat[at + 2] > 0:
                values += (flat[at] / width, flat[at + 1] / height, flat[at + 2])
            else:
                values += (0.0, 0.0, 0)
        return values


def to_data_yaml(schema: Schema, splits: Sequence[str], loss_sigmas: Sequence[float]) -> dict[str, Any]:
    """Build the values of ``data.yaml``.

    Args:
        schema: classes and slots.
        splits: the splits that hold images; Ultralytics wants ``train`` and ``val``.
        loss_sigmas: one per slot. Always written: without them Ultralytics takes 1/n, and for any 17 keypoints
            those of the human body.
    """
    slots = list(schema.slots)
    return {
        **{split: f"images/{split}" for split in SPLITS if split in splits},
        "kpt_shape": [len(slots), 3],
        "flip_idx": list(schema.flip_idx),
        "names": dict(enumerate(schema.class_names)),
        "kpt_names": dict.fromkeys(range(len(schema.classes)), slots),
        "kpt_oks_sigmas": [float(sigma) for sigma in loss_sigmas],
    }


def expand_sigmas(sigma: float | Sequence[float], n_keypoints: int, name: str) -> NDArray[np.float64]:
    """Give every keypoint its sigma.

    Args:
        sigma: one for all, or a list.
        n_keypoints: how many there must be.
        name: the parameter's name, for the message.

    Returns:
        float64 (n_keypoints,), shares of the object's scale.

    Raises:
        ConfigError: another number of values, or one that is not above zero.
    """
    values = np.full(n_keypoints, float(sigma)) if isinstance(sigma, int | float) else np.asarray(sigma, dtype=float)
    if values.shape != (n_keypoints,) or not (values > 0).all():
        raise ConfigError(f"{name}: expected one number above 0, or {n_keypoints} of them, got {sigma!r}")
    return values


def view_names(paths: Iterable[str]) -> dict[str, str]:
    """Choose the name under which each image appears in the YOLO folder.

    Ultralytics finds the labels of an image by its stem, and by the last ``/images/`` in its path. So an image
    keeps its path below ``raw/`` or ``derived/``, except that namesakes that differ in their suffix alone get it
    into the stem, a folder called ``images`` gets an underscore, and a suffix that Ultralytics does not take for an
    image's is exchanged for ``.jpg``.

    Args:
        paths: image paths relative to ``data/``.

    Returns:
        Path -> name relative to ``images/<split>``.
    """
    names = {path: _view_name(path) for path in paths}
    seen: set[str] = set()
    shared: set[str] = set()
    for name in names.values():
        label = label_name(name)
        (shared if label in seen else seen).add(label)
    for path in sorted(path for path, name in names.items() if label_name(name) in shared) if shared else ():
        stem, _, suffix = names[path].rpartition(".")
        name, number = f"{stem}_{suffix}.{suffix}", 1
        while label_name(name) in seen:  # somebody else's own name
            number += 1
            name = f"{stem}_{suffix}_{number}.{suffix}"
        names[path] = name
        seen.add(label_name(name))
    return names


def _view_name(path: str) -> str:
    name = path.partition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    if suffix.lower() not in SUFFIXES:
        name = f"{stem if dot and '/' not in suffix else name}.jpg"
    if "images" not in name and "labels" not in name:
        return name
    folder, slash, file = name.rpartition("/")
    parts = [f"{part}_" if part in {"images", "labels"} else part for part in folder.split("/")]
    return "/".join(parts) + slash + file


def label_name(image_name: str) -> str:
    """Return the name of an image's label file: its own with another suffix."""
    return image_name.rpartition(".")[0] + ".txt"


class View(msgspec.Struct):
    """A YOLO folder as a whole, in memory; ``keypipe.dataset.view`` keeps a large one up to date.

    Attributes:
        links: link name relative to the folder -> image path relative to ``data/``.
        texts: file name relative to the folder -> content.
    """

    links: dict[str, str]
    texts: dict[str, str]


def to_view(splits: Mapping[str, Iterable[AnnotatedImage]], schema: Schema, data_yaml: str) -> View:
    """Lay out a YOLO folder.

    Args:
        splits: images of each split.
        schema: class ids and slots of the labels.
        data_yaml: text of ``data.yaml``.
    """
    view = View({}, {"data.yaml": data_yaml, "classes.txt": format_classes(schema)})
    for split, members in splits.items():
        images = list(members)
        places = lay_out(split, (image.path for image in images))
        for image in images:
            link, label = places[image.path]
            view.links[link] = image.path
            view.texts[label] = format_labels(to_yolo(instance, image.size_wh, schema) for instance in image.instances)
    return view


def format_classes(schema: Schema) -> str:
    """Format ``classes.txt``: a name a line, in the order of the class ids, as labelling tools read it."""
    return "".join(f"{name}\n" for name in schema.class_names)


def lay_out(split: str, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return, for each image of a split, where the YOLO folder has its link and its label file."""
    return {
        path: (f"images/{split}/{name}", f"labels/{split}/{label_name(name)}")
        for path, name in view_names(paths).items()
    }


def to_fold_yaml(data_yaml: Mapping[str, Any], fold: int) -> dict[str, Any]:
    """Build the values of a fold's ``data.yaml``, which lies beside the view's own: images stand in lists."""
    return {**data_yaml, **{split: f"fold{fold}_{split}.txt" for split in ("train", "val")}}
