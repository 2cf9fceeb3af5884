"""What convert reads from ``data/raw``, written for other tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from keypipe.annotations.labelme import format_labelme, to_shapes
from keypipe.annotations.reader import read_derived
from keypipe.annotations.readings import Folder
from keypipe.dataset.coco import format_coco, to_coco
from keypipe.dataset.yolo import to_data_yaml, to_view
from keypipe.errors import ConfigError, DatasetError, FaultsError
from keypipe.exchange.labels import SCHEMA_KEY
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.skeleton import Schema, schema_to_mapping
from tasks.convert import ConvertParams, read_raw
from tasks.grading.loss_sigma import read_final_sigmas
from tasks.progress import Progress, follow, tell_nobody
from tasks.workspace import params as read
from tasks.workspace.places import RAW
from tasks.workspace.scratch import remove

Target = Literal["coco", "yolo", "labelme"]
Images = Literal["copy", "link", "none"]


def export_labels(
    root: Path, kind: Target, target: Path, images: Images = "copy", progress: Progress | None = None
) -> str:
    """Write what convert would read from ``data/raw`` for other tools.

    Args:
        root: the workspace.
        kind: ``coco`` (``keypoints.json`` and ``images/``, or one file where the target ends in ``.json``), ``yolo`` (a
            YOLO-pose folder) or ``labelme`` (a JSON beside each image, every object under a group of its own).
        target: must not exist, or be an empty folder.
        images: ``copy`` them, ``link`` to them, or ``none``.
        progress: is told how far it is.

    Returns:
        What was written, and what the format cannot hold.

    Raises:
        FaultsError: the annotations have faults and ``convert.on_error`` is ``fail``.
        ConfigError: the target is there already.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ConfigError(f"{target}: is there already; give a new folder")
    target = target.absolute()
    alone = kind == "coco" and target.suffix == ".json"
    document = read.read_params(root)
    params = read.load_section(document, "convert", ConvertParams)
    schema = read.load_schema(document)
    tell = progress or tell_nobody
    folder = read_raw(params, schema, root, tell)
    if folder.faults and params.on_error == "fail":
        raise FaultsError(folder.faults, "mend them, or set convert.on_error: quarantine to go on without these images")
    set_aside = {fault.file for fault in folder.faults}
    files = [file for file in folder.files if file.image and file.source not in set_aside]
    exported = [file.image for file in files if file.image]
    if not exported:
        raise DatasetError(f"{RAW}: no image without a fault in it")
    scratch = target.with_name(f".{target.name}.partial")  # beside it, so that relative links hold after the move
    remove(scratch)
    if kind == "coco":
        _export_coco(exported, schema, scratch, alone=alone)
    elif kind == "yolo":
        _export_yolo(exported, schema, scratch, read_final_sigmas(document, len(schema.slots)).tolist(), tell)
    else:
        _export_labelme(exported, scratch, params.occluded_flag or "occluded", tell)
    places = _image_places(kind, exported, schema) if not alone and images != "none" else {}
    derived = {file.image.path: file for file in files if file.image and file.derived}
    for path, place in follow(list(places.items()), "copying images", tell):
        content = read_derived(root / RAW, derived[path], params.depth) if path in derived else None
        _put_image(root, path, scratch / place, content, images)
    if target.is_dir():
        target.rmdir()
    scratch.rename(target)
    n_objects = sum(len(image.instances) for image in exported)
    lines = [f"{target}: {len(exported)} images, {n_objects} objects"]
    if set_aside:
        lines.append(f"left out for their faults: {len(set_aside)} files")
    return "\n".join([*lines, "not in it:", *(f"  {loss}" for loss in export_losses(kind, folder, schema))])


def _below(path: str) -> str:
    """Return an image's path without ``raw/`` or ``derived/``."""
    return path.partition("/")[2]


def _export_coco(images: Sequence[AnnotatedImage], schema: Schema, target: Path, *, alone: bool) -> None:
    renamed = [msgspec.structs.replace(image, path=_below(image.path)) for image in images]
    file = to_coco(renamed, schema)
    file.info |= {SCHEMA_KEY: schema_to_mapping(schema)}
    path = target if alone else target / "keypoints.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(format_coco(file))


def _export_yolo(
    images: Sequence[AnnotatedImage], schema: Schema, target: Path, sigmas: Sequence[float], tell: Progress
) -> None:
    data = to_data_yaml(schema, ["train"], sigmas)
    # Ultralytics wants both; the split is keypipe's own business, and data/yolo has it.
    data = {"train": data["train"], "val": data["train"]} | data | {SCHEMA_KEY: schema_to_mapping(schema)}
    view = to_view({"train": images}, schema, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    for name, text in follow(list(view.texts.items()), "writing labels", tell):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def _export_labelme(images: Sequence[AnnotatedImage], target: Path, occluded_flag: str, tell: Progress) -> None:
    for image in follow(images, "writing labels", tell):
        path = target / _below(image.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = format_labelme(to_shapes(image.instances, occluded_flag), path.name, image.size_wh)
        path.with_suffix(".json").write_text(text, encoding="utf-8", newline="\n")


def _image_places(kind: Target, images: Sequence[AnnotatedImage], schema: Schema) -> dict[str, str]:
    """Return where each image goes below the target."""
    if kind == "yolo":
        return {path: link for link, path in to_view({"train": images}, schema, "").links.items()}
    prefix = "images/" if kind == "coco" else ""
    return {image.path: prefix + _below(image.path) for image in images}


def _put_image(root: Path, path: str, place: Path, content: bytes | None, images: Images) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if content is not None:  # exists in the JSON alone, or repaired: there is no file to link to
        place.write_bytes(content)
    elif images == "copy":
        shutil.copyfile(root / "data" / path, place)
    else:
        place.symlink_to(os.path.relpath((root / "data" / path).resolve(), place.parent.resolve()))


def export_losses(kind: Target, folder: Folder, schema: Schema) -> list[str]:
    """Say what of the raw data an export does not hold, with counts where there are any."""
    counts = {
        "shapes outside the schema": sum(folder.ignored.values()),
        "labels as they were written, instead of the names that they stand for": sum(folder.aliased.values()),
        "places outside the image, instead of on its edge": sum(file.clipped for file in folder.files),
        "occluded keypoints (convert.occluded: ignore)": sum(file.occluded_ignored for file in folder.files),
    }
    losses = [f"{text} ({count})" for text, count in counts.items() if count]
    losses += ["corners of turned rectangles: boxes are upright", "descriptions, other flags and scores of shapes"]
    if kind == "yolo":
        losses.append("digits of positions beyond a millionth of the image's side")
    if kind == "labelme":
        losses.append("edges and left/right pairs, which stand in params.yaml")
    if kind == "coco" and schema.has_pairs:
        losses.append(f"left/right pairs in COCO's own keys (info.{SCHEMA_KEY} has them)")
    if kind == "yolo" and schema.edges:
        losses.append(f"edges in YOLO's own keys (data.yaml has them under {SCHEMA_KEY})")
    return losses
