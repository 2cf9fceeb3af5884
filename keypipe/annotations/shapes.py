"""Shapes of one labelme file to instances: which are boxes and keypoints, and which keypoint is whose."""

from __future__ import annotations

import math
from collections import Counter

import msgspec

from keypipe.annotations.labelme import (
    IN_PIXELS,
    MAX_SHARE,
    OUTLINES,
    RECTANGLES,
    LabelmeFile,
    LabelmeOptions,
    LabelmeShape,
    is_in_shares,
)
from keypipe.annotations.linking.derived_boxes import derive_boxes
from keypipe.annotations.linking.drawing_order import Habit
from keypipe.annotations.linking.linker import link_keypoints
from keypipe.annotations.linking.placement import Places
from keypipe.annotations.linking.values import BoxShape, PointShape
from keypipe.errors import Fault, format_count
from keypipe.keypoints.boxes import Box, bounds, contains
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
        by_list_order: shape indices of keypoints that only the order of drawing could give to an object.
        shared_groups: shape indices of boxes whose group is an earlier box's as well; containment told them apart.
        difficult: number of keypoints that X-AnyLabeling's mark made occluded.
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
    shared_groups: list[int] = []
    difficult: int = 0
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
    habit: Habit | None = None,
) -> ParsedShapes:
    """Turn the shapes of one file into instances.

    Args:
        file: the parsed JSON.
        size_wh: the image's width and height in pixels, upright.
        schema: classes and keypoints to look for.
        options: how occlusion is marked and what to do with other labels.
        name: the file's name, for faults.
        places: where keypoints lie in their boxes, as learnt from other images.
        habit: in what order boxes and points are drawn, as learnt from other images.

    Returns:
        Instances with boxes and keypoints inside the image, and everything worth reporting.
    """
    result = ParsedShapes([], [], Counter(), Counter())
    if is_in_shares(file, size_wh):
        told = f"all its positions lie between 0 and {MAX_SHARE:g}: shares of the image, and no pixels"
        result.faults.append(Fault(name, None, "not-in-pixels", told, IN_PIXELS))
        return result
    boxes, points, visibility = _sort_shapes(file, size_wh, schema, options, name, result)
    others = _other_objects(file, schema, options)
    points = _report_untaken(file, boxes, points, schema, options, name, result)
    if options.box_from_points is not None:
        boxes, points = _add_boxes(boxes, points, others, size_wh, schema, options.box_from_points, name, result)
    links = link_keypoints(boxes, points, schema, name, others, places, habit)
    for index in links.of_others:
        result.ignored[f"point {file.shapes[index].name}{OF_IGNORED_OBJECT}"] += 1
    result.faults += links.faults
    result.by_place = links.by_place
    result.by_list_order = links.by_list_order
    result.shared_groups = links.shared_groups
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
    for index, shape in enumerate(file.shapes):
        label, occluded = _read_label(shape, options)
        meant = _find_meaning(shape, label, schema, options)
        if meant is None:
            _pass_over(shape, label, schema, options, name, index, result)
            continue
        written = label if str(shape.label) == shape.name else repr(shape.label)
        if meant != written:
            result.aliased[f"{written} -> {meant}"] += 1
        if options.is_box(shape.shape_type):
            box = _read_box(shape, size_wh, name, index, result)
            if box:
                boxes.append(BoxShape(index, meant, box, shape.group))
        else:
            position = _read_point(shape, size_wh, name, index, result)
            if position:
                points.append(PointShape(index, meant, position[0], position[1], shape.group))
                hidden = shape.difficult is True and options.difficult == "occluded"
                result.difficult += hidden and not occluded
                visibility[index] = Visibility.OCCLUDED if occluded or hidden else Visibility.VISIBLE
    return _without_doubles(boxes, file, result), points, visibility


def _find_meaning(shape: LabelmeShape, label: str, schema: Schema, options: LabelmeOptions) -> str | None:
    """Return the class or the keypoint that a shape is taken for; None where it is passed over."""
    if options.is_box(shape.shape_type):
        return schema.class_labels.get(label)
    return schema.keypoint_labels.get(label) if options.is_keypoint(shape.shape_type) else None


def _without_doubles(boxes: list[BoxShape], file: LabelmeFile, result: ParsedShapes) -> list[BoxShape]:
    """Pass over the outlines of objects, or of parts of them, that have a rectangle as well."""
    rectangles = [box for box in boxes if file.shapes[box.shape].shape_type in RECTANGLES]
    kept: list[BoxShape] = []
    for box in boxes:
        shape = file.shapes[box.shape]
        if shape.shape_type in OUTLINES and any(_is_drawn_as(known, box) for known in rectangles):
            result.ignored[f"{shape.shape_type} {shape.name}"] += 1
        else:
            kept.append(box)
    return kept


