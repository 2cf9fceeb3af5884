"""Checks and figures of all objects of a class, for the diagnosis."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.diagnosis.columns import ClassObjects, Rows
from keypipe.diagnosis.findings import Finding, Severity
from keypipe.diagnosis.outliers import Examination, Examiner, learn_shapes
from keypipe.keypoints.boxes import box_iou
from keypipe.keypoints.instances import Visibility
from keypipe.keypoints.skeleton import Skeleton

OUTSIDE_BOX = 0.1
"""Share of the box's longer side by which a keypoint may lie outside its box."""

MIN_BOX_PX = 4.0
MIN_INPUT_PX = 8.0
"""Side of a cell of YOLOv8's finest grid (stride 8), in pixels of the model's input."""

_SAME_BOX_IOU = 0.9
_CONVENTION = 0.1  # what so large a share of the objects has is how these people annotate, and no fault
_USUAL = 0.85  # share of the whole objects that have a keypoint which is missing where it is not
_ENOUGH = 10  # objects below which no share is meaningful
_CUT_OFF = 0.05  # box sides; a keypoint expected no farther inside the image is taken to be cut off by its edge
_SURELY_INSIDE = 0.25
_BLOCK = 4096  # objects looked at together
_CLOUD = 4000  # objects of a class that a picture of their keypoints is made of
_EDGE_PX = 2.0  # a box that comes so near to the image's edge is cut off by it


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
    """How a class is annotated.

    Attributes:
        name: of the class.
        objects: number of objects.
        images: with one.
        objects_by_split: number of objects in each split.
        incomplete: objects with a keypoint that is not labelled.
        keypoints: of the class.
    """

    name: str
    objects: int
    images: int
    objects_by_split: dict[str, int]
    incomplete: int
    keypoints: list[KeypointStatistics]


class Cloud(msgspec.Struct, frozen=True):
    """The objects of a class in one frame, turned and, where they face the other way, mirrored.

    A keypoint of a mirrored object stands in the column of its partner.

    Attributes:
        class_name: the class.
        mean: complex (n_keypoints,), the mean shape, x + iy; NaN for keypoints without one.
        aligned: complex (n_instances, n_keypoints); NaN = not labelled. Of many objects some, evenly spread, and all
            that are marked.
        marked: bool (n_instances, n_keypoints), what is an outlier or exchanged.
    """

    class_name: str
    mean: NDArray[np.complex128]
    aligned: NDArray[np.complex128]
    marked: NDArray[np.bool_]


def check_class(
    objects: ClassObjects, skeleton: Skeleton, input_px: int | None, findings: list[Finding]
) -> tuple[ClassStatistics, Cloud | None]:
    """Check the objects of a class, some thousands at a time, and add what is found."""
    column = {name: number for number, name in enumerate(skeleton.keypoints)}
    partners = skeleton.partners()
    rows = objects.rows
    examiner = learn_shapes(
        rows.points,
        [column[partners.get(name, name)] for name in skeleton.keypoints],
        [(column[a], column[b]) for a, b in skeleton.edges],
    )
    odd = np.zeros(len(skeleton.keypoints), dtype=int)
    cloud: list[tuple[NDArray[np.complex128], NDArray[np.bool_]]] = []
    every = 1 + len(objects) // _CLOUD
    habits = _learn_habits(objects)
    findings += _find_repeated(objects)
    for block in objects.blocks(_BLOCK):
        examination = examiner.examine(block.points) if examiner else None
        placed = examination.placed if examination else np.full_like(block.points, np.nan)
        findings += _find_missing(objects, block, placed, skeleton, habits)
        findings += _find_outside(objects, block, skeleton, habits)
        findings += _find_tiny(objects, block, input_px)
        if examination:
            findings += _find_odd_shapes(objects, block.first, examination, skeleton)
            marked = _marked(examination)
            odd += marked.sum(axis=0)
            shown = marked.any(axis=1) | (np.arange(block.first, block.first + len(marked)) % every == 0)
            cloud.append((examination.aligned[shown], _turned(examination, marked, skeleton)[shown]))
    statistics = _count_class(objects, rows.states, skeleton, examiner, odd)
    if not examiner:
        return statistics, None
    aligned, marks = (np.concatenate(parts) for parts in zip(*cloud, strict=True))
    return statistics, Cloud(objects.name, examiner.mean, aligned, marks)


