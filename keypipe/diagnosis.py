"""What is wrong, or probably wrong, with a folder of annotations: every check that needs no pixels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.annotation import AnnotatedImage, Instance, Visibility
from keypipe.errors import Fault
from keypipe.findings import Box, Finding, Point, Severity, find_lacking_sides, put_sides, sort_findings, to_finding
from keypipe.ingest import Folder, Ingested, near_misses
from keypipe.labelme import InstanceShapes, LabelmeError, LabelmeFile, LabelmeShape, parse_labelme
from keypipe.outliers import Examination, examine_shapes
from keypipe.skeleton import Schema, Skeleton

OUTSIDE_BOX = 0.1
"""Share of the box's longer side by which a keypoint may lie outside its box."""

MIN_BOX_PX = 4.0
MIN_INPUT_PX = 8.0
"""Side of a cell of YOLOv8's finest grid (stride 8), in pixels of the model's input."""

_SAME_BOX_IOU = 0.9
_CONVENTION = 0.1  # what so large a share of the objects has is how these people annotate, and no fault
_USUAL = 0.85  # share of the whole objects that have a keypoint which is missing where it is not
_ENOUGH = 10  # objects below which no share is meaningful
_RARE_KEYPOINT = 0.2
_RARE_CLASS = 0.05  # of the objects of the most frequent class
_FEW_OBJECTS = 20
_CUT_OFF = 0.05  # box sides; a keypoint expected no farther inside the image is taken to be cut off by its edge
_SURELY_INSIDE = 0.25
_EDGE_PX = 2.0  # a box that comes so near to the image's edge is cut off by it
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}


class Located(msgspec.Struct, frozen=True):
    """An object of the dataset, its image, and where it stands in its file."""

    image: AnnotatedImage
    instance: Instance
    shapes: InstanceShapes | None

    def to_finding(
        self,
        kind: str,
        severity: Severity,
        message: str,
        fix: str,
        names: Sequence[str] = (),
        expected: tuple[Point, ...] = (),
    ) -> Finding:
        """Make a finding of the object, or of some of its keypoints."""
        points = [self.instance.keypoints[name] for name in names if name in self.instance.keypoints]
        shape = None
        if self.shapes:
            shape = self.shapes.keypoints.get(names[0], self.shapes.box) if names else self.shapes.box
        return Finding(
            kind=kind,
            severity=severity,
            file=self.image.source,
            shape=shape,
            message=message,
            fix=fix,
            class_name=self.instance.class_name,
            image=self.image.path,
            box_xyxy=self.instance.box_xyxy,
            keypoints=tuple(names),
            points=tuple((point.x, point.y) for point in points),
            expected=expected,
        )


class KeypointStatistics(msgspec.Struct, frozen=True):
    """How a keypoint of a class is annotated.

    Attributes:
        name: of the keypoint.
        visible: number of objects in which it is visible.
        occluded: in which it is labelled but occluded.
        not_labelled: in which it is not labelled.
        spread: usual distance from where the object's other keypoints put it, as a share of the object's size (root
            mean square distance of the keypoints from their centre); None where too few objects tell.
        findings: number of objects in which it is an outlier or exchanged.
    """

    name: str
    visible: int
    occluded: int
    not_labelled: int
    spread: float | None
    findings: int


class ClassStatistics(msgspec.Struct, frozen=True):
    """How a class is annotated: number of objects, images with one, its keypoints, and objects by side."""

    name: str
    objects: int
    images: int
    objects_by_side: dict[str, int]
    keypoints: list[KeypointStatistics]


class Cloud(msgspec.Struct, frozen=True):
    """The objects of a class in one frame, turned and, where they face the other way, mirrored.

    A keypoint of a mirrored object stands in the column of its partner.

    Attributes:
        class_name: the class.
        mean: complex (n_keypoints,), the mean shape, x + iy; NaN for keypoints without one.
        aligned: complex (n_instances, n_keypoints); NaN = not labelled.
        marked: bool (n_instances, n_keypoints), what is an outlier or exchanged.
    """

    class_name: str
    mean: NDArray[np.complex128]
    aligned: NDArray[np.complex128]
    marked: NDArray[np.bool_]


class Diagnosis(msgspec.Struct, frozen=True):
    """Findings, sorted; figures for each class; and the clouds of those classes that have objects enough."""

    findings: list[Finding]
    classes: list[ClassStatistics]
    clouds: list[Cloud]


