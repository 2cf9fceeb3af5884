"""The neutral model that other formats are read into: named images with their objects, and what reading them took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard, TypeVar

import msgspec
import numpy as np

from keypipe.errors import ConfigError, Fault
from keypipe.keypoints.boxes import Box, box_around, box_iou
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import Schema, Skeleton, parse_schema, schema_to_mapping

SCHEMA_KEY = "keypipe_schema"
"""Key under which exported files carry the whole schema; other tools pass it over."""


class LineFault(Fault, frozen=True):
    """A fault of a line of text, whose zero-based number is ``shape``."""

    def __str__(self) -> str:
        return f"{self.file} line {(self.shape or 0) + 1}: {self.found} -> {self.fix}"


class EntryFault(Fault, frozen=True):
    """A fault of an entry that what was found names by itself."""

    def __str__(self) -> str:
        return f"{self.file}: {self.found} -> {self.fix}"


class LabelledImage(msgspec.Struct):
    """One image of another format.

    Attributes:
        name: the image as the source names it, with forward slashes.
        instances: its objects, in pixels.
        size_wh: width and height in pixels where the source states it.
        loose: keypoints of objects for which there is no box.
        faulty: some of its labels could not be read.
        origin: the file of labels that names it, where a dataset may have several.
        split: ``train``, ``val`` or ``test`` in the source; empty if it says none.
    """

    name: str
    instances: list[Instance]
    size_wh: tuple[int, int] | None = None
    loose: list[dict[str, Keypoint]] = []
    faulty: bool = False
    origin: str = ""
    split: str = ""


class LabelSet(msgspec.Struct):
    """What was read from another format.

    Attributes:
        schema: its classes and keypoints.
        images: in the source's order.
        repairs: what had to be mended or assumed -> how often.
        losses: what the source has and keypipe cannot hold -> how often.
        faults: what could not be read; ``shape`` is the zero-based index of the annotation or line.
    """

    schema: Schema
    images: list[LabelledImage]
    repairs: Counter[str]
    losses: Counter[str]
    faults: list[Fault]

    def list_objects(self) -> Iterator[tuple[Mapping[str, Keypoint], str]]:
        """Yield the keypoints of every object, those without a box too, and its image's name."""
        for image in self.images:
            for instance in image.instances:
                yield instance.keypoints, image.name
            for points in image.loose:
                yield points, image.name


def add_object(
    labels: LabelSet,
    image: LabelledImage,
    class_name: str,
    box_xyxy: Box | None,
    keypoints: dict[str, Keypoint],
    margin: float,
) -> None:
    """Add an object to an image; one without a box, or with one of no area, gets a box around its keypoints.

    Args:
        labels: counts what is derived, and what is left out.
        image: gets the object; keypoints around which there is no box are ``loose``.
        class_name: of the object.
        box_xyxy: its box in pixels; None: the source has none.
        keypoints: its labelled keypoints.
        margin: of a derived box, as a share of the longer side of the points' extent.
    """
    if box_xyxy and box_xyxy[2] > box_xyxy[0] and box_xyxy[3] > box_xyxy[1]:
        image.instances.append(Instance(class_name, box_xyxy, keypoints))
        return
    if not keypoints:
        labels.losses["objects with neither a box nor a keypoint"] += 1
        return
    derived = box_around(((point.x, point.y) for point in keypoints.values()), margin)
    if derived is None:
        image.loose.append(keypoints)
        labels.repairs["objects whose points have no extent get no box; draw one in labelme"] += 1
        return
    image.instances.append(Instance(class_name, derived, keypoints))
    lack = "boxes of no area drawn anew from the points" if box_xyxy else "boxes derived from the points"
    labels.repairs[f"{lack}, with a margin of {margin:g} of their extent (--box-margin)"] += 1


_SAME_IOU = 0.9
"""Boxes of one class that overlap so much in two files are of one object."""


def join_objects(labels: LabelSet, first: LabelledImage, second: LabelledImage) -> list[Fault]:
    """Add to an image what another file of labels says of it; what both have stays once.

    Args:
        labels: counts what both files have.
        first: gets the objects.
        second: the same image by another file.

    Returns:
        A fault for each object that the two files have with different keypoints; ``first`` is then faulty.
    """
    faults: list[Fault] = []
    mine = len(first.instances)
    for theirs in second.instances:
        number, overlap = _find_same(theirs, first.instances[:mine])
        if overlap < _SAME_IOU:
            first.instances.append(theirs)
            continue
        ours = first.instances[number]
        if not ours.keypoints:
            first.instances[number] = theirs
        elif theirs.keypoints and not _are_alike(ours, theirs):
            found = f"{first.origin} and {second.origin} have other keypoints for the same {ours.class_name}"
            faults.append(EntryFault(first.name, None, "annotated-twice", found, "import one of the two files alone"))
            continue
        labels.repairs[f"objects that {first.origin} and {second.origin} both have, taken once"] += 1
    first.loose += [points for points in second.loose if points not in first.loose]
    first.split = first.split if first.split == second.split else ""
    first.faulty |= bool(faults)
    return faults


