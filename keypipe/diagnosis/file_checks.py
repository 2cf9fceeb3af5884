"""Checks of single files and their shapes, for the diagnosis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from keypipe.annotations.folder import near_misses
from keypipe.annotations.labelme import LabelmeError, LabelmeFile, LabelmeShape, parse_labelme
from keypipe.annotations.readings import Folder, Ingested
from keypipe.annotations.shapes import OF_IGNORED_OBJECT
from keypipe.diagnosis.findings import Finding, Point, Severity, to_finding
from keypipe.errors import Fault, format_count
from keypipe.images.formats import SUFFIXES_BY_FORMAT
from keypipe.keypoints.boxes import bounds
from keypipe.keypoints.names import OWN_NAMES, find_look_alikes, spelling_key
from keypipe.keypoints.skeleton import Schema

_QUOTES = "'\""


def _read_file(raw: Path, source: str, encoding: str | None) -> LabelmeFile | None:
    try:
        return parse_labelme((raw / source).read_bytes(), encoding)
    except (OSError, LabelmeError):
        return None


def locate_faults(folder: Folder, raw: Path, schema: Schema) -> list[Finding]:
    """Make findings of the faults, with the shape's class and place, and what a group with several boxes repeats."""
    by_file: dict[str, list[Fault]] = defaultdict(list)
    for fault in folder.faults:
        by_file[fault.file].append(fault)
    files = (reading.file for reading in folder.files.readings()) if by_file else ()
    image_of = {file.source: f"raw/{file.raw_image}" for file in files if file.source in by_file and file.raw_image}
    findings: list[Finding] = []
    for source, faults in by_file.items():
        found = [msgspec.structs.replace(to_finding(fault), image=image_of.get(source, "")) for fault in faults]
        is_there = source.lower().endswith(".json") and faults[0].kind != "not-readable"
        file = _read_file(raw, source, folder.encoding) if is_there else None
        if file:
            found = [_locate(item, file, schema) for item in found]
            for item in found.copy():
                if item.kind == "several-boxes-in-group":
                    found += _find_repeats_in_group(item, file, schema, folder.ignored)
        findings += found
    return findings


def find_one_name(faults: Sequence[Fault], schema: Schema) -> list[Finding]:
    """Find, once for a folder and not at every object, that every point has the same name.

    Args:
        faults: of the folder.
        schema: classes and keypoints.

    Returns:
        One finding where every class has one keypoint alone, and most faults are of objects that have it twice and
        more; it stands for these faults.
    """
    keypoints = [skeleton.keypoints for skeleton in schema.classes.values()]
    repeated = sum(fault.kind == "repeated-keypoint" for fault in faults)
    if any(len(names) != 1 for names in keypoints) or repeated < 2 or 2 * repeated <= len(faults):
        return []
    names = " and ".join(dict.fromkeys(repr(name) for (name,) in keypoints))
    message = f"{repeated} points stand in an object beside another one called {names}, the only keypoint there is"
    fix = f"{OWN_NAMES}, and put the names into schema.classes of params.yaml"
    return [Finding(kind="one-name", severity="error", file="", message=message, fix=fix)]


def _locate(finding: Finding, file: LabelmeFile, schema: Schema) -> Finding:
    if finding.shape is None or finding.shape >= len(file.shapes):
        return finding
    shape = file.shapes[finding.shape]
    if not shape.points:
        return finding
    box: LabelmeShape | None = shape
    points: tuple[Point, ...] = ()
    if shape.shape_type == "point":
        points = tuple(shape.points)
        box = _box_of_point(shape, file, schema)
    place = bounds(box.points) if box else None
    class_name = schema.class_labels.get(box.name, "") if box else ""
    keypoints = (shape.name,) if points else ()
    return msgspec.structs.replace(finding, class_name=class_name, box_xyxy=place, keypoints=keypoints, points=points)


def _box_of_point(point: LabelmeShape, file: LabelmeFile, schema: Schema) -> LabelmeShape | None:
    """Find the box of a point's group that is nearest to it; without a group the nearest that holds it."""
    classes = schema.class_labels
    boxes = [shape for shape in file.shapes if shape.name in classes and len(shape.points) >= 2]
    grouped = [box for box in boxes if box.group == point.group] if point.group is not None else []
    x, y = point.points[0]

    def distances(box: LabelmeShape) -> tuple[float, float]:
        left, top, right, bottom = bounds(box.points)
        outside = max(left - x, x - right, top - y, y - bottom, 0.0)
        return outside, abs(left + right - 2 * x) + abs(top + bottom - 2 * y)

    return min(grouped or [box for box in boxes if distances(box)[0] == 0], key=distances, default=None)


