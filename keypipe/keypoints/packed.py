"""Objects of an image as bytes: numbers that can be laid together as columns without an object for each of them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence

import msgspec

from keypipe.keypoints.instances import Instance, InstanceShapes, Keypoint, Visibility
from keypipe.keypoints.skeleton import Schema

_NOT_LABELLED = (math.nan, math.nan)
_VISIBILITIES = tuple(Visibility)  # looked up; calling the enumeration takes longer than all the rest


class Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The objects of one image, in the byte order of this machine.

    Attributes:
        classes: uint16, for every object the number of its class in the schema.
        numbers: float64, for every object left, top, right, bottom, then x and y of every keypoint of its class, in
            pixels; NaN = not labelled.
        states: uint8, for every object the visibility of every keypoint of its class.
        shapes: int32, for every object the shape index of its box, then of every keypoint, -1 = not labelled; nothing
            where the objects came from no shapes.
    """

    classes: bytes = b""
    numbers: bytes = b""
    states: bytes = b""
    shapes: bytes = b""

    def __len__(self) -> int:
        return len(self.classes) // 2


def pack(instances: Sequence[Instance], shapes: Sequence[InstanceShapes], schema: Schema) -> Packed:
    """Pack the objects of an image.

    Args:
        instances: the objects.
        shapes: where they stand in their file, as many; or none.
        schema: the keypoints of each class, in order.
    """
    class_number = {name: number for number, name in enumerate(schema.classes)}
    classes, numbers, states, places = array("H"), array("d"), bytearray(), array("i")
    for index, instance in enumerate(instances):
        place = shapes[index] if shapes else None
        classes.append(class_number[instance.class_name])
        numbers.extend(instance.box_xyxy)
        if place:
            places.append(place.box)
        for name in schema.classes[instance.class_name].keypoints:
            point = instance.keypoints.get(name)
            numbers.extend(_NOT_LABELLED if point is None else (point.x, point.y))
            states.append(0 if point is None else point.visibility)
            if place:
                places.append(place.keypoints.get(name, -1))
    return Packed(classes.tobytes(), numbers.tobytes(), bytes(states), places.tobytes())


def unpack(packed: Packed, schema: Schema) -> tuple[list[Instance], list[InstanceShapes]]:
    """Return what was packed under the same schema."""
    numbers, places = memoryview(packed.numbers).cast("d").tolist(), memoryview(packed.shapes).cast("i").tolist()
    instances: list[Instance] = []
    shapes: list[InstanceShapes] = []
    for index, (number, at, state_at, n_keypoints) in enumerate(walk(packed, schema)):
        name = schema.class_names[number]
        keypoints = schema.classes[name].keypoints
        end = at + 4 + 2 * n_keypoints
        states = packed.states[state_at : state_at + n_keypoints]
        points = zip(keypoints, numbers[at + 4 : end : 2], numbers[at + 5 : end : 2], states, strict=True)
        labelled = {key: Keypoint(x, y, _VISIBILITIES[state]) for key, x, y, state in points if state}
        left, top, right, bottom = numbers[at : at + 4]
        instances.append(Instance(name, (left, top, right, bottom), labelled))
        if places:
            box, *rest = places[state_at + index : state_at + index + 1 + n_keypoints]
            found = zip(keypoints, rest, strict=True)
            shapes.append(InstanceShapes(box, {key: place for key, place in found if place >= 0}))
    return instances, shapes


def walk(packed: Packed, schema: Schema) -> Iterator[tuple[int, int, int, int]]:
    """Yield, for every object, the number of its class, where its numbers and its states begin, and its keypoints."""
    sizes = [len(skeleton.keypoints) for skeleton in schema.classes.values()]
    at = state_at = 0
    for number in memoryview(packed.classes).cast("H"):
        n_keypoints = sizes[number]
        yield number, at, state_at, n_keypoints
        at += 4 + 2 * n_keypoints
        state_at += n_keypoints