class _Habits(msgspec.Struct, frozen=True):
    """What is usual for a class, and so no fault.

    Attributes:
        usual: bool (n_keypoints,), keypoints that whole objects nearly always have.
        boxes_alone: whether many objects have no keypoint at all.
        outside: bool (n_keypoints,), keypoints that often lie outside the box.
    """

    usual: NDArray[np.bool_]
    boxes_alone: bool
    outside: NDArray[np.bool_]


def _learn_habits(objects: ClassObjects) -> _Habits:
    n_keypoints = objects.rows.points.shape[1]
    of_whole, outside = np.zeros(n_keypoints, dtype=int), np.zeros(n_keypoints, dtype=int)
    n_whole = n_empty = 0
    for block in objects.blocks(_BLOCK):
        labelled = block.states > 0
        empty = ~labelled.any(axis=1)
        counted = _are_whole(block) & ~empty
        of_whole += labelled[counted].sum(axis=0)
        n_whole += int(counted.sum())
        n_empty += int(empty.sum())
        outside += _far_outside(block)[0].sum(axis=0)
    enough = len(objects) >= _ENOUGH
    return _Habits(
        of_whole >= _USUAL * n_whole if n_whole >= _ENOUGH else np.zeros(n_keypoints, dtype=bool),
        enough and n_empty > _CONVENTION * len(objects),
        outside > _CONVENTION * len(objects) if enough else np.zeros(n_keypoints, dtype=bool),
    )


def _are_whole(block: Rows) -> NDArray[np.bool_]:
    """Tell which objects the image's edge does not cut off."""
    near = block.boxes_xyxy[:, :2] <= _EDGE_PX
    far = block.boxes_xyxy[:, 2:] >= block.sizes_wh - _EDGE_PX
    whole: NDArray[np.bool_] = np.all(~(near | far), axis=1)
    return whole


def _find_repeated(objects: ClassObjects) -> list[Finding]:
    """Find objects whose box lies where an earlier one of the same image and class does."""
    boxes, files = objects.rows.boxes_xyxy, objects.file_numbers
    earlier: dict[int, int] = {}
    later = np.arange(len(objects))
    for step in range(1, len(objects)):  # each object with the one so many places before it
        later = later[later >= step]
        later = later[files[later] == files[later - step]]
        if not len(later):
            break
        same = later[box_iou(boxes[later - step], boxes[later]) >= _SAME_BOX_IOU]
        earlier |= {int(row): int(row) - step for row in same}
    findings: list[Finding] = []
    for row, first in sorted(earlier.items()):
        item, other = objects[row], objects[first]
        also = f" (also shape {other.shapes.box})" if other.shapes else ""
        message = f"two boxes of {objects.name!r} lie on the same place{also}"
        findings.append(item.to_finding("duplicate-object", "warning", message, "delete one of them"))
    return findings


