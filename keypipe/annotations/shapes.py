"""Shapes of one labelme file to instances: which are boxes and keypoints, and which keypoint is whose."""

from __future__ import annotations

from collections import Counter

import msgspec

from keypipe.annotations.labelme import RECTANGLES, LabelmeFile, LabelmeOptions, LabelmeShape
from keypipe.annotations.linking.derived_boxes import derive_boxes
from keypipe.annotations.linking.linker import link_keypoints
from keypipe.annotations.linking.placement import Places
from keypipe.annotations.linking.values import BoxShape, PointShape
from keypipe.errors import Fault
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import Instance, InstanceShapes, Keypoint, Visibility
from keypipe.keypoints.names import normal_form
from keypipe.keypoints.skeleton import Schema

OUTSIDE_TOLERANCE = 0.01
"""Share of the image's side that a keypoint may lie outside and still be clipped; Ultralytics drops the
whole image for one further out."""

OF_IGNORED_OBJECT = " of an ignored object"
"""What stands behind the key of points that are passed over because their object is: their labels are known."""


class ParsedShapes(msgspec.Struct):
    """The instances of one file and what came up on the way.

    Attributes:
        instances: in file order of their rectangles.
        faults: what stops this file from being used.
        ignored: number of shapes passed over, by ``"<shape type> <label>"``.
        aliased: number of shapes read by an alias or in another spelling, by ``"<label> -> <name>"``.
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
        result.ignored[f"point {file.shapes[index].name}{OF_IGNORED_OBJECT}"] += 1
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
        written = label if str(shape.label) == shape.name else repr(shape.label)
        if meant != written:
            result.aliased[f"{written} -> {meant}"] += 1
        if is_box:
            box = _read_box(shape, size_wh, name, index, result)
            if box:
                boxes.append(BoxShape(index, meant, box, shape.group))
        else:
            position = _read_point(shape, size_wh, name, index, result)
            if position:
                points.append(PointShape(index, meant, position[0], position[1], shape.group))
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
            others.append(BoxShape(index, label, (min(xs), min(ys), max(xs), max(ys)), shape.group))
    return others


def _read_label(shape: LabelmeShape, options: LabelmeOptions) -> tuple[str, bool]:
    label = shape.name
    occluded = bool(shape.flags and shape.flags.get(options.occluded_flag) is True)
    suffix = normal_form(options.occluded_suffix)
    if suffix and label.endswith(suffix):
        label, occluded = label.removesuffix(suffix).rstrip(), True
    word = normal_form(options.occluded_description).lower()
    if word and shape.description and word in normal_form(shape.description).lower().split():
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
