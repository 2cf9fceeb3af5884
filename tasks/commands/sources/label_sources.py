"""Opens the files of other tools for the importers of ``keypipe.exchange``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
import yaml

from keypipe.annotations.folder import NOT_READABLE_FIX
from keypipe.errors import AnnotationError, Fault, FaultsError
from keypipe.exchange.coco import is_coco, parse_coco_document
from keypipe.exchange.deeplabcut import parse_collected_data
from keypipe.exchange.labels import LabelSet, merge_label_sets
from keypipe.exchange.splits import split_of_path, splits_of_data_yaml
from keypipe.exchange.yolo import YoloOptions, YoloTexts, parse_yolo_labels
from keypipe.exchange.yolo_rows import holds_rows
from keypipe.files.foreign import FOREIGN_SUFFIXES, describe_file, describe_json
from keypipe.files.listing import FOLDERS, OUTSIDE, list_files, look_through
from keypipe.files.texts import decode_text, parse_json
from keypipe.images.formats import IMAGE_SUFFIXES, UNREAD_FIX, name_unread
from keypipe.images.lookup import ImageFolder, fold
from tasks.commands.sources.import_images import FOLLOW_FIX, list_images, read_size
from tasks.commands.sources.sleap_source import read_sleap
from tasks.progress import Progress, follow

Source = Literal["coco", "yolo", "dlc", "sleap"]

_READING = "reading labels"
_LISTINGS = {"classes", "train", "val", "valid", "test", "autosplit_train", "autosplit_val", "autosplit_test", "labels"}
_START = 1 << 14  # bytes that tell what a file is
_MAX_LOOKED_AT = 50  # files of a folder of something else


class SourceOptions(msgspec.Struct, frozen=True):
    """How to read labels of other tools.

    Attributes:
        images: folder of the images, where it is not the source's.
        classes: class names by id (yolo), or what to call the animals (dlc).
        keypoints: keypoint names in order (yolo).
        kpt_shape: number of keypoints, and of values for each (yolo).
        box_margin: margin of boxes that are derived, as a share of the longer side of the points' extent.
        encoding: of texts that are neither UTF-8 nor UTF-16.
        follow_links: read files that links out of the folders lead to.
    """

    images: Path | None = None
    classes: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    kpt_shape: tuple[int, int] | None = None
    box_margin: float = 0.1
    encoding: str | None = None
    follow_links: bool = False


class Origin(msgspec.Struct, frozen=True):
    """Where labels and images lie.

    Attributes:
        labels: the file of labels, or the folder of them.
        images: the folder of the images.
    """

    labels: Path
    images: Path


def locate(kind: Source, source: Path, options: SourceOptions, frames: Path) -> Origin:
    """Return where labels and images lie.

    Args:
        kind: of the labels.
        source: what the user gave; of a YOLO folder its ``data.yaml`` will do.
        options: how to read them.
        frames: an empty folder, for the frames of videos.

    Raises:
        AnnotationError: there is nothing.
    """
    if not source.exists():
        raise AnnotationError(f"{source}: no such file or folder")
    if kind == "yolo" and source.suffix.lower() in {".yaml", ".yml"}:
        data = read_mapping(source, options.encoding)
        return Origin(source, options.images or _images_of_data_yaml(source, data.get("path")))
    if kind == "sleap":
        return Origin(source, frames)
    return Origin(source, options.images or (source if source.is_dir() else source.parent))


def _images_of_data_yaml(source: Path, path: Any) -> Path:
    """Return the folder that a ``data.yaml`` names, if it is there: it must not lead to any other files of a user."""
    folder = source.parent / path if isinstance(path, str) and path else source.parent
    if not folder.is_dir():
        return source.parent
    if not folder.resolve().is_relative_to(source.parent.resolve()):
        raise AnnotationError(
            f"{source}: its `path: {path}` leads out of its folder; if the images are there, name it with --images"
        )
    return folder


def read_labels(kind: Source, origin: Origin, options: SourceOptions, tell: Progress) -> LabelSet:
    """Read labels of another tool.

    Args:
        kind: of the labels.
        origin: where they lie.
        options: how to read them.
        tell: is told how far it is.

    Raises:
        AnnotationError: nothing there that could be read; says what is there instead, where it can.
        ConfigError: names or shapes do not fit the data.
    """
    reader = {"coco": _read_coco, "yolo": _read_yolo, "dlc": _read_dlc, "sleap": _read_sleap}[kind]
    return reader(origin, options, tell)


# -------------------------------------------------------------------------------------------------- COCO


def _read_coco(origin: Origin, options: SourceOptions, tell: Progress) -> LabelSet:
    source = origin.labels
    if source.is_file():
        return _read_coco_file(source, options, tell)
    files, unreadable = look_through(source, follow=True, leave=options.follow_links)
    names = [name for name in files if name.lower().endswith(".json")]
    others: Counter[str] = Counter()
    faults = [*_list_unreadable(unreadable, (".json",))]
    merged = merge_label_sets(_read_coco_files(source, names, options, others, faults, tell))
    if not merged.images and not faults:
        told = next(iter(others), None) or find_foreign(source)
        raise AnnotationError(f"{source}: no COCO JSON in it" + (f"; {told}" if told else ""))
    merged.losses.update({f"files that are no COCO, such as {told}": count for told, count in others.items()})
    merged.faults += faults
    return merged


def _read_coco_file(source: Path, options: SourceOptions, tell: Progress) -> LabelSet:
    if source.suffix.lower() != ".json":  # a JSON is parsed below, and called there what it is
        _refuse_foreign(source, "coco")
    (content,) = [path.read_bytes() for path in follow([source], _READING, tell)]
    document = parse_json(content, source.name, options.encoding)
    return _with_splits(parse_coco_document(document, source.name, options.box_margin), source.name)


def _read_coco_files(
    source: Path,
    names: Sequence[str],
    options: SourceOptions,
    others: Counter[str],
    faults: list[Fault],
    tell: Progress,
) -> Iterator[LabelSet]:
    seen: dict[str, str] = {}
    for name in follow(names, _READING, tell):
        try:
            document = parse_json((source / name).read_bytes(), name, options.encoding)
        except AnnotationError as error:
            found = str(error).removeprefix(f"{name}: ")
            faults.append(Fault(name, None, "broken-json", found, "restore it, or take it out of the folder"))
            continue
        if is_coco(document):
            yield _with_splits(parse_coco_document(document, name, options.box_margin), name)
        else:
            told = describe_json(document) or "JSON of something else"
            others[seen.setdefault(told, f"{name}, which is {told}")] += 1


def _with_splits(labels: LabelSet, name: str) -> LabelSet:
    split = split_of_path(name, with_name=True)
    for image in labels.images:
        image.split = split or split_of_path(image.name)
    return labels


# -------------------------------------------------------------------------------------------------- YOLO


def _read_yolo(origin: Origin, options: SourceOptions, tell: Progress) -> LabelSet:
    source = origin.labels if origin.labels.is_dir() else origin.images
    if origin.labels.is_file() and origin.labels.suffix.lower() not in {".yaml", ".yml"}:
        _refuse_foreign(origin.labels, "yolo")
        raise AnnotationError(f"{origin.labels}: give the folder of the dataset, with images and labels in it")
    data = read_mapping(origin.labels, options.encoding) if origin.labels.is_file() else {}
    texts = YoloTexts({}, {}, {}, data or _find_data_yaml(source, options.encoding))
    files, unreadable = look_through(source, follow=True, leave=options.follow_links)
    candidates = {name for name in files if name.lower().endswith(".txt")}
    unused = set(candidates)
    folded = {fold(name): name for name in sorted(candidates, reverse=True)}
    for name in follow(list_images(origin.images, leave=options.follow_links), _READING, tell):
        size = read_size(origin.images / name)
        if isinstance(size, str):
            continue  # found again, and told, when the image is looked for
        found, text = _find_label_file(name, source, candidates, folded, options.encoding)
        if not found and not unreadable.keys().isdisjoint(_label_names(name)):
            continue  # told below
        if found:
            unused.discard(found)
        texts.labels[name], texts.sizes_wh[name], texts.label_files[name] = text, size, found or name
    if not texts.labels or all(text is None for text in texts.labels.values()):
        _refuse_without_labels(source, origin.images, len(texts.labels), _list_row_files(source, candidates))
    texts.classes = _read_classes(source, unused, options.encoding)
    yolo_options = YoloOptions(options.classes, options.keypoints, options.kpt_shape, options.box_margin)
    labels = parse_yolo_labels(texts, yolo_options)
    splits = splits_of_data_yaml(texts.data, texts.labels, lambda name: _read_lines(source / name, options.encoding))
    for image in labels.images:
        image.split = splits.get(image.name, "")
    labels.faults += _list_unreadable(unreadable, (".txt", *IMAGE_SUFFIXES))
    there = list_files(origin.images, follow=True, leave=options.follow_links)
    labels.faults += _check_unused(source, unused, ImageFolder(there), options.encoding)
    return labels


def _list_unreadable(unreadable: Mapping[str, str], suffixes: tuple[str, ...]) -> Iterator[Fault]:
    """Yield a fault for every link, pipe or folder that hides a file with one of the suffixes."""
    for name, what in unreadable.items():
        if name.lower().endswith(suffixes) or what.startswith(FOLDERS):
            yield Fault(name, None, "not-readable", what, FOLLOW_FIX if what.startswith(OUTSIDE) else NOT_READABLE_FIX)


def _list_row_files(source: Path, names: Iterable[str]) -> list[str]:
    """Return the files that hold rows of labels."""
    return [name for name in sorted(names) if holds_rows((source / name).read_bytes().decode("ascii", "replace"))]


def _refuse_without_labels(source: Path, images: Path, n_images: int, row_files: Sequence[str]) -> None:
    if n_images and row_files:
        raise AnnotationError(
            f"{source}: none of its {len(row_files)} label files, such as {row_files[0]}, is called as one of the"
            f" {n_images} images in {images}; both need the same stem in the same subfolder"
        )
    told = find_foreign(source)
    if told or not n_images:
        lacking = (
            f"no label file beside its {n_images} images" if n_images else f"no image that can be read in {images}"
        )
        unread = [name for name in list_files(images, follow=True, leave=False) if name_unread(name)]
        if not n_images and unread:
            told = f"the format of {unread[0]}, {name_unread(unread[0])}, is not read; {UNREAD_FIX}"
        raise AnnotationError(f"{source}: {lacking}; {told or 'give their folder with --images'}")


def _find_label_file(
    image: str, source: Path, candidates: set[str], folded: Mapping[str, str], encoding: str | None
) -> tuple[str | None, str | None]:
    """Return an image's label file and its text; a file of a listing's name is one only if it holds rows.

    One in another letter case or Unicode form is taken where none has the very name.
    """
    names = _label_names(image)
    for name in [*names, *(folded.get(fold(name), "") for name in names)]:
        if name in candidates:
            text = decode_text((source / name).read_bytes(), name, encoding)
            if PurePosixPath(name).stem.lower() not in _LISTINGS or not text.strip() or holds_rows(text):
                return name, text
    return None, None


def _label_names(image: str) -> list[str]:
    """Return where the labels of an image may lie: Ultralytics' rule, then beside it, then in ``labels`` beside it."""
    stem = PurePosixPath(image).with_suffix(".txt")
    parts = list(stem.parts)
    names: list[str] = []
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            names.append("/".join([*parts[:index], "labels", *parts[index + 1 :]]))
    return [*names, str(stem), str(stem.parent / "labels" / stem.name), f"labels/{stem}"]


