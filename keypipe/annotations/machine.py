"""Shapes that a model drew, and how one tells that a person has looked at them.

Every such shape carries the flag ``machine``, its ``score``, and under the key ``machine`` what the model said: label,
corners, group, flags, description. labelme and X-AnyLabeling keep keys that they do not know, so whatever a person
changes differs from it. Who finds all as it should be says so: for a shape by taking its flag away, for an image by its
flag ``confirmed``, or by X-AnyLabeling's ``checked``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from keypipe.annotations.labelme import LabelmeFile, LabelmeOptions, LabelmeShape, to_document
from keypipe.keypoints.boxes import bounds
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction

MACHINE: Final = "machine"
"""The flag of shapes that a model drew, and the key of what it said."""
CONFIRMED: Final = "confirmed"
"""The flag of an image whose shapes a person found right."""

SAME_PX: Final = 0.01
"""Coordinates are written in hundredths of a pixel; less is an editor's rounding and no person's move."""

LABELLED_SHARE: Final = 0.5
"""A keypoint below this share of the confidence from which one counts as visible is left out: it is probably not
labelled. Between the two it is written, as occluded."""


def to_machine_document(
    predictions: Sequence[Prediction],
    image_path: str,
    size_wh: tuple[int, int],
    options: LabelmeOptions,
    keypoint_conf: float,
    model: str = "",
) -> dict[str, Any]:
    """Return a labelme file of what a model found, every object under a group of its own.

    Args:
        predictions: pixels of the upright image.
        image_path: the image, relative to the JSON file.
        size_wh: its width and height in pixels, upright.
        options: how the workspace marks occluded keypoints.
        keypoint_conf: confidence from which a keypoint counts as visible; see ``LABELLED_SHARE`` for those below.
        model: says which model it was.
    """
    shapes: list[LabelmeShape] = []
    for group, found in enumerate(predictions, start=1):
        left, top, right, bottom = found.box_xyxy
        box = LabelmeShape(found.class_name, [(left, top), (right, bottom)], "rectangle", group, {}, score=found.score)
        points = [
            _to_point(point, group, options, occluded=point.confidence < keypoint_conf)
            for point in found.keypoints
            if point.confidence >= LABELLED_SHARE * keypoint_conf
        ]
        shapes += [_mark(shape, model) for shape in (box, *points)]
    document = to_document(shapes, image_path, size_wh)
    document["flags"] = {CONFIRMED: False}
    return document


def _to_point(point: PredictedKeypoint, group: int, options: LabelmeOptions, *, occluded: bool) -> LabelmeShape:
    """Mark an occluded keypoint by the flag; where there is none, by the suffix, else by the description."""
    flag, suffix, word = options.occluded_flag, options.occluded_suffix, options.occluded_description
    by_suffix = occluded and not flag and suffix
    return LabelmeShape(
        f"{point.name}{suffix}" if by_suffix else point.name,
        [(point.x, point.y)],
        "point",
        group,
        {flag: occluded} if flag else {},
        word if occluded and not flag and not suffix else "",
        score=point.confidence,
    )


def _mark(shape: LabelmeShape, model: str) -> LabelmeShape:
    said = _describe(shape) | ({"model": model} if model else {})
    shape.flags = {**(shape.flags or {}), MACHINE: True}
    shape.machine = said
    return shape


def _describe(shape: LabelmeShape) -> dict[str, Any]:
    """Return what a person would change. Of a rectangle the outer corners: X-AnyLabeling turns two into four."""
    is_box = shape.shape_type == "rectangle"
    points = [list(corner) for corner in _corners(shape)] if is_box else [list(point) for point in shape.points]
    return {
        "label": shape.name,
        "points": points,
        "group_id": shape.group,
        "flags": sorted(name for name, is_set in (shape.flags or {}).items() if is_set is True and name != MACHINE),
        "description": shape.description or "",
    }


def _corners(shape: LabelmeShape) -> tuple[tuple[float, float], tuple[float, float]]:
    left, top, right, bottom = bounds(shape.points)
    return (left, top), (right, bottom)


def find_untouched(file: LabelmeFile) -> list[int]:
    """Find the shapes that a model drew and no person has moved, renamed, changed otherwise or confirmed.

    Args:
        file: as it was read.

    Returns:
        Their indices in ``shapes``.
    """
    if file.checked is True or (isinstance(file.flags, Mapping) and file.flags.get(CONFIRMED) is True):
        return []
    return [index for index, shape in enumerate(file.shapes) if _is_untouched(shape)]


def _is_untouched(shape: LabelmeShape) -> bool:
    if not (shape.flags and shape.flags.get(MACHINE) is True) or not shape.points:
        return False
    said = shape.machine
    if not isinstance(said, Mapping):  # an editor has dropped it: the flag alone tells
        return True
    now = _describe(shape)
    same = all(said.get(key) == now[key] for key in ("label", "group_id", "flags", "description"))
    return same and shape.difficult is not True and _is_near(said.get("points"), now["points"])


def _is_near(said: Any, now: Iterable[Sequence[float]]) -> bool:
    """Tell whether points lie where they were; anything but points does not."""
    try:
        return all(
            abs(a - b) <= SAME_PX
            for before, after in zip(said, now, strict=True)
            for a, b in zip(before, after, strict=True)
        )
    except (TypeError, ValueError, OverflowError):
        return False