def _find_repeats_in_group(
    finding: Finding, file: LabelmeFile, schema: Schema, ignored: Mapping[str, int]
) -> list[Finding]:
    """Find the keypoints that a group with several boxes holds more than once; circles where these are taken."""
    assert finding.shape is not None
    group = file.shapes[finding.shape].group
    names = schema.keypoint_labels
    first: dict[str, int] = {}
    repeats: list[Finding] = []
    for index, shape in enumerate(file.shapes):
        name = names.get(shape.name)
        is_taken = shape.shape_type in ("point", "circle") and f"{shape.shape_type} {shape.name}" not in ignored
        if not is_taken or shape.group != group or name is None:
            continue
        earlier = first.setdefault(name, index)
        if earlier != index:
            message = f"{name!r} is there twice in group {group} (also shape {earlier})"
            fix = "give every object a group_id of its own; where there is but one object, delete one of the two"
            found = msgspec.structs.replace(finding, kind="repeated-keypoint", shape=index, message=message, fix=fix)
            repeats.append(_locate(found, file, schema))
    return repeats


def find_labels(folder: Folder, raw: Path, schema: Schema) -> list[Finding]:
    """Find labels outside the schema: every shape with a misspelt one, and one example of each of the others."""
    misspelt = near_misses(folder.ignored, schema)
    total = {key: count for key, count in folder.ignored.items() if not key.endswith(OF_IGNORED_OBJECT)}
    suspicious = {key for key in total if key.partition(" ")[2] in misspelt or _is_known(key, schema)}
    findings: list[Finding] = []
    seen: set[str] = set()
    at_fault = {(fault.file, fault.shape) for fault in folder.faults}
    for file in (reading.file for reading in folder.files.readings()) if total else ():
        new = [key for key in file.ignored if key in total and key not in seen and key not in suspicious]
        seen.update(new)
        if not new and not suspicious & file.ignored.keys():
            continue
        parsed = _read_file(raw, file.source, folder.encoding)
        for index, shape in enumerate(parsed.shapes if parsed else ()):
            key = f"{shape.shape_type} {shape.name}"
            if (file.source, index) in at_fault:
                continue
            if key in suspicious:
                findings.append(_to_suspicious(file, index, shape, misspelt))
            elif key in new:
                new.remove(key)
                findings.append(_to_unknown(file, index, shape, total[key]))
    return findings


def find_spellings(folder: Folder, schema: Schema) -> list[Finding]:
    """Find labels that are read as a name they are not spelt like, and names of the schema that look like one."""
    findings: list[Finding] = []
    for key, count in sorted(folder.aliased.items()):
        written, _, name = key.rpartition(" -> ")
        if written[0] in _QUOTES or spelling_key(written) == spelling_key(name):
            message = f"the label {written.strip(_QUOTES)!r} ({format_count(count, 'time')}) is read as {name!r}"
            fix = f"nothing has to be done; renamed to {name!r} they would be one for other programs as well"
            findings.append(Finding(kind="other-spelling", severity="warning", file="", message=message, fix=fix))
    both = [("classes", alike) for alike in find_look_alikes(schema.class_names)]
    for what, alike in [*both, *(("keypoints", alike) for alike in find_look_alikes(schema.slots))]:
        message = f"the {what} {' and '.join(map(repr, alike))} differ only in how they are spelt"
        fix = f"if they mean the same, keep one in the schema and put the other under schema.aliases, as {alike[0]!r}"
        findings.append(Finding(kind="look-alike-names", severity="warning", file="", message=message, fix=fix))
    return findings


def _is_known(key: str, schema: Schema) -> bool:
    """Tell whether a label that was passed over is a known one on a shape of the wrong type."""
    label = key.partition(" ")[2]
    return label in schema.class_labels or label in schema.keypoint_labels


