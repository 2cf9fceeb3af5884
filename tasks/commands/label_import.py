"""Labels of other tools into ``data/raw``, as labelme files that annotators can go on with."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import msgspec
import yaml

from keypipe.annotations.folder import list_files, read_folder
from keypipe.annotations.labelme import format_labelme, to_points, to_shapes
from keypipe.annotations.readings import Folder
from keypipe.errors import AnnotationError, ConfigError, Fault, FaultsError, format_faults
from keypipe.exchange.coco import parse_coco_labels
from keypipe.exchange.deeplabcut import parse_collected_data
from keypipe.exchange.labels import (
    LabelledImage,
    LabelSet,
    holds,
    merge_label_sets,
    merge_schemas,
    put_into_normal_form,
)
from keypipe.exchange.yolo import YoloTexts, parse_yolo_labels
from keypipe.images.formats import IMAGE_SUFFIXES
from keypipe.images.header import parse_image_header
from keypipe.keypoints.skeleton import Schema
from tasks.commands.adopt import format_schema, write_schema
from tasks.convert import ConvertParams
from tasks.progress import Progress, follow, tell_nobody
from tasks.workspace import params as read
from tasks.workspace.places import PARAMS_FILE, RAW
from tasks.workspace.scratch import scratch_folder

Source = Literal["coco", "yolo", "dlc"]

_LAYOUT_FOLDERS = {"images", "labeled-data", "JPEGImages"}
"""Folders that belong to a format's layout and say nothing about the image."""

_READING = "reading labels"


class ImportOptions(msgspec.Struct, frozen=True):
    """How to read labels of other tools.

    Attributes:
        images: folder of the images, where it is not the source's.
        name: of the folder below ``data/raw``; default: the source's name.
        classes: class names by id (yolo), or what to call the animals (dlc).
        keypoints: keypoint names in order (yolo).
        box_margin: margin of derived boxes, as a share of the longer side of the points' extent (dlc).
        write_schema: add what is missing to the schema in ``params.yaml``.
        skip_faulty: leave out images with a fault instead of refusing all.
    """

    images: Path | None = None
    name: str | None = None
    classes: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    box_margin: float = 0.1
    write_schema: bool = False
    skip_faulty: bool = False


class _Incoming(msgspec.Struct):
    """One image on its way into ``data/raw``: what it shows, its file, and its name below the new folder."""

    labels: LabelledImage
    file: Path
    size_wh: tuple[int, int]
    target: str = ""


def import_labels(
    root: Path, kind: Source, source: Path, options: ImportOptions | None = None, progress: Progress | None = None
) -> str:
    """Write labels of another tool as labelme files, with copies of the images, into a new folder of ``data/raw``.

    Args:
        root: the workspace.
        kind: ``coco`` (a JSON, or a folder of such), ``yolo`` (a YOLO-pose folder) or ``dlc`` (a DeepLabCut project,
            one of its videos, or a ``CollectedData*.csv``).
        source: file or folder; nothing in it is changed.
        options: how to read it.
        progress: is told how far it is.

    Returns:
        What was read, mended, lost, and what ``params.yaml`` needs, for the user to read.

    Raises:
        AnnotationError: nothing there that could be read; as ``FaultsError`` all that is wrong with it.
        ConfigError: the folder below ``data/raw`` exists, or names do not fit the data.
    """
    options, tell = options or ImportOptions(), progress or tell_nobody
    name = options.name or (source.stem if source.is_file() else source.resolve().name)
    target = root / RAW / name
    if PurePosixPath(name).parts != (name,) or name.startswith("."):
        raise ConfigError(f"{name!r} cannot name a folder below {RAW}; give another with --name")
    if target.exists():
        raise ConfigError(f"{RAW / name} is there already; give another name with --name, or move it away")
    document = read.read_params(root)
    params = read.load_section(document, "convert", ConvertParams)
    schema = read.load_schema(document)
    was_empty = not any((root / RAW).rglob("*.json"))
    images_folder = options.images or (source if source.is_dir() else source.parent)
    labels = _read_labels(kind, source, images_folder, options, tell)
    labels.schema = put_into_normal_form(labels.schema)
    incoming, faults = _find_images([image for image in labels.images if not image.faulty], images_folder, tell)
    faulty = sorted([*labels.faults, *faults])
    if faulty and not options.skip_faulty:
        raise FaultsError(faulty, "correct them, or give --skip-faulty to go on without these images")
    if not incoming:
        raise AnnotationError(f"{source}: no image of these labels could be read")
    fits = holds(schema, labels.schema)
    needed = schema if fits else labels.schema if was_empty else merge_schemas(schema, labels.schema)
    flag = params.occluded_flag or "occluded"
    with scratch_folder(root, "import") as scratch:
        for image in follow(incoming, "copying images", tell):
            _write_image(scratch, image, flag)
        ahead = _read_as_convert(scratch, needed, params, tell).faults if needed.classes else []
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.rename(target)
    lines = [_headline(RAW / name, incoming, labels)]
    lines += _tell("repaired or assumed", labels.repairs) + _tell("not kept", labels.losses)
    lines += ["left out: " + format_faults(faulty)] if faulty else []
    lines += ["convert will find: " + format_faults(sorted(ahead))] if ahead else []
    if not params.occluded_flag:
        lines.append("convert.occluded_flag is empty: keypoints with the flag `occluded` will be read as visible")
    if not fits and options.write_schema:
        write_schema(root / PARAMS_FILE, needed)
    lines += _tell_schema(needed, fits=fits, written=options.write_schema)
    return "\n".join([*lines, "next: keypipe run --until split"])


