from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import Schema, compare_schemas, find_pairs, mirror_name, parse_schema, schema_to_mapping


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
        ({"classes": {"cow": {"keypoints": ["a"]}}, "aliases": ["b"]}, "schema.aliases: expected other labels"),
        ({"classes": {"cow": {"keypoints": ["a"]}}, "aliases": {"b": "c"}}, "'c' is neither a class nor a keypoint"),
        ({"classes": {"cow": {"keypoints": ["a"]}}, "aliases": {"b": ["a"]}}, "b: expected one name, got ['a']"),
        (
            {"classes": {"cow": {"keypoints": ["a", "b"]}}, "aliases": {"b": "a"}},
            "'b' is a keypoint itself, and cannot stand for 'a' as well",
        ),
        (
            {"classes": {"cow": {"keypoints": ["a"]}, "bull": {"keypoints": ["a"]}}, "aliases": {"bull": "cow"}},
            "'bull' is a class itself",
        ),
        ({"classes": {"cow": {"keypoints": ["a"]}}, "aliases": {1: "a", "1": "cow"}}, "aliases.1: stands there twice"),
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


def test_aliases_stand_for_classes_and_keypoints() -> None:
    schema = parse_schema(
        {
            "classes": {"cow": {"keypoints": ["head", "tail"]}, "head": {"keypoints": ["nose"]}},
            "aliases": {"heifer": "cow", "snout": "nose", "face": "head", 7: "tail"},
        }
    )
    assert schema.class_labels == {"cow": "cow", "head": "head", "heifer": "cow", "face": "head"}
    # A name that is both a class and a keypoint is meant as what the shape is.
    assert schema.keypoint_labels == {
        "head": "head",
        "tail": "tail",
        "nose": "nose",
        "snout": "nose",
        "face": "head",
        "7": "tail",
    }
    assert parse_schema(schema_to_mapping(schema)) == schema


def test_a_keypoint_may_have_the_alias_that_is_a_class() -> None:
    schema = parse_schema({"classes": {"cow": {"keypoints": ["whole"]}}, "aliases": {"cow": "whole"}})
    assert (schema.class_labels["cow"], schema.keypoint_labels["cow"]) == ("cow", "whole")


BEFORE = {"cow": {"keypoints": ["nose", "left_ear", "right_ear", "tail"], "skeleton": [["nose", "tail"]]}}

CHANGES: dict[str, tuple[dict[str, object], list[tuple[str, str]]]] = {
    "nothing": ({"classes": BEFORE}, []),
    "a keypoint added": (
        {"classes": {"cow": BEFORE["cow"] | {"keypoints": ["nose", "left_ear", "right_ear", "tail", "hoof"]}}},
        [("added", "keypoint hoof of cow"), ("changed", "kpt_shape")],
    ),
    "a keypoint removed": (
        {"classes": {"cow": {"keypoints": ["nose", "left_ear", "right_ear"], "skeleton": []}}},
        [("removed", "keypoint tail of cow"), ("changed", "edges of cow"), ("changed", "kpt_shape")],
    ),
    "in another order": (
        {"classes": {"cow": BEFORE["cow"] | {"keypoints": ["tail", "left_ear", "right_ear", "nose"]}}},
        [("reordered", "keypoints of cow")],
    ),
    "renamed where it stands": (
        {
            "classes": {
                "cow": {"keypoints": ["muzzle", "left_ear", "right_ear", "tail"], "skeleton": [["muzzle", "tail"]]}
            }
        },
        [("probably-renamed", "keypoint nose of cow")],
    ),
    "renamed by an alias, moved to the end": (
        {
            "classes": {
                "cow": {"keypoints": ["left_ear", "right_ear", "tail", "muzzle"], "skeleton": [["muzzle", "tail"]]}
            },
            "aliases": {"nose": "muzzle"},
        },
        [("renamed", "keypoint nose of cow"), ("reordered", "keypoints of cow"), ("changed", "aliases")],
    ),
    "pairs": (
        {"classes": {"cow": BEFORE["cow"] | {"pairs": []}}},
        [("changed", "left/right pairs of cow")],
    ),
    "a class renamed": ({"classes": {"cattle": BEFORE["cow"]}}, [("probably-renamed", "class cow")]),
    "a class added before": (
        {"classes": {"calf": {"keypoints": ["nose"]}, **BEFORE}},
        [("added", "class calf")],
    ),
    "another class": (
        {"classes": {"bird": {"keypoints": ["beak"]}, "fish": {"keypoints": ["fin"]}}},
        [("removed", "class cow"), ("added", "class bird"), ("added", "class fish"), ("changed", "kpt_shape")],
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_compare_schemas(case: str) -> None:
    mapping, expected = CHANGES[case]
    changes = compare_schemas(parse_schema({"classes": BEFORE}), parse_schema(mapping))
    assert [(change.kind, change.what) for change in changes] == expected


def test_a_change_says_what_follows() -> None:
    new = parse_schema({"classes": {"cow": {"keypoints": ["snout", "left_ear", "right_ear", "tail", "hoof"]}}})
    said = [str(change) for change in compare_schemas(parse_schema({"classes": BEFORE}), new)]
    assert said == [
        "keypoint nose of cow removed: its shapes are passed over",
        "keypoint snout of cow added: older annotations count as not labelled there",
        "keypoint hoof of cow added: older annotations count as not labelled there",
        "edges of cow changed",
        "kpt_shape changed: [4, 3] -> [5, 3]; keypipe's weights can be started from all the same",
    ]


@given(st.lists(st.sampled_from(["a", "b", "left_c", "right_c", "d"]), min_size=1, unique=True))
def test_a_schema_does_not_differ_from_itself(keypoints: list[str]) -> None:
    schema = parse_schema({"classes": {"x": {"keypoints": keypoints}}})
    assert compare_schemas(schema, schema) == []