def _check_unused(source: Path, unused: Iterable[str], images: ImageFolder, encoding: str | None) -> Iterator[Fault]:
    """Yield a fault for every label file without an image; lists, notes and class names are passed over."""
    for name in sorted(unused):
        stem = PurePosixPath(name).stem.lower()
        if "readme" in stem:
            continue
        content = (source / name).read_bytes()
        if stem in _LISTINGS and not holds_rows(content.decode("ascii", "replace")):
            continue
        if content.strip() and not holds_rows(decode_text(content, name, encoding)):
            continue
        if unread := images.find_unread(name):
            found = f"{unread}: its format, {name_unread(unread)}, is not read"
            yield Fault(name, None, "image-not-read", found, UNREAD_FIX)
            continue
        found = "no image has this label file's name"
        yield Fault(name, None, "no-image", found, "add it, or delete the label file")


def _find_data_yaml(source: Path, encoding: str | None) -> dict[str, Any]:
    for path in sorted([*source.glob("*.yaml"), *source.glob("*.yml")]):
        try:
            data = read_mapping(path, encoding)
        except AnnotationError:
            if path.stem in {"data", "dataset"}:
                raise
            continue  # some other YAML
        if data.keys() & {"names", "kpt_shape"}:
            return data
    return {}


def read_mapping(path: Path, encoding: str | None) -> dict[str, Any]:
    """Read a YAML mapping; names such as ``yes`` and ``12:30`` stay texts.

    Raises:
        AnnotationError: no YAML, no mapping, or in an unknown encoding.
    """
    text = decode_text(path.read_bytes(), path.name, encoding)
    try:
        if "*" in text and _count_values(yaml.compose(text, Loader=yaml.BaseLoader), {}) > _MOST_VALUES:
            raise AnnotationError(f"{path.name}: aliases of aliases, which stand for more than {_MOST_VALUES} values")
        data = yaml.load(text, Loader=yaml.BaseLoader)
    except RecursionError as error:
        raise AnnotationError(f"{path.name}: brackets in brackets by the hundred; no data.yaml has these") from error
    except (yaml.YAMLError, ValueError) as error:
        raise AnnotationError(f"{path.name}: no YAML: {error}") from error
    if data and not isinstance(data, dict):
        raise AnnotationError(f"{path.name}: a {type(data).__name__}; expected keys such as `names:` and `kpt_shape:`")
    plain = {key: value for key, value in (data or {}).items() if isinstance(key, str)}
    return {key: value for key, value in plain.items() if value not in ("", "null", "~")}