def diagnose(
    folder: Folder,
    raw: Path,
    schema: Schema,
    sides: Mapping[str, str] | None = None,
    input_px: int | None = None,
) -> Diagnosis:
    """Run every check that needs no pixels.

    Args:
        folder: what reading the raw folder gave; images at fault take no part in what compares objects.
        raw: the raw folder; files with faults or misspelt labels are read once more to find the shapes.
        schema: classes and keypoints.
        sides: path of an image, relative to ``data/``, -> side of the split.
        input_px: side of the model's input in pixels; None: boxes are measured on the image alone.

    Returns:
        Findings and figures, the same in any file order.
    """
    sides = sides or {}
    at_fault = {fault.file for fault in folder.faults}
    files = [file for file in folder.files if file.image and file.source not in at_fault]
    objects = {name: list[Located]() for name in schema.class_names}
    for item in _list_objects(files):
        objects[item.instance.class_name].append(item)
    findings = [*_locate_faults(folder, raw, schema), *_find_labels(folder, raw, schema), *_find_formats(folder)]
    findings += _find_by_order(files, raw)
    findings += _find_repeated_objects(files)
    findings += [_of_unlabelled(name) for name in folder.unlabelled]
    classes, clouds = [], []
    for name, skeleton in schema.classes.items():
        points, visibility = _to_arrays(objects[name], skeleton)
        found, examination = _check_class(objects[name], points, skeleton, input_px)
        findings += found
        classes.append(_count_class(name, objects[name], visibility, skeleton, sides, examination))
        if examination:
            clouds.append(_to_cloud(name, examination, skeleton))
    findings += _find_imbalance(classes, set(sides.values()))
    return Diagnosis(sort_findings(put_sides(findings, sides)), classes, clouds)


def _list_objects(files: Iterable[Ingested]) -> Iterator[Located]:
    for file in files:
        assert file.image is not None
        shapes: Sequence[InstanceShapes | None] = file.shapes or [None] * len(file.image.instances)
        for instance, places in zip(file.image.instances, shapes, strict=True):
            yield Located(file.image, instance, places)


def _of_unlabelled(name: str) -> Finding:
    fix = "annotate it, or say in convert.unlabelled_images what such images are"
    message = "no annotation file speaks of this image"
    return Finding(kind="unlabelled-image", severity="info", file=name, message=message, fix=fix, image=f"raw/{name}")


# --------------------------------------------------------------------------------- single shapes


def _read_file(raw: Path, source: str) -> LabelmeFile | None:
    try:
        return parse_labelme((raw / source).read_bytes())
    except (OSError, LabelmeError):
        return None


def _locate_faults(folder: Folder, raw: Path, schema: Schema) -> list[Finding]:
    """Make findings of the faults, with the shape's class and place, and what a group with several boxes repeats."""
    by_file: dict[str, list[Fault]] = defaultdict(list)
    for fault in folder.faults:
        by_file[fault.file].append(fault)
    image_of = {file.source: f"raw/{file.raw_image}" for file in folder.files if file.raw_image}
    findings: list[Finding] = []
    for source, faults in by_file.items():
        found = [msgspec.structs.replace(to_finding(fault), image=image_of.get(source, "")) for fault in faults]
        file = _read_file(raw, source) if source.lower().endswith(".json") else None
        if file:
            found = [_locate(item, file, schema) for item in found]
            for item in found.copy():
                if item.kind == "several-boxes-in-group":
                    found += _find_repeats_in_group(item, file, schema)
        findings += found
    return findings


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
    place = _bounds(box) if box else None
    class_name = schema.class_labels.get(str(box.label), "") if box else ""
    keypoints = (str(shape.label),) if points else ()
    return msgspec.structs.replace(finding, class_name=class_name, box_xyxy=place, keypoints=keypoints, points=points)


def _box_of_point(point: LabelmeShape, file: LabelmeFile, schema: Schema) -> LabelmeShape | None:
    """Find the box of a point's group that is nearest to it; without a group the nearest that holds it."""
    classes = schema.class_labels
    boxes = [shape for shape in file.shapes if str(shape.label) in classes and len(shape.points) >= 2]
    grouped = [box for box in boxes if box.group_id == point.group_id] if point.group_id is not None else []
    x, y = point.points[0]

    def distances(box: LabelmeShape) -> tuple[float, float]:
        left, top, right, bottom = _bounds(box)
        outside = max(left - x, x - right, top - y, y - bottom, 0.0)
        return outside, abs(left + right - 2 * x) + abs(top + bottom - 2 * y)

    return min(grouped or [box for box in boxes if distances(box)[0] == 0], key=distances, default=None)