def _find_same(instance: Instance, others: Sequence[Instance]) -> tuple[int, float]:
    """Return which object of the same class overlaps an object most, and by what intersection over union."""
    same = [number for number, other in enumerate(others) if other.class_name == instance.class_name]
    if not same:
        return -1, 0.0
    boxes = np.array([others[number].box_xyxy for number in same])
    overlaps = box_iou(boxes, np.array([instance.box_xyxy]))
    return same[int(overlaps.argmax())], float(overlaps.max())


def _are_alike(first: Instance, second: Instance) -> bool:
    """Tell whether two objects have the same keypoints, give or take what rounding to whole pixels does."""
    return first.keypoints.keys() == second.keypoints.keys() and all(
        abs(point.x - second.keypoints[name].x) <= 1 and abs(point.y - second.keypoints[name].y) <= 1
        for name, point in first.keypoints.items()
    )


def merge_label_sets(sets: Iterable[LabelSet]) -> LabelSet:
    """Join what was read from several files of one dataset; the schema becomes the union."""
    merged = LabelSet(Schema({}), [], Counter(), Counter(), [])
    for labels in sets:
        merged.schema = merge_schemas(merged.schema, labels.schema)
        merged.images += labels.images
        merged.repairs += labels.repairs
        merged.losses += labels.losses
        merged.faults += labels.faults
    return merged


def merge_schemas(first: Schema, second: Schema) -> Schema:
    """Add to a schema what another one has besides; names and order of the first stay.

    Labels of the second that the first has as aliases are taken for what they stand for.

    Raises:
        ConfigError: the two contradict each other, such as in the partner of a shared keypoint.
    """
    classes = dict(first.classes)
    points, names = first.keypoint_labels, first.class_labels
    for label, skeleton in second.classes.items():
        name = names.get(label, label)
        add = _rename(skeleton, points)
        old = classes.get(name, Skeleton(()))
        classes[name] = Skeleton(
            _union(old.keypoints, add.keypoints), _union(old.edges, add.edges), _union_pairs(old.pairs, add.pairs)
        )
    merged = Schema(classes, first.aliases | {k: v for k, v in second.aliases.items() if k not in points | names})
    return parse_schema(schema_to_mapping(merged)) if classes else merged


def put_into_normal_form(schema: Schema) -> Schema:
    """Return a schema whose names are in the form in which annotations are read.

    Raises:
        ConfigError: two of its names are then one.
    """
    return parse_schema(schema_to_mapping(schema)) if schema.classes else schema


def holds(schema: Schema, other: Schema) -> bool:
    """Tell whether a schema has every class and keypoint of another, by name or alias."""
    points, names = schema.keypoint_labels, schema.class_labels
    return all(
        label in names
        and {points.get(name, name) for name in skeleton.keypoints} <= {*schema.classes[names[label]].keypoints}
        for label, skeleton in other.classes.items()
    )


def parse_carried_schema(value: object) -> Schema | None:
    """Return the schema that keypipe wrote into a file it exported; None if there is no schema or it is damaged."""
    try:
        return parse_schema(value) if isinstance(value, dict) else None
    except ConfigError:
        return None


def read_visibilities(seen: Iterable[float], repairs: Counter[str], *, trusted: bool) -> dict[float, Visibility]:
    """Tell what the visibilities of a dataset stand for.

    A 3 shows that they are counted from 1. Where 2 never occurs, 1 is what scripts write for every keypoint that is
    there, since no one annotates occluded keypoints alone.

    Args:
        seen: every value that occurs.
        repairs: gets what was taken differently from how it is written.
        trusted: the values are known to be COCO's.

    Returns:
        Value in the file -> visibility; values that mean nothing are absent.
    """
    values = {*seen}
    if not trusted and 3 in values and values <= {1, 2, 3}:
        repairs["visibility counted from 1"] += 1
        return {1: Visibility.NOT_LABELLED, 2: Visibility.OCCLUDED, 3: Visibility.VISIBLE}
    if not trusted and 1 in values and values <= {0, 1}:
        repairs["visibility 1 for every labelled keypoint, taken as visible"] += 1
        return {0: Visibility.NOT_LABELLED, 1: Visibility.VISIBLE}
    return {int(state): state for state in Visibility}


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value of a JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: object) -> TypeGuard[float]:
    """Tell whether a value of a JSON is a number that pixels or ids can be."""
    return is_number(value) and -1e12 < value < 1e12


def _rename(skeleton: Skeleton, labels: dict[str, str]) -> Skeleton:
    def name(label: str) -> str:
        return labels.get(label, label)

    return Skeleton(
        tuple(dict.fromkeys(map(name, skeleton.keypoints))),
        tuple((name(a), name(b)) for a, b in skeleton.edges),
        tuple((name(a), name(b)) for a, b in skeleton.pairs),
    )


T = TypeVar("T")


def _union(first: tuple[T, ...], second: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys([*first, *second]))


def _union_pairs(
    first: tuple[tuple[str, str], ...], second: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Join pairs; the first's word on a keypoint counts."""
    paired = {name for pair in first for name in pair}
    return first + tuple(pair for pair in second if not paired & {*pair})
