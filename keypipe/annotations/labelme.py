"""labelme JSON (versions 3 to 7, X-AnyLabeling's dialect too) to the neutral model and back: text and values."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from keypipe.annotations.derived_boxes import derive_boxes
from keypipe.annotations.linking import BoxShape, PointShape, link_keypoints
from keypipe.annotations.placement import Places
from keypipe.errors import AnnotationError, Fault
from keypipe.images.depth import Depth
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import Instance, InstanceShapes, Keypoint, Visibility
from keypipe.keypoints.skeleton import Schema

LABELME_VERSION: Final = "6.3.1"
"""Version whose files are written."""

RECTANGLES: Final = frozenset({"rectangle", "rotation", "oriented_rectangle"})
"""Shape types that stand for an object's box: labelme's, X-AnyLabeling's turned one, labelme 7's turned one."""

OUTSIDE_TOLERANCE = 0.01
"""Share of the image's side that a keypoint may lie outside and still be clipped; Ultralytics drops the
whole image for one further out."""


class LabelmeShape(msgspec.Struct):
    """One entry of ``shapes``; keys that other tools add are passed over."""

    label: str | int
    points: list[tuple[float, float]]
    shape_type: str = "polygon"  # what labelme assumes when the key is absent
    group_id: int | str | None = None
    flags: dict[str, Any] | None = None
    description: str | None = None


class LabelmeFile(msgspec.Struct, rename="camel"):
    """A labelme JSON. ``image_data`` stays undecoded, since nearly nobody needs it."""

    shapes: list[LabelmeShape]
    image_path: str | None = None
    image_data: msgspec.Raw = msgspec.Raw(b"null")
    image_height: int | None = None
    image_width: int | None = None

    @property
    def has_image_data(self) -> bool:
        """Whether the image itself is embedded."""
        return bytes(self.image_data) not in (b"null", b'""')


class LabelmeOptions(msgspec.Struct, frozen=True):
    """How labels become keypoints.

    Attributes:
        occluded_flag: a shape flag of this name that is true marks a keypoint as occluded.
        occluded_suffix: a label suffix that does, such as ``_occ``; it is cut off. Empty: none.
        occluded_description: a word in the description that does. Empty: none.
        occluded: ``train`` keeps occluded keypoints (visibility 1), ``ignore`` treats them as not labelled.
        unknown_labels: ``ignore`` counts labels outside the schema, ``fail`` makes them faults.
        box_from_points: margin, as a share of the points' extent, of a box around points that have no rectangle;
            None: such points are a fault.
        depth: what becomes of images whose samples have more than 8 bits.
    """

    occluded_flag: str = "occluded"
    occluded_suffix: str = ""
    occluded_description: str = "occluded"
    occluded: Literal["train", "ignore"] = "train"
    unknown_labels: Literal["ignore", "fail"] = "ignore"
    box_from_points: float | None = None
    depth: Depth = "cut"


class ParsedShapes(msgspec.Struct):
    """The instances of one file and what came up on the way.

    Attributes:
        instances: in file order of their rectangles.
        faults: what stops this file from being used.
        ignored: number of shapes passed over, by ``"<shape type> <label>"``.
        aliased: number of shapes read by an alias, by ``"<label> -> <name>"``.
        derived_boxes: shape index of the first point of every object whose box was derived from its points.
        by_place: shape indices of keypoints in overlapping boxes that their place gave to one of them.
        by_list_order: shape indices of keypoints that only list order could give to an object.
        clipped: number of boxes and keypoints moved onto the image.
        occluded_ignored: number of occluded keypoints treated as not labelled.
        shapes: for every instance its shape indices.
    """

    instances: list[Instance]
    faults: list[Fault]
    ignored: Counter[str]
    aliased: Counter[str]
    derived_boxes: list[int] = []
    by_place: list[int] = []
    by_list_order: list[int] = []
    clipped: int = 0
    occluded_ignored: int = 0
    shapes: list[InstanceShapes] = []


OF_IGNORED_OBJECT = " of an ignored object"
"""What stands behind the key of points that are passed over because their object is: their labels are known."""

_DECODER = msgspec.json.Decoder(LabelmeFile)
_SHAPE_IN_PATH = re.compile(r"\$\.shapes\[(\d+)\]")


class LabelmeError(AnnotationError):
    """A labelme JSON that cannot be parsed; ``shape`` is the index of the shape at fault, if one is."""

    def __init__(self, message: str, shape: int | None = None) -> None:
        super().__init__(message)
        self.shape = shape


def parse_labelme(content: bytes) -> LabelmeFile:
    """Parse the text of a labelme JSON, checking the type of every value that is used.

    Args:
        content: UTF-8 text, with or without a byte order mark.

    Returns:
        The file's values; numbers written as strings are refused.

    Raises:
        LabelmeError: broken JSON, or a value of the wrong type.
    """
    try:
        return _DECODER.decode(content.removeprefix(b"\xef\xbb\xbf"))
    except msgspec.ValidationError as error:
        place = _SHAPE_IN_PATH.search(str(error))
        raise LabelmeError(f"not as labelme writes it: {error}", int(place[1]) if place else None) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LabelmeError(f"broken JSON: {error}") from error


def decode_image_data(file: LabelmeFile) -> bytes:
    """Return the bytes of the embedded image.

    Raises:
        LabelmeError: no image is embedded, or it is not base64.
    """
    try:
        text = msgspec.json.decode(file.image_data, type=str | None)
        if not text:
            raise LabelmeError("no image is embedded")
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (msgspec.DecodeError, binascii.Error) as error:
        raise LabelmeError(f"imageData is not a base64 image: {error}") from error


def parse_shapes(
    file: LabelmeFile,
    size_wh: tuple[int, int],
    schema: Schema,
    options: LabelmeOptions,
    name: str,
    places: Places | None = None,
) -> ParsedShapes:
    """Turn the shapes of one file into instances.

    Args:
        file: the parsed JSON.
        size_wh: the image's width and height in pixels, upright.
        schema: classes and keypoints to look for.
        options: how occlusion is marked and what to do with other labels.
        name: the file's name, for faults.
        places: where keypoints lie in their boxes, as learnt from other images.

    Returns:
        Instances with boxes and keypoints inside the image, and everything worth reporting.
    """
    result = ParsedShapes([], [], Counter(), Counter())
    boxes, points, visibility = _sort_shapes(file, size_wh, schema, options, name, result)
    others = _other_objects(file, schema, options)
    if options.box_from_points is not None:
        boxes, points = _add_boxes(boxes, points, others, size_wh, schema, options.box_from_points, name, result)
    links = link_keypoints(boxes, points, schema, name, others, places)
    for index in links.of_others:
        result.ignored[f"point {file.shapes[index].label}{OF_IGNORED_OBJECT}"] += 1
    result.faults += links.faults
    result.by_place = links.by_place
    result.by_list_order = links.by_list_order
    keypoints: dict[int, dict[str, Keypoint]] = {box.shape: {} for box in boxes}
    shape_of: dict[int, dict[str, int]] = {box.shape: {} for box in boxes}
    for point in points:
        owner = links.owner.get(point.shape)
        if owner is None:
            continue
        if visibility[point.shape] is Visibility.OCCLUDED and options.occluded == "ignore":
            result.occluded_ignored += 1
            continue
        keypoints[owner][point.name] = Keypoint(point.x, point.y, visibility[point.shape])
        shape_of[owner][point.name] = point.shape
    for box in boxes:
        order = schema.classes[box.class_name].keypoints
        found = keypoints[box.shape]
        result.instances.append(
            Instance(box.class_name, box.box_xyxy, {kpt: found[kpt] for kpt in order if kpt in found})
        )
    result.shapes = [InstanceShapes(box.shape, shape_of[box.shape]) for box in boxes]
    return result


def _sort_shapes(
    file: LabelmeFile,
    size_wh: tuple[int, int],
    schema: Schema,
    options: LabelmeOptions,
    name: str,
    result: ParsedShapes,
) -> tuple[list[BoxShape], list[PointShape], dict[int, Visibility]]:
    boxes: list[BoxShape] = []
    points: list[PointShape] = []
    visibility: dict[int, Visibility] = {}
    class_labels, keypoint_labels = schema.class_labels, schema.keypoint_labels
    for index, shape in enumerate(file.shapes):
        label, occluded = _read_label(shape, options)
        is_box = shape.shape_type in RECTANGLES
        meant = (class_labels if is_box else keypoint_labels).get(label)
        if meant is None or not (is_box or shape.shape_type == "point"):
            _pass_over(shape, label, schema, options, name, index, result)
            continue
        if meant != label:
            result.aliased[f"{label} -> {meant}"] += 1
        if is_box:
            box = _read_box(shape, size_wh, name, index, result)
            if box:
                boxes.append(BoxShape(index, meant, box, shape.group_id))
        else:
            position = _read_point(shape, size_wh, name, index, result)
            if position:
                points.append(PointShape(index, meant, position[0], position[1], shape.group_id))
                visibility[index] = Visibility.OCCLUDED if occluded else Visibility.VISIBLE
    return boxes, points, visibility


def _add_boxes(
    boxes: list[BoxShape],
    points: list[PointShape],
    others: list[BoxShape],
    size_wh: tuple[int, int],
    schema: Schema,
    margin: float,
    name: str,
    result: ParsedShapes,
) -> tuple[list[BoxShape], list[PointShape]]:
    """Add boxes around points without a rectangle; points that get no box are a fault and left out."""
    derived = derive_boxes(points, boxes, others, schema, margin, name)
    result.faults += derived.faults
    result.derived_boxes = [box.shape for box in derived.boxes]
    boxes = boxes + [
        BoxShape(box.shape, box.class_name, _clip(box.box_xyxy, size_wh), box.group) for box in derived.boxes
    ]
    return boxes, [point for point in points if point.shape not in derived.left_out]


def _other_objects(file: LabelmeFile, schema: Schema, options: LabelmeOptions) -> list[BoxShape]:
    """Rectangles of classes outside the schema; their keypoints may share names with known ones."""
    others: list[BoxShape] = []
    known = schema.class_labels
    for index, shape in enumerate(file.shapes):
        if shape.shape_type not in RECTANGLES or not shape.points:
            continue
        label = _read_label(shape, options)[0]
        if label not in known:
            xs, ys = zip(*shape.points, strict=True)
            others.append(BoxShape(index, label, (min(xs), min(ys), max(xs), max(ys)), shape.group_id))
    return others


def _read_label(shape: LabelmeShape, options: LabelmeOptions) -> tuple[str, bool]:
    label = str(shape.label).strip()
    occluded = bool(shape.flags and shape.flags.get(options.occluded_flag) is True)
    suffix = options.occluded_suffix
    if suffix and label.endswith(suffix):
        label, occluded = label.removesuffix(suffix), True
    word = options.occluded_description
    if word and shape.description and word.lower() in shape.description.lower().split():
        occluded = True
    return label, occluded


def _read_box(
    shape: LabelmeShape, size_wh: tuple[int, int], name: str, index: int, result: ParsedShapes
) -> tuple[float, float, float, float] | None:
    if len(shape.points) < 2:
        fix = "draw it again with two opposite corners"
        result.faults.append(Fault(name, index, "bad-box", "a rectangle with a single corner", fix))
        return None
    xs = [x for x, _ in shape.points]
    ys = [y for _, y in shape.points]
    whole = (min(xs), min(ys), max(xs), max(ys))
    box = _clip(whole, size_wh)
    if box[2] <= box[0] or box[3] <= box[1]:
        found = f"the box ({whole[0]:.0f}, {whole[1]:.0f}, {whole[2]:.0f}, {whole[3]:.0f}) has no area on the image"
        result.faults.append(Fault(name, index, "bad-box", found, "draw it again, or delete it"))
        return None
    result.clipped += box != whole
    return box


def _clip(box_xyxy: Box, size_wh: tuple[int, int]) -> Box:
    """Move the parts of a box that lie outside onto the image's edge."""
    left, top, right, bottom = box_xyxy
    width, height = float(size_wh[0]), float(size_wh[1])
    return (
        min(max(left, 0.0), width),
        min(max(top, 0.0), height),
        min(max(right, 0.0), width),
        min(max(bottom, 0.0), height),
    )