def _bounds(shape: LabelmeShape) -> Box:
    xs, ys = zip(*shape.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _find_repeats_in_group(finding: Finding, file: LabelmeFile, schema: Schema) -> list[Finding]:
    """Find the keypoints that a group with several boxes holds more than once."""
    assert finding.shape is not None
    group = file.shapes[finding.shape].group_id
    names = schema.keypoint_labels
    first: dict[str, int] = {}
    repeats: list[Finding] = []
    for index, shape in enumerate(file.shapes):
        name = names.get(str(shape.label))
        if shape.shape_type != "point" or shape.group_id != group or name is None:
            continue
        earlier = first.setdefault(name, index)
        if earlier != index:
            message = f"{name!r} is there twice in group {group} (also shape {earlier})"
            fix = "give every object a group_id of its own; where there is but one object, delete one of the two"
            found = msgspec.structs.replace(finding, kind="repeated-keypoint", shape=index, message=message, fix=fix)
            repeats.append(_locate(found, file, schema))
    return repeats


def _find_labels(folder: Folder, raw: Path, schema: Schema) -> list[Finding]:
    """Find labels outside the schema: every shape with a misspelt one, and one example of each of the others."""
    misspelt = near_misses(folder.ignored, schema)
    total = {key: count for key, count in folder.ignored.items() if not key.endswith(" of an ignored object")}
    suspicious = {key for key in total if key.partition(" ")[2] in misspelt or _is_known(key, schema)}
    findings: list[Finding] = []
    seen: set[str] = set()
    for file in folder.files:
        new = [key for key in file.ignored if key in total and key not in seen and key not in suspicious]
        seen.update(new)
        if not new and not suspicious & file.ignored.keys():
            continue
        parsed = _read_file(raw, file.source)
        for index, shape in enumerate(parsed.shapes if parsed else ()):
            key = f"{shape.shape_type} {str(shape.label).strip()}"
            if key in suspicious:
                findings.append(_to_suspicious(file, index, shape, misspelt))
            elif key in new:
                new.remove(key)
                findings.append(_to_unknown(file, index, shape, total[key]))
    return findings


def _is_known(key: str, schema: Schema) -> bool:
    """Tell whether a label that was passed over is a known one on a shape of the wrong type."""
    shape_type, _, label = key.partition(" ")
    is_class, is_keypoint = label in schema.class_labels, label in schema.keypoint_labels
    return (is_class and shape_type != "point") or (is_keypoint and shape_type != "rectangle")


def _to_suspicious(file: Ingested, index: int, shape: LabelmeShape, misspelt: Mapping[str, str]) -> Finding:
    label = str(shape.label).strip()
    known = misspelt.get(label)
    if known:
        message = f"the label {label!r} is not in the schema; did you mean {known!r}?"
        fix = f"rename it to {known!r}, or put it into the schema"
    else:
        message = f"{label!r} is drawn as a {shape.shape_type}, and ignored"
        fix = "draw objects as rectangles and keypoints as points"
    return Finding(
        kind="misspelt-label" if known else "wrong-shape-type",
        severity="warning",
        file=file.source,
        shape=index,
        message=message,
        fix=fix,
        image=_image_of(file),
        box_xyxy=_bounds(shape) if len(shape.points) > 1 else None,
        points=tuple(shape.points) if len(shape.points) == 1 else (),
    )


def _to_unknown(file: Ingested, index: int, shape: LabelmeShape, count: int) -> Finding:
    times = "once" if count == 1 else f"{count} times"
    message = f"the label {str(shape.label)!r} ({shape.shape_type}) is not in the schema; it is there {times}"
    fix = "put it into the schema if it is to be learnt"
    return Finding(
        kind="unknown-label",
        severity="info",
        file=file.source,
        shape=index,
        message=message,
        fix=fix,
        image=_image_of(file),
        box_xyxy=_bounds(shape) if len(shape.points) > 1 else None,
        points=tuple(shape.points) if len(shape.points) == 1 else (),
    )


def _image_of(file: Ingested) -> str:
    return file.image.path if file.image else f"raw/{file.raw_image}" if file.raw_image else ""


def _find_formats(folder: Folder) -> list[Finding]:
    findings: list[Finding] = []
    for file in folder.files:
        known = _SUFFIXES.get(file.image_format)
        if file.raw_image and known and not file.raw_image.lower().endswith(known):
            message = f"{file.raw_image} holds {file.image_format}"
            fix = f"rename it to end in {known[0]}, and correct imagePath; YOLO itself reads it as it is"
            findings.append(
                Finding(
                    kind="image-format",
                    severity="info",
                    file=file.source,
                    message=message,
                    fix=fix,
                    image=_image_of(file),
                )
            )
    return findings


def _find_by_order(files: Iterable[Ingested], raw: Path) -> list[Finding]:
    findings: list[Finding] = []
    for file in files:
        parsed = _read_file(raw, file.source) if file.by_list_order else None
        for index in file.by_list_order if parsed else ():
            shape = parsed.shapes[index]  # type: ignore[union-attr]
            message = f"only its place in the file tells which object {str(shape.label)!r} belongs to"
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
                    keypoints=(str(shape.label),),
                    points=tuple(shape.points),
                )
            )
    return findings