_MOST_VALUES = 100_000
"""A kilobyte of YAML can stand for more values than memory holds, by aliases of aliases."""


def _count_values(node: Any, known: dict[int, int]) -> int:
    """Return for how many values a node of YAML stands, with all that its aliases repeat.

    Raises:
        RecursionError: it is inside of itself.
    """
    if id(node) not in known:
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    return known[id(node)]


def _read_classes(source: Path, unused: set[str], encoding: str | None) -> list[str]:
    for name in ("classes.txt", "labels/classes.txt", "obj.names", "classes.names"):
        if (source / name).is_file() and (name in unused or not name.endswith(".txt")):
            return [line.strip() for line in _read_lines(source / name, encoding) if line.strip()]
    return []


def _read_lines(path: Path, encoding: str | None) -> list[str]:
    return decode_text(path.read_bytes(), path.name, encoding).splitlines() if path.is_file() else []


# -------------------------------------------------------------------------------------------- DeepLabCut


def _read_dlc(origin: Origin, options: SourceOptions, tell: Progress) -> LabelSet:
    source = origin.labels
    if source.is_file():
        _refuse_foreign(source, "dlc")
    files, unreadable = ([], {}) if source.is_file() else look_through(source, follow=True, leave=options.follow_links)
    tables = [name for name in (*files, *unreadable) if fnmatchcase(PurePosixPath(name).name, "CollectedData*.csv")]
    if faults := [*_list_unreadable(unreadable, tuple(name.lower() for name in tables))]:
        raise FaultsError(faults)
    paths = [source] if source.is_file() else [source / name for name in tables]
    if not paths:
        told = find_foreign(source) or "give a DeepLabCut project or one of its videos"
        raise AnnotationError(f"{source}: no CollectedData*.csv in it; {told}")
    config = next((folder / "config.yaml" for folder in paths[0].parents if (folder / "config.yaml").exists()), None)
    loaded = read_mapping(config, options.encoding) if config else {}
    class_name = options.classes[0] if options.classes else "animal"
    return merge_label_sets(
        parse_collected_data(
            decode_text(path.read_bytes(), path.name, options.encoding),
            path.name,
            class_name,
            options.box_margin,
            loaded,
        )
        for path in follow(paths, _READING, tell)
    )


