"""Labels of other tools into ``data/raw``, as labelme files that annotators can go on with."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import format_labelme, to_points, to_shapes
from keypipe.annotations.readings import Folder
from keypipe.errors import AnnotationError, ConfigError, Fault, FaultsError, format_faults, sort_faults
from keypipe.exchange.labels import LabelSet, holds, merge_schemas, put_into_normal_form
from keypipe.exchange.spellings import take_spellings
from keypipe.keypoints.skeleton import Schema
from tasks.commands.sources.import_images import Incoming, find_images
from tasks.commands.sources.kept_splits import Kept, describe_splits, keep_splits, write_kept
from tasks.commands.sources.label_sources import Source, SourceOptions, locate, read_labels
from tasks.commands.writing.schema_text import format_schema, write_schema
from tasks.convert import ConvertParams
from tasks.progress import Progress, follow, tell_nobody
from tasks.split import SplitParams
from tasks.workspace import params as read
from tasks.workspace.places import PARAMS_FILE, RAW
from tasks.workspace.scratch import scratch_folder


class ImportOptions(SourceOptions, frozen=True, kw_only=True):
    """How to read labels of other tools, and what becomes of them.

    Attributes:
        name: of the folder below ``data/raw``; default: the source's name.
        write_schema: add what is missing to the schema in ``params.yaml``.
        skip_faulty: leave out images with a fault instead of refusing all.
        keep_splits: write the source's splits into the manifest.
    """

    name: str | None = None
    write_schema: bool = False
    skip_faulty: bool = False
    keep_splits: bool = False


def import_labels(
    root: Path, kind: Source, source: Path, options: ImportOptions | None = None, progress: Progress | None = None
) -> str:
    """Write labels of another tool as labelme files, with copies of the images, into a new folder of ``data/raw``.

    Args:
        root: the workspace.
        kind: ``coco`` (a JSON, or a folder of such), ``yolo`` (a YOLO-pose folder or its ``data.yaml``), ``dlc`` (a
            DeepLabCut project, one of its videos, or a ``CollectedData*.csv``) or ``sleap`` (a ``.slp``).
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
    target = root / RAW / _check_name(root, options.name or _name_of(source))
    document = read.read_params(root)
    params = read.load_section(document, "convert", ConvertParams)
    split_params = read.load_section(document, "split", SplitParams)
    schema = read.load_schema(document)
    was_empty = not any((root / RAW).rglob("*.json"))
    with scratch_folder(root, "frames") as frames, scratch_folder(root, "import") as scratch:
        labels, incoming, faulty, notes = _read(kind, source, options, schema, frames, tell)
        fits = holds(schema, labels.schema)
        needed = schema if fits else labels.schema if was_empty else merge_schemas(schema, labels.schema)
        ahead = _write(scratch, incoming, needed, params, tell)
        kept = keep_splits(root, Path(target.name), incoming, ahead, split_params) if options.keep_splits else None
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch.rename(target)
    if kept:
        write_kept(root, kept.manifest)
    if not fits and options.write_schema:
        write_schema(root / PARAMS_FILE, needed)
    lines = _tell_all(RAW / target.name, incoming, labels, faulty, ahead.faults if ahead else [], kept)
    lines[1:1] = notes
    if not params.occluded_flag:
        lines.append("convert.occluded_flag is empty: keypoints with the flag `occluded` will be read as visible")
    if not any(points for points, _ in labels.list_objects()):
        return "\n".join([*lines, *_tell_no_keypoints(labels)])
    lines += _tell_schema(needed, fits=fits, written=options.write_schema)
    return "\n".join([*lines, "next: keypipe run --until split"])


def _name_of(source: Path) -> str:
    is_data_yaml = source.suffix.lower() in {".yaml", ".yml"}
    return source.resolve().parent.name if is_data_yaml else source.stem if source.is_file() else source.resolve().name


def _check_name(root: Path, name: str) -> str:
    if PurePosixPath(name).parts != (name,) or name.startswith("."):
        raise ConfigError(f"{name!r} cannot name a folder below {RAW}; give another with --name")
    if (root / RAW / name).exists():
        raise ConfigError(f"{RAW / name} is there already; give another name with --name, or move it away")
    return name


