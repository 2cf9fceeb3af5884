from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keypipe.keypoints.instances import Instance, InstanceShapes, Keypoint, Visibility
from keypipe.keypoints.packed import Packed, pack, unpack, walk
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail", "ear"]}, "post": {"keypoints": ["top"]}}})
NUMBERS = st.floats(allow_nan=False, width=64)
POINTS = st.builds(Keypoint, NUMBERS, NUMBERS, st.sampled_from([Visibility.OCCLUDED, Visibility.VISIBLE]))


@st.composite
def instances(draw: st.DrawFn) -> Instance:
    name = draw(st.sampled_from(SCHEMA.class_names))
    labelled = [key for key in SCHEMA.classes[name].keypoints if draw(st.booleans())]
    return Instance(name, draw(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)), {key: draw(POINTS) for key in labelled})


@given(st.lists(instances(), max_size=5))
def test_what_is_packed_comes_back_to_the_last_bit(objects: list[Instance]) -> None:
    shapes = [InstanceShapes(7 * n, {key: n + i for i, key in enumerate(o.keypoints)}) for n, o in enumerate(objects)]
    packed = pack(objects, shapes, SCHEMA)
    assert len(packed) == len(objects)
    assert unpack(packed, SCHEMA) == (objects, shapes)
    assert unpack(pack(objects, [], SCHEMA), SCHEMA) == (objects, [])
    assert [SCHEMA.class_names[number] for number, *_ in walk(packed, SCHEMA)] == [item.class_name for item in objects]


def test_numbers_can_be_laid_out_as_columns() -> None:
    cow = Instance("cow", (1, 2, 3, 4), {"tail": Keypoint(5, 6, Visibility.OCCLUDED)})
    packed = pack([cow, Instance("post", (7, 8, 9, 10), {})], [], SCHEMA)
    nan = math.nan
    np.testing.assert_array_equal(
        np.frombuffer(packed.numbers), [1, 2, 3, 4, nan, nan, 5, 6, nan, nan, 7, 8, 9, 10, nan, nan]
    )
    assert packed.states == bytes([0, 1, 0, 0])
    assert list(walk(packed, SCHEMA)) == [(0, 0, 0, 3), (1, 10, 3, 1)]
    assert len(Packed()) == 0
