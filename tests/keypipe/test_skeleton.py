from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.errors import ConfigError
from keypipe.skeleton import Schema, find_pairs, mirror_name, parse_schema, schema_to_mapping


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [
        ("left_ear", "right_ear"),
        ("RightEar", "LeftEar"),
        ("ear_left", "ear_right"),
        ("左耳", "右耳"),
        ("LEFT", "RIGHT"),
        ("leftover", None),
        ("bright", None),
        ("nose", None),
    ],
)
def test_mirror_name(name: str, mirrored: str | None) -> None:
    assert mirror_name(name) == mirrored


def test_pairs_are_found_once_and_only_with_both_members() -> None:
    assert find_pairs(["right_a", "nose", "left_a", "left_b"]) == (("right_a", "left_a"),)


def test_slots_are_the_union_over_classes_in_schema_order() -> None:
    schema = parse_schema(
        {
            "classes": {
                "cow": {"keypoints": ["nose", "left_ear", "right_ear"]},
                "bird": {"keypoints": ["beak", "left_ear", "right_ear", "tail"]},
            }
        }
    )
    assert schema.slots == ("nose", "left_ear", "right_ear", "beak", "tail")
    assert schema.slot_indices("bird").tolist() == [3, 1, 2, 4]
    assert schema.flip_idx == (0, 2, 1, 3, 4)


names = st.lists(
    st.sampled_from(["nose", "left_a", "right_a", "左b", "右b", "left_c", "1", "2"]), min_size=1, unique=True
)


@given(st.dictionaries(st.sampled_from(["a", "b", "奶牛"]), names, min_size=1))
def test_flip_idx_is_a_permutation_that_undoes_itself(classes: dict[str, list[str]]) -> None:
    mapping = {"classes": {name: {"keypoints": keypoints} for name, keypoints in classes.items()}}
    # Classes that share a name but not its partner have no common flip_idx, and are refused.
    partners = [{(n, mirror_name(n) if mirror_name(n) in kpts else None) for n in kpts} for kpts in classes.values()]
    if any(
        len({p for members in partners for name, p in members if name == n}) > 1 for k in classes.values() for n in k
    ):
        with pytest.raises(ConfigError, match="must agree"):
            parse_schema(mapping)
        return
    schema = parse_schema(mapping)
    flip = schema.flip_idx
    assert sorted(flip) == list(range(len(schema.slots)))
    assert [flip[index] for index in flip] == list(range(len(flip)))
    assert parse_schema(schema_to_mapping(schema)) == schema


def test_numbers_are_taken_as_names() -> None:
    schema = parse_schema({"classes": {"cow": {"keypoints": [1, 2, 3], "skeleton": [[1, 2]]}}})
    assert schema.slots == ("1", "2", "3")
    assert schema.edges == ((0, 1),)
    assert isinstance(schema, Schema)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "expected at least one class"),
        ({"classes": {"cow": {}}}, "schema.classes.cow.keypoints: expected a list of names, got None"),
        ({"classes": {"cow": {"keypoints": ["a", "a"]}}}, "'a' stands there twice"),
        ({"classes": {"cow": {"keypoints": ["a"], "skeleton": [["a", "b"]]}}}, "'b' is not a keypoint"),
        ({"classes": {"cow": {"keypoints": ["a", "b"], "skeleton": [["a"]]}}}, "expected two keypoint names"),
        ({"classes": {"cow": {"keypoints": ["a", "b"], "pairs": [["a", "a"]]}}}, "joins 'a' with itself"),
        (
            {"classes": {"cow": {"keypoints": ["a", "b", "c"], "pairs": [["a", "b"], ["b", "c"]]}}},
            "'b' is in two pairs",
        ),
        ({"classes": {"cow": {"keypoints": ["a"], "keypoint": 1}}}, "keypoint: unknown key"),
        (
            {"classes": {"x": {"keypoints": ["left_a", "right_a"]}, "y": {"keypoints": ["left_a"]}}},
            "classes that share a keypoint name must agree",
        ),
    ],
)
def test_a_bad_schema_is_refused_with_its_place(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_schema(mapping)
    assert message in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_schema({"classes": {"a": {"keypoints": []}, "b": {"keypoints": ["x", "x"], "edges": []}}})
    assert len(str(caught.value).splitlines()) == 3