def _find_repeated_objects(files: Iterable[Ingested]) -> list[Finding]:
    findings: list[Finding] = []
    for file in files:
        objects = list(_list_objects([file]))
        for number, item in enumerate(objects):
            for earlier in objects[:number]:
                same = earlier.instance.class_name == item.instance.class_name
                if same and _iou(earlier.instance.box_xyxy, item.instance.box_xyxy) >= _SAME_BOX_IOU:
                    also = f" (also shape {earlier.shapes.box})" if earlier.shapes else ""
                    message = f"two boxes of {item.instance.class_name!r} lie on the same place{also}"
                    findings.append(item.to_finding("duplicate-object", "warning", message, "delete one of them"))
                    break
    return findings


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


# ------------------------------------------------------------------------------ objects of a class


def _to_arrays(objects: Sequence[Located], skeleton: Skeleton) -> tuple[NDArray[np.complex128], NDArray[np.uint8]]:
    """Return the keypoints' places, x + iy in pixels, NaN = not labelled, and visibilities; (n, n_keypoints) both."""
    shape = (len(objects), len(skeleton.keypoints))
    xs, ys = np.full(shape, np.nan), np.full(shape, np.nan)
    visibility = np.zeros(shape, dtype=np.uint8)
    for column, name in enumerate(skeleton.keypoints):
        found = [(row, point) for row, item in enumerate(objects) if (point := item.instance.keypoints.get(name))]
        rows = [row for row, _ in found]
        xs[rows, column] = [point.x for _, point in found]
        ys[rows, column] = [point.y for _, point in found]
        visibility[rows, column] = [point.visibility for _, point in found]
    return xs + 1j * ys, visibility


def _check_class(
    objects: Sequence[Located], points: NDArray[np.complex128], skeleton: Skeleton, input_px: int | None
) -> tuple[list[Finding], Examination | None]:
    if not objects:
        return [], None
    boxes = np.array([item.instance.box_xyxy for item in objects])
    column = {name: number for number, name in enumerate(skeleton.keypoints)}
    partners = skeleton.partners()
    examination = examine_shapes(
        points,
        [column[partners.get(name, name)] for name in skeleton.keypoints],
        [(column[a], column[b]) for a, b in skeleton.edges],
    )
    placed = examination.placed if examination else np.full_like(points, np.nan)
    findings = _find_missing(objects, boxes, points, placed, skeleton)
    findings += _find_outside(objects, boxes, points, skeleton)
    findings += _find_tiny(objects, boxes, input_px)
    if examination:
        findings += _find_odd_shapes(objects, examination, skeleton)
    return findings, examination