def _find_missing(
    objects: ClassObjects, block: Rows, placed: NDArray[np.complex128], skeleton: Skeleton, habits: _Habits
) -> list[Finding]:
    """Find keypoints that are missing although nearly all whole objects have them.

    What the image's edge cuts off cannot be labelled, and what is often not labelled is left out on purpose.
    """
    boxes, size_wh = block.boxes_xyxy, block.sizes_wh
    labelled = block.states > 0
    whole, empty = _are_whole(block), np.all(~labelled, axis=1)
    if (labelled | ~habits.usual).all() and not empty.any():
        return []
    # How far inside the image the other keypoints put a missing one, in box sides; negative outside of it.
    inside = np.minimum.reduce(
        [placed.real, size_wh[:, [0]] - placed.real, placed.imag, size_wh[:, [1]] - placed.imag]
    ) / (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    lacks = ~labelled & habits.usual & (whole[:, None] | ~(inside < _CUT_OFF))
    findings: list[Finding] = []
    for row in np.flatnonzero(lacks.any(axis=1) | empty).tolist():
        item, name = objects[block.first + row], objects.name
        if empty[row]:
            message = f"the {name!r} has none of its {len(skeleton.keypoints)} keypoints"
            fix = "label them, or delete the box if it is no object"
            findings.append(item.to_finding("no-keypoints", "info" if habits.boxes_alone else "warning", message, fix))
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


def _far_outside(block: Rows) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Tell which keypoints lie far outside their box, and by how many pixels; (n, n_keypoints) both."""
    boxes, x, y = block.boxes_xyxy, block.points.real, block.points.imag
    beyond = np.maximum.reduce([boxes[:, [0]] - x, x - boxes[:, [2]], boxes[:, [1]] - y, y - boxes[:, [3]]])
    longer = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return beyond > OUTSIDE_BOX * longer[:, None], beyond  # not labelled is NaN, which is not greater


def _find_outside(objects: ClassObjects, block: Rows, skeleton: Skeleton, habits: _Habits) -> list[Finding]:
    far, beyond = _far_outside(block)
    findings: list[Finding] = []
    for row, number in np.argwhere(far & ~habits.outside):
        item, name = objects[block.first + row], skeleton.keypoints[number]
        message = f"{name!r} lies {beyond[row, number]:.0f} px outside the box of its {objects.name!r}"
        fix = "move the point, widen the box, or correct the group_id"
        findings.append(item.to_finding("keypoint-outside-box", "warning", message, fix, [name]))
    return findings


def _find_tiny(objects: ClassObjects, block: Rows, input_px: int | None) -> list[Finding]:
    sides = block.boxes_xyxy[:, 2:] - block.boxes_xyxy[:, :2]
    longest = block.sizes_wh.max(axis=1)
    at_input = sides.max(axis=1) * (input_px / longest if input_px else np.inf)
    findings: list[Finding] = []
    for row in np.flatnonzero((sides.min(axis=1) < MIN_BOX_PX) | (at_input < MIN_INPUT_PX)).tolist():
        width, height = sides[row]
        message = f"the box is {width:.0f} x {height:.0f} px"
        if input_px and at_input[row] < MIN_INPUT_PX:
            message += f", {at_input[row]:.1f} px at the model's input of {input_px} px"
        fix = "delete it if it is a slip; else train with a larger imgsz (`keypipe init` proposes one) or on crops"
        findings.append(objects[block.first + row].to_finding("tiny-box", "warning", message, fix))
    return findings


def _find_odd_shapes(objects: ClassObjects, first: int, examination: Examination, skeleton: Skeleton) -> list[Finding]:
    findings: list[Finding] = []
    names, partners = skeleton.keypoints, skeleton.partners()
    for exchange in examination.exchanges:
        item = objects[first + exchange.instance]
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
        item, name = objects[first + outlier.instance], names[outlier.keypoint]
        x, y = outlier.expected.real, outlier.expected.imag
        share = 100 * outlier.distance
        message = (
            f"{name!r} lies {share:.0f} % of the object's size away from where the other keypoints put it,"
            f" near ({x:.0f}, {y:.0f}); that is {outlier.deviation:.0f} times the usual"
        )
        fix = "look whether the point or its label is wrong"
        findings.append(item.to_finding("keypoint-outlier", "warning", message, fix, [name], ((x, y),)))
    for number in examination.unusual:
        item = objects[first + number]
        message = f"the keypoints of this {item.instance.class_name!r} lie as in no other one"
        fix = "look whether points or labels are wrong; an odd view is no fault"
        findings.append(item.to_finding("unusual-shape", "info", message, fix))
    return findings


def _count_class(
    objects: ClassObjects,
    states: NDArray[np.uint8],
    skeleton: Skeleton,
    examiner: Examiner | None,
    odd: NDArray[np.intp],
) -> ClassStatistics:
    spreads = examiner.spread if examiner else np.full(len(skeleton.keypoints), np.nan)
    return ClassStatistics(
        objects.name,
        len(objects),
        objects.n_images,
        dict(sorted(objects.by_split.items())),
        int((states == Visibility.NOT_LABELLED).any(axis=1).sum()),
        [
            KeypointStatistics(
                keypoint,
                int((column == Visibility.VISIBLE).sum()),
                int((column == Visibility.OCCLUDED).sum()),
                int((column == Visibility.NOT_LABELLED).sum()),
                round(float(spread), 4) if np.isfinite(spread) else None,
                int(found),
            )
            for keypoint, column, spread, found in zip(skeleton.keypoints, states.T, spreads, odd, strict=True)
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


def _turned(examination: Examination, marked: NDArray[np.bool_], skeleton: Skeleton) -> NDArray[np.bool_]:
    """Move the marks of mirrored objects to the columns of their keypoints' partners."""
    names, partners = skeleton.keypoints, skeleton.partners()
    flipped = marked[:, [names.index(partners.get(keypoint, keypoint)) for keypoint in names]]
    return np.where(examination.mirrored[:, None], flipped, marked)
