"""YOLO-pose: label lines, ``data.yaml``, and the folder that ``yolo`` itself can train on.

Format: https://docs.ultralytics.com/datasets/pose/ — class, box centre and size, then x, y, visibility of
every keypoint slot; all lengths as shares of the image's width and height.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.annotation import AnnotatedImage, Instance, Visibility
from keypipe.errors import AnnotationError, ConfigError
from keypipe.skeleton import Schema

SIDES = ("train", "val", "test")
STAMP = ".keypipe.json"

_FILES_PER_PROCESS = 2000  # below this a process costs more than it saves


class YoloInstance(msgspec.Struct, frozen=True):
    """One label line.

    Attributes:
        class_id: from 0.
        box_xywhn: centre x, centre y, width, height as shares of the image's size.
        keypoints: x, y (shares) and visibility (0, 1, 2) per slot; None where the file has no visibility.
    """

    class_id: int
    box_xywhn: tuple[float, float, float, float]
    keypoints: tuple[tuple[float, float, int | None], ...]


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
    keypoints: list[tuple[float, float, int | None]] = []
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
        values += (x, y) if visibility is None else (x, y, visibility)
    return _line_format(len(values)) % tuple(values)


@cache
def _line_format(n_values: int) -> str:
    return "%d" + " %.6f" * (n_values - 1) + "\n"


def parse_labels(text: str, kpt_shape: tuple[int, int]) -> list[YoloInstance]:
    """Parse the text of a label file.

    Args:
        text: lines of ``class cx cy w h`` and keypoints; empty for a negative.
        kpt_shape: number of slots, and 2 (x, y) or 3 (x, y, visibility) values each.

    Returns:
        One entry per line.

    Raises:
        AnnotationError: a line with another number of values, or not numbers; names the line.
    """
    return [
        _parse_line(line.split(), kpt_shape, number)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def _parse_line(fields: Sequence[str], kpt_shape: tuple[int, int], number: int) -> YoloInstance:
    n_slots, n_values = kpt_shape
    expected = 5 + n_slots * n_values
    if len(fields) != expected:
        raise AnnotationError(
            f"line {number}: expected {expected} values for kpt_shape {list(kpt_shape)}, got {len(fields)}"
        )
    try:
        values = [float(field) for field in fields[1:]]
        class_id = int(fields[0])
        visibilities: list[int | None] = [None] * n_slots
        if n_values == 3:
            visibilities = [Visibility(int(value)).value for value in values[6::n_values]]
    except ValueError as error:
        raise AnnotationError(f"line {number}: {error}") from error
    box = (values[0], values[1], values[2], values[3])
    xs, ys = values[4::n_values], values[5::n_values]
    return YoloInstance(class_id, box, tuple(zip(xs, ys, visibilities, strict=True)))


def to_data_yaml(schema: Schema, sides: Sequence[str], loss_sigmas: Sequence[float]) -> dict[str, Any]:
    """Build the values of ``data.yaml``.

    Args:
        schema: classes and slots.
        sides: the sides that hold images; Ultralytics wants ``train`` and ``val``.
        loss_sigmas: one per slot. Always written: without them Ultralytics takes 1/n, and for any 17 keypoints
            those of the human body.
    """
    slots = list(schema.slots)
    return {
        **{side: f"images/{side}" for side in SIDES if side in sides},
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
    into the stem, and a folder called ``images`` gets an underscore.

    Args:
        paths: image paths relative to ``data/``.

    Returns:
        Path -> name relative to ``images/<side>``.
    """
    names: dict[str, str] = {}
    by_label: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        folder, _, name = path.partition("/")[2].rpartition("/")
        parts = [f"{part}_" if part in {"images", "labels"} else part for part in folder.split("/")] if folder else []
        names[path] = "/".join([*parts, name])
        by_label[label_name(names[path])].append(path)
    for namesakes in by_label.values():
        if len(namesakes) > 1:
            for path in namesakes:
                stem, _, suffix = names[path].rpartition(".")
                names[path] = f"{stem}_{suffix}.{suffix}"
    return names


def label_name(image_name: str) -> str:
    """Return the name of an image's label file: its own with another suffix."""
    return image_name.rpartition(".")[0] + ".txt"


class View(msgspec.Struct):
    """What the YOLO folder must hold.

    Attributes:
        links: link name -> image path, both relative to the folder that holds ``yolo/``.
        texts: file name relative to ``yolo/`` -> content.
    """

    links: dict[str, str]
    texts: dict[str, str]


def to_view(sides: Mapping[str, Iterable[AnnotatedImage]], schema: Schema, data_yaml: str) -> View:
    """Lay out the YOLO folder of a split dataset.

    Args:
        sides: images of each side.
        schema: class ids and slots of the labels.
        data_yaml: text of ``data.yaml``.
    """
    view = View({}, dict(zip(_TEXTS, [data_yaml, "".join(f"{name}\n" for name in schema.class_names)], strict=True)))
    for side, members in sides.items():
        images = list(members)
        places = lay_out(side, (image.path for image in images))
        for image in images:
            link, label = places[image.path]
            view.links[link] = image.path
            view.texts[label] = format_labels(to_yolo(instance, image.size_wh, schema) for instance in image.instances)
    return view