def _read_as_convert(folder: Path, schema: Schema, params: ConvertParams, tell: Progress) -> Folder:
    return read_folder(folder, schema, params.options(), progress=partial(tell, "reading what was written"))


# --------------------------------------------------------------------------------------------- reading


def _read_labels(kind: Source, source: Path, images: Path, options: ImportOptions, tell: Progress) -> LabelSet:
    if not source.exists():
        raise AnnotationError(f"{source}: no such file or folder")
    if kind == "coco":
        return _read_coco(source, tell)
    if kind == "yolo":
        return _read_yolo(source, images, options, tell)
    return _read_dlc(source, options, tell)


def _read_coco(source: Path, tell: Progress) -> LabelSet:
    paths = [source] if source.is_file() else sorted(source.rglob("*.json"))
    if source.is_dir():
        paths = [path for path in paths if _looks_like_coco(path)]
    if not paths:
        raise AnnotationError(f"{source}: no COCO JSON in it")
    return merge_label_sets(parse_coco_labels(path.read_bytes(), path.name) for path in follow(paths, _READING, tell))


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    return any(f'"{key}"'.encode() in start for key in ("images", "annotations", "categories"))


def _read_yolo(source: Path, images: Path, options: ImportOptions, tell: Progress) -> LabelSet:
    if not source.is_dir():
        raise AnnotationError(f"{source}: give the folder of the dataset, with images and labels in it")
    texts = YoloTexts({}, {}, {}, _read_data_yaml(source), _read_classes(source))
    label_files = {name for name in list_files(source) if name.endswith(".txt") and not _is_listing(name)}
    unused = set(label_files)
    for name in follow(_list_images(images), _READING, tell):
        header = _read_header(images / name)
        if isinstance(header, str):
            continue  # found again, and told, when the image is looked for
        found = next((label for label in _label_names(name) if label in label_files), None)
        if found:
            unused.discard(found)
        texts.labels[name] = (source / found).read_text(encoding="utf-8-sig") if found else None
        texts.sizes_wh[name] = header
        texts.label_files[name] = found or name
    labels = parse_yolo_labels(texts, options.classes, options.keypoints)
    labels.faults += [
        Fault(name, None, "no-image", "no image has this label file's name", "add it, or delete the label file")
        for name in sorted(unused)
    ]
    return labels


def _label_names(image: str) -> list[str]:
    """Return where the labels of an image may lie: Ultralytics' rule, then beside it, then in ``labels`` beside it."""
    stem = PurePosixPath(image).with_suffix(".txt")
    parts = list(stem.parts)
    names: list[str] = []
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            names.append("/".join([*parts[:index], "labels", *parts[index + 1 :]]))
    return [*names, str(stem), str(stem.parent / "labels" / stem.name), f"labels/{stem}"]


def _is_listing(name: str) -> bool:
    """Tell whether a text file is one of lists or notes instead of labels."""
    stem = PurePosixPath(name).stem.lower()
    return stem in {"classes", "train", "val", "test", "autosplit_train", "autosplit_val", "labels"} or "readme" in stem


def _read_data_yaml(source: Path) -> dict[str, Any]:
    for path in sorted([*source.glob("*.yaml"), *source.glob("*.yml")]):
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise AnnotationError(f"{path.name}: no YAML: {error}") from error
        if isinstance(data, dict) and data.keys() & {"names", "kpt_shape"}:
            return data
    return {}


def _read_classes(source: Path) -> list[str]:
    for path in (source / "classes.txt", source / "labels" / "classes.txt"):
        if path.exists():
            return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return []


def _read_dlc(source: Path, options: ImportOptions, tell: Progress) -> LabelSet:
    paths = [source] if source.is_file() else sorted(source.rglob("CollectedData*.csv"))
    if not paths:
        raise AnnotationError(f"{source}: no CollectedData*.csv in it; give a DeepLabCut project or one of its videos")
    config = next((folder / "config.yaml" for folder in paths[0].parents if (folder / "config.yaml").exists()), None)
    loaded = yaml.safe_load(config.read_text(encoding="utf-8")) if config else {}
    class_name = options.classes[0] if options.classes else "animal"
    return merge_label_sets(
        parse_collected_data(
            path.read_text(encoding="utf-8-sig"),
            path.name,
            class_name,
            options.box_margin,
            loaded if isinstance(loaded, dict) else {},
        )
        for path in follow(paths, _READING, tell)
    )