# ------------------------------------------------------------------------------------------------- SLEAP


def _read_sleap(origin: Origin, options: SourceOptions, tell: Progress) -> LabelSet:
    source = origin.labels
    if source.is_dir():
        found = [
            source / name
            for name in list_files(source, follow=True, leave=options.follow_links)
            if name.endswith(".slp")
        ]
        if len(found) != 1:
            told = f"{len(found)} .slp files in it" if found else find_foreign(source) or "no .slp in it"
            raise AnnotationError(f"{source}: give one .slp or .pkg.slp file; {told}")
        source = found[0]
    _refuse_foreign(source, "sleap")
    class_name = options.classes[0] if options.classes else None
    return read_sleap(source, origin.images, class_name, options.box_margin, tell)


# ------------------------------------------------------------------------------------- other tools' files


def _refuse_foreign(path: Path, own: str) -> None:
    """Refuse a file that is not what an importer reads.

    Args:
        path: of the file.
        own: the importer's name.

    Raises:
        AnnotationError: it is known to be something else.
    """
    told = describe(path)
    if told and f"`keypipe import {own}` reads it" not in told:
        raise AnnotationError(f"{path.name}: this is {told}")


def describe(path: Path) -> str | None:
    """Say what a file of another tool is, and what to do; None if that cannot be told."""
    with path.open("rb") as file:
        told = describe_file(path.name, file.read(_START))
    if told is None and path.suffix.lower() == ".json":
        try:
            return describe_json(parse_json(path.read_bytes(), path.name))
        except AnnotationError:
            return None
    return told


def find_foreign(folder: Path) -> str | None:
    """Say what files of another tool a folder holds, and what to do; None if there are none that are known."""
    names = [name for name in list_files(folder, follow=True, leave=False) if not name.lower().endswith(IMAGE_SUFFIXES)]
    for suffix in FOREIGN_SUFFIXES:
        for name in [name for name in names if name.lower().endswith(suffix)][:_MAX_LOOKED_AT]:
            if told := describe(folder / name):
                return f"{name} is {told}"
    texts = [name for name in names if name.lower().endswith(".txt")][:_MAX_LOOKED_AT]
    rows = [name for name in texts if holds_rows((folder / name).read_bytes().decode("ascii", "replace"))]
    return f"{rows[0]} looks like YOLO's labels: `keypipe import yolo` reads them" if rows else None