def _read_point(
    shape: LabelmeShape, size_wh: tuple[int, int], name: str, index: int, result: ParsedShapes
) -> tuple[float, float] | None:
    width, height = size_wh
    if len(shape.points) != 1:
        found = f"a point shape with {len(shape.points)} positions"
        result.faults.append(Fault(name, index, "bad-point", found, "draw it again"))
        return None
    x, y = shape.points[0]
    if 0 <= x <= width and 0 <= y <= height:
        return x, y
    clipped = (min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height)))
    if abs(clipped[0] - x) > OUTSIDE_TOLERANCE * width or abs(clipped[1] - y) > OUTSIDE_TOLERANCE * height:
        found = f"{shape.label!r} at ({x:.0f}, {y:.0f}) lies outside the image of {width}x{height} px"
        result.faults.append(Fault(name, index, "keypoint-outside-image", found, "move it, or delete it"))
        return None
    result.clipped += 1
    return clipped


def _pass_over(
    shape: LabelmeShape,
    label: str,
    schema: Schema,
    options: LabelmeOptions,
    name: str,
    index: int,
    result: ParsedShapes,
) -> None:
    known = label in schema.class_labels or label in schema.keypoint_labels
    if known or options.unknown_labels == "ignore":
        result.ignored[f"{shape.shape_type} {label}"] += 1
        return
    found = f"unknown label {label!r} ({shape.shape_type})"
    fix = f"one of {', '.join(schema.class_names)} or of their keypoints; or set convert.unknown_labels: ignore"
    result.faults.append(Fault(name, index, "unknown-label", found, fix))