_TEXTS = ("data.yaml", "classes.txt")


def lay_out(side: str, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return, for each image of a side, where the YOLO folder has its link and its label file."""
    return {
        path: (f"images/{side}/{name}", f"labels/{side}/{label_name(name)}") for path, name in view_names(paths).items()
    }


def is_current(folder: Path, sides: Mapping[str, Iterable[str]], folds: Iterable[int], stamp: str) -> bool:
    """Tell whether a YOLO folder carries a stamp and still has all files of a dataset.

    Args:
        folder: ``data/yolo``.
        sides: image paths of each side.
        folds: numbers of the folds.
        stamp: identifies the dataset.
    """
    if read_stamp(folder) != stamp:
        return False
    names = [*_TEXTS, *(name for fold in folds for name in _fold_texts(fold))]
    names += [name for side, paths in sides.items() for place in lay_out(side, paths).values() for name in place]
    return _list_names(folder).issuperset(names)


def _fold_texts(fold: int) -> tuple[str, str, str]:
    return f"fold{fold}.yaml", f"fold{fold}_train.txt", f"fold{fold}_val.txt"


def to_fold_yaml(data_yaml: Mapping[str, Any], fold: int) -> dict[str, Any]:
    """Build the values of a fold's ``data.yaml``, which lies beside the view's own: images stand in lists."""
    return {**data_yaml, **{side: f"fold{fold}_{side}.txt" for side in ("train", "val")}}


def add_fold(view: View, fold: int, sides: Mapping[str, Iterable[str]], data_yaml: str) -> None:
    """Add a fold to the YOLO folder: lists of images that are in it already, and a data YAML that names them.

    Args:
        view: gets the files.
        fold: its number.
        sides: image paths of the fold's ``train`` and ``val``.
        data_yaml: text of the fold's ``data.yaml``.
    """
    link_of = {image: link for link, image in view.links.items()}
    view.texts[f"fold{fold}.yaml"] = data_yaml
    for side, paths in sides.items():
        view.texts[f"fold{fold}_{side}.txt"] = "".join(f"./{link_of[path]}\n" for path in paths)


def write_view(folder: Path, view: View, stamp: str) -> None:
    """Bring the YOLO folder up to what a view says, changing only what differs.

    Args:
        folder: ``data/yolo``; the images lie beside it, under ``data/``.
        view: what it must hold.
        stamp: identifies the dataset.
    """
    stamp_path = folder / STAMP
    there = _list_names(folder)
    stamp_path.unlink(missing_ok=True)
    for name in there - view.links.keys() - view.texts.keys():
        # Includes Ultralytics' label caches, which outlive the labels they describe.
        os.unlink(f"{folder}/{name}")  # noqa: PTH108 - Path is several times as slow, here and below
    _remove_empty(folder)
    for parent in {name.rpartition("/")[0] for name in (*view.links, *view.texts)}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    if len(view.links.keys() - there) < _FILES_PER_PROCESS:
        _write_links(str(folder), view.links, there)
        _write_texts(str(folder), view.texts, there)
    else:  # making files is most of the work of a first split
        with ProcessPoolExecutor(1) as pool:
            texts = pool.submit(_write_texts, str(folder), view.texts, there)
            _write_links(str(folder), view.links, there)
            texts.result()
    stamp_path.write_text(msgspec.json.encode({"stamp": stamp}).decode(), encoding="utf-8")


def read_stamp(folder: Path) -> str | None:
    """Return the stamp of a YOLO folder, None when it has none."""
    path = folder / STAMP
    return msgspec.json.decode(path.read_bytes())["stamp"] if path.exists() else None


def _list_names(folder: Path) -> set[str]:
    """List what lies below a folder, other than folders."""
    return {f"{base}/{name}"[len(str(folder)) + 1 :] for base, _, names in os.walk(folder) for name in names} - {STAMP}


def _remove_empty(folder: Path) -> None:
    for base, _, _ in os.walk(folder, topdown=False):
        if Path(base) != folder and not any(Path(base).iterdir()):
            Path(base).rmdir()


def _write_links(folder: str, links: Mapping[str, str], there: Collection[str]) -> None:
    for name, image in links.items():
        target = "../" * (name.count("/") + 1) + image
        path = f"{folder}/{name}"
        if name in there:
            if os.path.islink(path) and os.readlink(path) == target:  # noqa: PTH114, PTH115
                continue
            os.unlink(path)  # noqa: PTH108
        os.symlink(target, path)  # noqa: PTH211


def _write_texts(folder: str, texts: Mapping[str, str], there: Collection[str]) -> None:
    for name, text in texts.items():
        path, content = f"{folder}/{name}", text.encode()
        if name in there:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                if file.read() == content:
                    continue
        with open(path, "wb", buffering=0) as file:  # noqa: PTH123
            file.write(content)