def _to_suspicious(file: Ingested, index: int, shape: LabelmeShape, misspelt: Mapping[str, str]) -> Finding:
    label = shape.name
    known = misspelt.get(label)
    if known:
        message = f"the label {label!r} is not in the schema; did you mean {known!r}?"
        fix = f"rename it to {known!r}, or put it into the schema"
    else:
        message = f"{label!r} is drawn as a {shape.shape_type}, and ignored: it lies where one is drawn as it should be"
        fix = "nothing where both are the same; another object needs a rectangle, another keypoint a point"
    return _of_shape(file, index, shape, "misspelt-label" if known else "wrong-shape-type", "warning", message, fix)


def _to_unknown(file: Ingested, index: int, shape: LabelmeShape, count: int) -> Finding:
    times = "once" if count == 1 else f"{count} times"
    message = f"the label {shape.name!r} ({shape.shape_type}) is not in the schema; it is there {times}"
    fix = "put it into the schema if it is to be learnt"
    return _of_shape(file, index, shape, "unknown-label", "info", message, fix)


def _of_shape(
    file: Ingested, index: int, shape: LabelmeShape, kind: str, severity: Severity, message: str, fix: str
) -> Finding:
    return Finding(
        kind=kind,
        severity=severity,
        file=file.source,
        shape=index,
        message=message,
        fix=fix,
        image=_image_of(file),
        box_xyxy=bounds(shape.points) if len(shape.points) > 1 else None,
        points=tuple(shape.points) if len(shape.points) == 1 else (),
    )


def _image_of(file: Ingested) -> str:
    return file.image.path if file.image else f"raw/{file.raw_image}" if file.raw_image else ""


def find_format(file: Ingested) -> list[Finding]:
    """Find an image whose bytes are of another format than its name says."""
    known = SUFFIXES_BY_FORMAT.get(file.image_format)
    if not (file.raw_image and known) or file.raw_image.lower().endswith(known):
        return []
    message = f"{file.raw_image} holds {file.image_format}"
    fix = f"rename it to end in {known[0]}, and correct imagePath; YOLO itself reads it as it is"
    image = _image_of(file)
    return [Finding(kind="image-format", severity="info", file=file.source, message=message, fix=fix, image=image)]


def find_place(file: Ingested) -> list[Finding]:
    """Find an image that lies elsewhere than its annotation file says."""
    if not file.found_by:
        return []
    named = f"imagePath {file.image_path!r} is not there" if file.image_path else "the JSON names no image"
    message = f"{named}; {file.raw_image} was found by its {file.found_by}"
    fix = "look whether it is the right one, and correct imagePath"
    finding = Finding(kind="image-found-elsewhere", severity="info", file=file.source, message=message, fix=fix)
    return [msgspec.structs.replace(finding, image=_image_of(file))]


def find_unconfirmed(file: Ingested) -> list[Finding]:
    """Find an image that is left out because nobody has confirmed what a model drew on it."""
    if not file.machine or file.faults:
        return []
    message = f"{format_count(file.machine, 'shape')} that a model drew and nobody has confirmed; it is left out"
    fix = "correct them in labelme, and tick the image's flag confirmed"
    finding = Finding(kind="unconfirmed", severity="info", file=file.source, message=message, fix=fix)
    return [msgspec.structs.replace(finding, image=_image_of(file))]


def find_shared_groups(file: Ingested) -> list[Finding]:
    """Find groups that several objects share, and containment has told apart."""
    message = "its group_id is another object's as well; containment told which points are whose"
    fix = "give every object a group_id of its own: where such objects come close to each other, nothing tells"
    return [
        Finding(
            kind="shared-group",
            severity="warning",
            file=file.source,
            shape=shape,
            message=message,
            fix=fix,
            image=_image_of(file),
        )
        for shape in file.shared_groups
    ]


def find_by_order(file: Ingested, raw: Path, encoding: str | None = None) -> list[Finding]:
    """Find the points that only list order could give to an object."""
    findings: list[Finding] = []
    parsed = _read_file(raw, file.source, encoding) if file.by_list_order else None
    for index in file.by_list_order if parsed else ():
        shape = parsed.shapes[index]  # type: ignore[union-attr]
        message = f"only its place in the file tells which object {shape.name!r} belongs to"
        fix = "give point and box the same group_id"
        findings.append(
            Finding(
                kind="decided-by-list-order",
                severity="warning",
                file=file.source,
                shape=index,
                message=message,
                fix=fix,
                image=_image_of(file),
                keypoints=(shape.name,),
                points=tuple(shape.points),
            )
        )
    return findings