def to_shapes(instances: Iterable[Instance], occluded_flag: str = "occluded") -> list[LabelmeShape]:
    """Turn instances into shapes: each a rectangle and its points, under a ``group_id`` of their own.

    Args:
        instances: pixels.
        occluded_flag: the flag that says whether a keypoint is occluded.
    """
    shapes: list[LabelmeShape] = []
    for group, instance in enumerate(instances, start=1):
        left, top, right, bottom = instance.box_xyxy
        corners = [(left, top), (right, bottom)]
        shapes.append(LabelmeShape(instance.class_name, corners, "rectangle", group, {}))
        shapes += to_points(instance.keypoints, group, occluded_flag)
    return shapes


def to_points(
    keypoints: Mapping[str, Keypoint], group: int | None, occluded_flag: str = "occluded"
) -> list[LabelmeShape]:
    """Turn the keypoints of one object into point shapes.

    Args:
        keypoints: pixels, by name.
        group: what they share with their rectangle.
        occluded_flag: the flag that says whether a keypoint is occluded.
    """
    return [
        LabelmeShape(
            name, [(point.x, point.y)], "point", group, {occluded_flag: point.visibility is Visibility.OCCLUDED}
        )
        for name, point in keypoints.items()
    ]


def to_document(shapes: Sequence[LabelmeShape], image_path: str, size_wh: tuple[int, int]) -> dict[str, Any]:
    """Return what labelme saves, with its keys in its order.

    Args:
        shapes: in the order of labelme's list.
        image_path: the image, relative to the JSON file.
        size_wh: its width and height in pixels, upright.
    """
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [
            {
                "label": str(shape.label),
                "points": [list(point) for point in shape.points],
                "group_id": shape.group_id,
                "description": shape.description or "",
                "shape_type": shape.shape_type,
                "flags": dict(shape.flags or {}),
                "mask": None,
            }
            for shape in shapes
        ],
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": size_wh[1],
        "imageWidth": size_wh[0],
    }


def format_labelme(shapes: Sequence[LabelmeShape], image_path: str, size_wh: tuple[int, int]) -> str:
    """Format a labelme JSON as labelme itself does; arguments as for ``to_document``."""
    return json.dumps(to_document(shapes, image_path, size_wh), ensure_ascii=False, indent=2)