def _is_drawn_as(known: BoxShape, outline: BoxShape) -> bool:
    """Tell whether an outline is of the same object as a rectangle; two groups are two objects."""
    one = outline.group is None or known.group is None or outline.group == known.group
    return one and known.class_name == outline.class_name and _covers(known.box_xyxy, outline.box_xyxy)


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
    """Boxes of classes outside the schema; their keypoints may share names with known ones."""
    others: list[BoxShape] = []
    known = schema.class_labels.keys() | schema.keypoint_labels.keys()
    for index, shape in enumerate(file.shapes):
        if not options.is_box(shape.shape_type) or not shape.points:
            continue
        label = _read_label(shape, options)[0]
        if label not in known:
            others.append(BoxShape(index, label, bounds(shape.points), shape.group))
    return others


def _report_untaken(
    file: LabelmeFile,
    boxes: list[BoxShape],
    points: list[PointShape],
    schema: Schema,
    options: LabelmeOptions,
    name: str,
    result: ParsedShapes,
) -> list[PointShape]:
    """Report objects and keypoints that are drawn as shapes that are not taken, so that no half of them is missing.

    Returns:
        The points without those of such objects.
    """
    for index, shape in enumerate(file.shapes):
        label = _read_label(shape, options)[0]
        if not shape.points or _find_meaning(shape, label, schema, options) is not None:
            continue
        extent = _extent(shape)
        class_name, keypoint = schema.class_labels.get(label), schema.keypoint_labels.get(label)
        if class_name is not None and (keypoint is None or shape.shape_type in OUTLINES):
            if any(_covers(known.box_xyxy, extent) for known in boxes if known.class_name == class_name):
                continue  # the same object, or a part of it, drawn in two ways
            inside = [point for point in points if _is_alone_in(point, extent, boxes)]
            points = [point for point in points if point not in inside]
            result.faults.append(_to_untaken_object(shape, label, len(inside), name, index))
        elif keypoint is not None and not any(p.name == keypoint and contains(extent, p.x, p.y, 0) for p in points):
            result.faults.append(_to_untaken_keypoint(shape, label, name, index))
    return points


def _extent(shape: LabelmeShape) -> Box:
    """Return the box around a shape; of a circle the centre and a place on its edge are known."""
    if shape.shape_type != "circle":
        return bounds(shape.points)
    (x, y), radius = shape.points[0], math.dist(shape.points[0], shape.points[-1])
    return x - radius, y - radius, x + radius, y + radius


def _to_untaken_object(shape: LabelmeShape, label: str, n_inside: int, name: str, index: int) -> Fault:
    count = f", with {format_count(n_inside, 'keypoint')} in it" if n_inside else ""
    if shape.shape_type in OUTLINES:
        found = f"the {shape.shape_type} {label!r} outlines an object that has no rectangle{count}"
        fix = "set convert.box_from: outline, which takes the box around polygons and masks, or draw its rectangle"
        return Fault(name, index, "outline-without-box", found, fix)
    found = f"the {shape.shape_type} {label!r} marks an object that has no rectangle{count}"
    return Fault(name, index, "wrong-shape-type", found, "draw the object's rectangle, or give the shape another label")


def _to_untaken_keypoint(shape: LabelmeShape, label: str, name: str, index: int) -> Fault:
    kind = shape.shape_type
    if kind == "circle":
        found = f"the circle {label!r} marks a keypoint, and circles are not taken for keypoints"
        fix = "set convert.keypoint_from: circle, which takes their centres, or draw a point"
        return Fault(name, index, "circle-for-keypoint", found, fix)
    found = f"the {kind} {label!r} has a keypoint's label and holds no point of that name"
    return Fault(name, index, "wrong-shape-type", found, "draw a point instead, or give the shape another label")


def _covers(one: Box, other: Box) -> bool:
    """Tell whether a box holds at least half of another one, or a place without an area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width >= 0 and height >= 0 and 2 * width * height >= (other[2] - other[0]) * (other[3] - other[1])


def _is_alone_in(point: PointShape, box: Box, boxes: list[BoxShape]) -> bool:
    return contains(box, point.x, point.y) and not any(
        contains(known.box_xyxy, point.x, point.y) or (known.group is not None and known.group == point.group)
        for known in boxes
    )


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
        found = f"the box ({', '.join(map(_shown, whole))}) has no area on the image"
        result.faults.append(Fault(name, index, "bad-box", found, "draw it again, or delete it"))
        return None
    result.clipped += box != whole
    return box


def _shown(pixels: float) -> str:
    """Return a coordinate in whole pixels; one beyond all images in few digits."""
    return f"{pixels:.0f}" if abs(pixels) < 1e7 else f"{pixels:.3g}"


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
    if len(shape.points) != (2 if shape.shape_type == "circle" else 1):  # a circle: its centre, and where it ends
        found = f"a {shape.shape_type} shape with {len(shape.points)} positions"
        result.faults.append(Fault(name, index, "bad-point", found, "draw it again"))
        return None
    x, y = shape.points[0]
    if 0 <= x <= width and 0 <= y <= height:
        return x, y
    clipped = (min(max(x, 0.0), float(width)), min(max(y, 0.0), float(height)))
    if abs(clipped[0] - x) > OUTSIDE_TOLERANCE * width or abs(clipped[1] - y) > OUTSIDE_TOLERANCE * height:
        found = f"{shape.label!r} at ({_shown(x)}, {_shown(y)}) lies outside the image of {width}x{height} px"
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