def _find_missing(
    objects: Sequence[Located],
    boxes: NDArray[np.float64],
    points: NDArray[np.complex128],
    placed: NDArray[np.complex128],
    skeleton: Skeleton,
) -> list[Finding]:
    """Find keypoints that are missing although nearly all whole objects have them.

    What the image's edge cuts off cannot be labelled, and what is often not labelled is left out on purpose.
    """
    labelled = np.isfinite(points)
    size_wh = np.array([item.image.size_wh for item in objects])
    whole = np.all(boxes[:, :2] > _EDGE_PX, axis=1) & np.all(boxes[:, 2:] < size_wh - _EDGE_PX, axis=1)
    empty = np.all(~labelled, axis=1)
    usual = np.zeros(len(skeleton.keypoints), dtype=bool)
    if (whole & ~empty).sum() >= _ENOUGH:
        usual = labelled[whole & ~empty].mean(axis=0) >= _USUAL
    # How far inside the image the other keypoints put a missing one, in box sides; negative outside of it.
    inside = np.minimum.reduce(
        [placed.real, size_wh[:, [0]] - placed.real, placed.imag, size_wh[:, [1]] - placed.imag]
    ) / (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    lacks = ~labelled & usual & (whole[:, None] | ~(inside < _CUT_OFF))
    findings: list[Finding] = []
    boxes_alone = empty.mean() > _CONVENTION and len(objects) >= _ENOUGH
    for row in np.flatnonzero(lacks.any(axis=1) | empty).tolist():
        item, name = objects[row], objects[row].instance.class_name
        if empty[row]:
            message = f"the {name!r} has none of its {len(skeleton.keypoints)} keypoints"
            fix = "label them, or delete the box if it is no object"
            findings.append(item.to_finding("no-keypoints", "info" if boxes_alone else "warning", message, fix))
            continue
        columns = np.flatnonzero(lacks[row])
        missing = [skeleton.keypoints[number] for number in columns]
        goals = placed[row, columns]
        expected = tuple((float(goal.real), float(goal.imag)) for goal in goals) if np.isfinite(goals).all() else ()
        message = f"the {name!r} lacks {', '.join(missing)}"
        fix = "label it, or leave it so if it cannot be seen"
        sure = bool(whole[row]) or bool((inside[row, columns] > _SURELY_INSIDE).any())
        if not sure:
            message += "; perhaps the image's edge cuts it off"
        severity: Severity = "warning" if sure else "info"
        findings.append(item.to_finding("missing-keypoint", severity, message, fix, missing, expected))
    return findings


def _find_outside(
    objects: Sequence[Located], boxes: NDArray[np.float64], points: NDArray[np.complex128], skeleton: Skeleton
) -> list[Finding]:
    x, y = points.real, points.imag
    beyond = np.maximum.reduce(
        [boxes[:, [0]] - x, x - boxes[:, [2]], boxes[:, [1]] - y, y - boxes[:, [3]], np.zeros_like(x)]
    )
    longer = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    far = np.nan_to_num(beyond / longer[:, None]) > OUTSIDE_BOX
    if len(objects) >= _ENOUGH:
        far &= far.mean(axis=0) <= _CONVENTION
    findings: list[Finding] = []
    for row, number in np.argwhere(far):
        name, class_name = skeleton.keypoints[number], objects[row].instance.class_name
        message = f"{name!r} lies {beyond[row, number]:.0f} px outside the box of its {class_name!r}"
        fix = "move the point, widen the box, or correct the group_id"
        findings.append(objects[row].to_finding("keypoint-outside-box", "warning", message, fix, [name]))
    return findings


def _find_tiny(objects: Sequence[Located], boxes: NDArray[np.float64], input_px: int | None) -> list[Finding]:
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = np.array([max(item.image.size_wh) for item in objects])
    at_input = sides.max(axis=1) * (input_px / longest if input_px else np.inf)
    findings: list[Finding] = []
    for row in np.flatnonzero((sides.min(axis=1) < MIN_BOX_PX) | (at_input < MIN_INPUT_PX)).tolist():
        width, height = sides[row]
        message = f"the box is {width:.0f} x {height:.0f} px"
        if input_px and at_input[row] < MIN_INPUT_PX:
            message += f", {at_input[row]:.1f} px at the model's input of {input_px} px"
        fix = "delete it if it is a slip; else train with a larger imgsz or on crops"
        findings.append(objects[row].to_finding("tiny-box", "warning", message, fix))
    return findings


def _find_odd_shapes(objects: Sequence[Located], examination: Examination, skeleton: Skeleton) -> list[Finding]:
    findings: list[Finding] = []
    names, partners = skeleton.keypoints, skeleton.partners()
    for exchange in examination.exchanges:
        item = objects[exchange.instance]
        pairs = [(names[a], names[b]) for a, b in exchange.pairs]
        sides = all(partners.get(a) == b for a, b in pairs)
        both = [name for pair in pairs for name in pair if name in item.instance.keypoints]
        text = ", ".join(f"{a!r} and {b!r}" for a, b in pairs)
        message = (
            f"{text} are probably exchanged: the keypoints lie {exchange.before:.1f} times as far as usual from where"
            f" they are expected, with the names exchanged {exchange.after:.1f} times"
        )
        fix = "exchange the labels" + ("; left is the object's own left" if sides else "")
        kind = "left-right-swap" if sides else "exchanged-keypoints"
        findings.append(item.to_finding(kind, "warning", message, fix, both))
    for outlier in examination.outliers:
        item, name = objects[outlier.instance], names[outlier.keypoint]
        x, y = outlier.expected.real, outlier.expected.imag
        share = 100 * outlier.distance
        message = (
            f"{name!r} lies {share:.0f} % of the object's size away from where the other keypoints put it,"
            f" near ({x:.0f}, {y:.0f}); that is {outlier.deviation:.0f} times the usual"
        )
        fix = "look whether the point or its label is wrong"
        findings.append(item.to_finding("keypoint-outlier", "warning", message, fix, [name], ((x, y),)))
    for number in examination.unusual:
        item = objects[number]
        message = f"the keypoints of this {item.instance.class_name!r} lie as in no other one"
        fix = "look whether points or labels are wrong; an odd view is no fault"
        findings.append(item.to_finding("unusual-shape", "info", message, fix))
    return findings


# ------------------------------------------------------------------------------- whole dataset


def _count_class(
    name: str,
    objects: Sequence[Located],
    visibility: NDArray[np.uint8],
    skeleton: Skeleton,
    sides: Mapping[str, str],
    examination: Examination | None,
) -> ClassStatistics:
    n_keypoints = len(skeleton.keypoints)
    odd = _marked(examination).sum(axis=0) if examination else np.zeros(n_keypoints, dtype=int)
    spreads = examination.spread if examination else np.full(n_keypoints, np.nan)
    by_side = Counter(sides.get(item.image.path, "") for item in objects)
    return ClassStatistics(
        name,
        len(objects),
        len({item.image.path for item in objects}),
        {side: count for side, count in sorted(by_side.items()) if side},
        [
            KeypointStatistics(
                keypoint,
                int((states == Visibility.VISIBLE).sum()),
                int((states == Visibility.OCCLUDED).sum()),
                int((states == Visibility.NOT_LABELLED).sum()),
                round(float(spread), 4) if np.isfinite(spread) else None,
                int(found),
            )
            for keypoint, states, spread, found in zip(skeleton.keypoints, visibility.T, spreads, odd, strict=True)
        ],
    )


def _marked(examination: Examination) -> NDArray[np.bool_]:
    marked = np.zeros(examination.aligned.shape, dtype=bool)
    for outlier in examination.outliers:
        marked[outlier.instance, outlier.keypoint] = True
    for exchange in examination.exchanges:
        for pair in exchange.pairs:
            marked[exchange.instance, list(pair)] = True
    return marked


def _to_cloud(name: str, examination: Examination, skeleton: Skeleton) -> Cloud:
    names, partners = skeleton.keypoints, skeleton.partners()
    marked = _marked(examination)
    flipped = marked[:, [names.index(partners.get(keypoint, keypoint)) for keypoint in names]]
    marked = np.where(examination.mirrored[:, None], flipped, marked)
    return Cloud(name, examination.mean, examination.aligned, marked)


def _find_imbalance(classes: Sequence[ClassStatistics], sides: set[str]) -> list[Finding]:
    findings: list[Finding] = []

    def add(kind: str, severity: Severity, class_name: str, message: str, fix: str, side: str = "") -> None:
        findings.append(
            Finding(kind=kind, severity=severity, file="", message=message, fix=fix, class_name=class_name, side=side)
        )

    most = max((item.objects for item in classes), default=0)
    for item in classes:
        if item.objects == 0:
            fix = "correct the name in schema.classes, annotate some, or leave the class out"
            add("class-without-objects", "warning", item.name, f"no object of class {item.name!r}", fix)
            continue
        if item.objects < _FEW_OBJECTS or item.objects < _RARE_CLASS * most:
            message = f"{item.objects} objects of class {item.name!r}, {most} of the most frequent one"
            add("rare-class", "info", item.name, message, "annotate more of them")
        findings += find_lacking_sides(item.name, item.objects_by_side, sides)
        for keypoint in item.keypoints:
            labelled = keypoint.visible + keypoint.occluded
            if labelled == 0:
                message = f"{keypoint.name!r} of {item.name!r} is labelled nowhere"
                fix = "correct its name in the schema, label it, or leave it out"
                add("keypoint-never-labelled", "warning", item.name, message, fix)
            elif labelled < _RARE_KEYPOINT * item.objects and item.objects >= _ENOUGH:
                message = f"{keypoint.name!r} is labelled in {labelled} of {item.objects} objects of {item.name!r}"
                add("rare-keypoint", "info", item.name, message, "label more of them, or leave it out")
    return findings