# ---------------------------------------------------------------------------------------------- images


def _list_images(folder: Path) -> list[str]:
    return [name for name in list_files(folder) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]


def _read_header(path: Path) -> tuple[int, int] | str:
    """Return an image's width and height, upright; or what is wrong with it."""
    try:
        return parse_image_header(path.read_bytes()).size_wh
    except AnnotationError as error:
        return str(error)


def _find_images(images: Sequence[LabelledImage], folder: Path, tell: Progress) -> tuple[list[_Incoming], list[Fault]]:
    """Find each image's file by the end of its path, read its size, and choose its name below the new folder."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in _list_images(folder):
        by_name[PurePosixPath(name).name].append(name)
    found: list[_Incoming] = []
    faults: list[Fault] = []
    for image in follow(images, "looking for the images", tell):
        file = _best_match(image.name, by_name.get(PurePosixPath(image.name).name, []))
        if file is None:
            reason = f"no image of this name below {folder}, or several"
            faults.append(Fault(image.name, None, "no-image", reason, "give their folder with --images"))
            continue
        size = _read_header(folder / file)
        if isinstance(size, str):
            faults.append(Fault(image.name, None, "bad-image", size, "restore the image"))
        elif image.size_wh is not None and image.size_wh != size:
            turned = image.size_wh == size[::-1]
            reason = "the labels are for {}x{} px, the image is {}x{} px".format(*image.size_wh, *size)
            hint = "the labels ignore its EXIF orientation: turn its pixels" if turned else "restore the image"
            faults.append(Fault(image.name, None, "size-mismatch", reason, hint))
        else:
            found.append(_Incoming(image, folder / file, size, file))
    _choose_targets(found)
    return found, faults


def _best_match(name: str, files: Sequence[str]) -> str | None:
    """Return the file that shares the longest end of its path with a name; None when two share it."""
    wanted = PureWindowsPath(name).parts[::-1]

    def shared(file: str) -> int:
        parts = PurePosixPath(file).parts[::-1]
        return next(
            (n for n, (a, b) in enumerate(zip(wanted, parts, strict=False)) if a != b), min(len(wanted), len(parts))
        )

    ranked = sorted(files, key=shared, reverse=True)
    if not ranked or (len(ranked) > 1 and shared(ranked[0]) == shared(ranked[1])):
        return None
    return ranked[0]


def _choose_targets(images: Sequence[_Incoming]) -> None:
    """Drop folders of the layout from the names, and keep stems apart: labelme's JSON has the image's stem."""
    for image in images:
        path = PurePosixPath(image.target)
        image.target = str(PurePosixPath(*(part for part in path.parts[:-1] if part not in _LAYOUT_FOLDERS), path.name))
    stems = Counter(str(PurePosixPath(image.target).with_suffix("")).lower() for image in images)
    taken: set[str] = set()
    for image in images:
        path = PurePosixPath(image.target)
        name = path
        if stems[str(path.with_suffix("")).lower()] > 1:
            name = path.with_name(f"{path.stem}_{path.suffix[1:]}{path.suffix}")
        number = 2
        while str(name.with_suffix("")).lower() in taken:
            name = path.with_name(f"{path.stem}_{number}{path.suffix}")
            number += 1
        taken.add(str(name.with_suffix("")).lower())
        image.target = str(name)


def _write_image(folder: Path, image: _Incoming, occluded_flag: str) -> None:
    path = folder / image.target
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image.file, path)
    shapes = to_shapes(image.labels.instances, occluded_flag)
    for group, keypoints in enumerate(image.labels.loose, start=len(image.labels.instances) + 1):
        shapes += to_points(keypoints, group, occluded_flag)
    text = format_labelme(shapes, path.name, image.size_wh)
    path.with_suffix(".json").write_text(text, encoding="utf-8", newline="\n")


# --------------------------------------------------------------------------------------------- telling


def _headline(folder: Path, images: Sequence[_Incoming], labels: LabelSet) -> str:
    instances = [instance for image in images for instance in image.labels.instances]
    points = sum(len(instance.keypoints) for instance in instances)
    occluded = sum(point.visibility == 1 for instance in instances for point in instance.keypoints.values())
    counts = f"{len(images)} images, {len(instances)} objects, {points} keypoints ({occluded} occluded)"
    return f"{folder}: {counts}; classes {', '.join(labels.schema.class_names) or 'none'}"


def _tell(title: str, counts: Counter[str]) -> list[str]:
    found = [f"  {text} ({count})" for text, count in sorted(counts.items()) if count]
    return [f"{title}:", *found] if found else []


def _tell_schema(needed: Schema, *, fits: bool, written: bool) -> list[str]:
    if fits:
        return ["params.yaml: its schema holds these labels already"]
    hint = "is now" if written else "does not hold these labels; write this into it, or let --write-schema do it"
    return [f"params.yaml: its schema {hint}:", format_schema(needed).rstrip()]