def _read(
    kind: Source, source: Path, options: ImportOptions, schema: Schema, frames: Path, tell: Progress
) -> tuple[LabelSet, list[Incoming], list[Fault], list[str]]:
    """Return what was read, the images that can be taken, the faults of the others, and notes about names."""
    origin = locate(kind, source, options, frames)
    labels = read_labels(kind, origin, options, tell)
    labels.schema = put_into_normal_form(labels.schema)
    notes = take_spellings(labels, schema)
    incoming, faults = find_images(labels, origin.images, tell, leave=options.follow_links)
    faulty = sort_faults([*labels.faults, *faults])
    if faulty and not options.skip_faulty:
        raise FaultsError(faulty, "correct them, or give --skip-faulty to go on without these images")
    if not incoming:
        raise AnnotationError(f"{source}: no image of these labels could be read")
    return labels, incoming, faulty, notes


def _write(
    folder: Path, images: Sequence[Incoming], schema: Schema, params: ConvertParams, tell: Progress
) -> Folder | None:
    """Write images and labelme files, and read them as convert will."""
    for image in follow(images, "copying images", tell):
        _write_image(folder, image, params.occluded_flag or "occluded")
    if not schema.classes:
        return None
    return read_folder(folder, schema, params.options(), progress=partial(tell, "reading what was written"))


def _write_image(folder: Path, image: Incoming, occluded_flag: str) -> None:
    path = folder / image.target
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image.file, path)
    shapes = to_shapes(image.labels.instances, occluded_flag)
    for group, keypoints in enumerate(image.labels.loose, start=len(image.labels.instances) + 1):
        shapes += to_points(keypoints, group, occluded_flag)
    text = format_labelme(shapes, path.name, image.size_wh)
    path.with_suffix(".json").write_text(text, encoding="utf-8", newline="\n")


# --------------------------------------------------------------------------------------------- telling


def _tell_all(
    folder: Path,
    images: Sequence[Incoming],
    labels: LabelSet,
    faulty: Sequence[Fault],
    ahead: Sequence[Fault],
    kept: Kept | None,
) -> list[str]:
    lines = [_headline(folder, images, labels)]
    losses = labels.losses
    described = describe_splits(images)
    if not kept and "," in described:  # a single one is no split
        losses = losses + Counter({f"the source's splits, {described}: --keep-splits keeps them": 1})
    lines += _tell("repaired or assumed", labels.repairs) + _tell("not kept", losses)
    lines += kept.told if kept else []
    lines += ["left out: " + format_faults(faulty)] if faulty else []
    lines += ["convert will find: " + format_faults(sort_faults(ahead))] if ahead else []
    return lines


def _headline(folder: Path, images: Sequence[Incoming], labels: LabelSet) -> str:
    instances = [instance for image in images for instance in image.labels.instances]
    points = sum(len(instance.keypoints) for instance in instances)
    occluded = sum(point.visibility == 1 for instance in instances for point in instance.keypoints.values())
    counts = f"{len(images)} images, {len(instances)} objects, {points} keypoints ({occluded} occluded)"
    return f"{folder}: {counts}; classes {', '.join(labels.schema.class_names) or 'none'}"


def _tell(title: str, counts: Counter[str]) -> list[str]:
    found = [f"  {text} ({count})" for text, count in sorted(counts.items()) if count]
    return [f"{title}:", *found] if found else []


def _tell_no_keypoints(labels: LabelSet) -> list[str]:
    """Say that nothing can be learnt from labels of boxes alone, and what to do."""
    what = "no keypoint is labelled" if labels.schema.classes else "these labels have no keypoints, only boxes"
    return [
        f"{what}: a pose model cannot be trained on them",
        "next: import the file that has the keypoints, or draw them in labelme and name them in schema.classes",
    ]


def _tell_schema(needed: Schema, *, fits: bool, written: bool) -> list[str]:
    if fits:
        return ["params.yaml: its schema holds these labels already"]
    hint = "is now" if written else "does not hold these labels; write this into it, or let --write-schema do it"
    return [f"params.yaml: its schema {hint}:", format_schema(needed).rstrip()]
