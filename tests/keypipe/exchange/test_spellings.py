from __future__ import annotations

from collections import Counter

import pytest

from keypipe.errors import AnnotationError
from keypipe.exchange.labels import LabelledImage, LabelSet
from keypipe.exchange.spellings import take_spellings
from keypipe.keypoints.instances import Instance, Keypoint
from keypipe.keypoints.skeleton import Schema, Skeleton

SCHEMA = Schema({"cow": Skeleton(("nose", "left_ear", "right_ear"))}, {"muzzle": "nose"})


def label(*objects: tuple[str, str], schema: Schema | None = None) -> LabelSet:
    """Return labels of one image for each object: class, and keypoints with blanks between them."""
    images = [
        LabelledImage(f"{number}.png", [Instance(name, (0, 0, 9, 9), {key: Keypoint(1, 1) for key in keys.split("|")})])
        for number, (name, keys) in enumerate(objects)
    ]
    classes: dict[str, Skeleton] = {}
    for name, keys in objects:
        known = classes.get(name, Skeleton(())).keypoints
        classes[name] = Skeleton(tuple(dict.fromkeys([*known, *keys.split("|")])))
    return LabelSet(schema or Schema(classes), images, Counter(), Counter(), [])


def test_names_are_the_schemas() -> None:
    labels = label(("Cow", "Nose|Left Ear|RIGHT-EAR"), ("cow", "nose"), ("cow", "Muzzle"))
    labels.images[0].loose = [{"Left Ear": Keypoint(2, 2)}]
    (note,) = take_spellings(labels, SCHEMA)
    assert note == (
        "names read in another spelling: 'Cow' as 'cow', 'Left Ear' as 'left_ear', 'Nose' as 'nose',"
        " 'Muzzle' as 'nose', 'RIGHT-EAR' as 'right_ear'"
    )
    assert [(image.instances[0].class_name, [*image.instances[0].keypoints]) for image in labels.images] == [
        ("cow", ["nose", "left_ear", "right_ear"]),
        ("cow", ["nose"]),
        ("cow", ["nose"]),
    ]
    assert [*labels.images[0].loose[0]] == ["left_ear"]
    assert labels.schema.classes == {"cow": Skeleton(("nose", "left_ear", "right_ear"))}


def test_names_and_aliases_of_the_schema_stay_as_they_are() -> None:
    labels = label(("cow", "muzzle|left_ear"))
    assert take_spellings(labels, SCHEMA) == []
    assert [*labels.images[0].instances[0].keypoints] == ["muzzle", "left_ear"]


def test_edges_and_pairs_get_the_names_as_well() -> None:
    schema = Schema({"Cow": Skeleton(("Nose", "L", "R"), (("Nose", "L"),), (("L", "R"),))}, {"snout": "Nose"})
    labels = label(("Cow", "Nose|L|R"), schema=schema)
    take_spellings(labels, Schema({"cow": Skeleton(("nose", "l", "r"))}))
    expected = Skeleton(("nose", "l", "r"), (("nose", "l"),), (("l", "r"),))
    assert labels.schema == Schema({"cow": expected}, {"snout": "nose"})


def test_names_that_the_schema_lacks_are_one_among_themselves() -> None:
    labels = label(("cow", "tail_tip"), ("cow", "tail_tip"), ("COW", "Tail Tip"))
    notes = take_spellings(labels, Schema({"cow": Skeleton(("nose",))}))
    assert notes == ["names read in another spelling: 'COW' as 'cow', 'Tail Tip' as 'tail_tip'"]
    assert labels.schema.classes == {"cow": Skeleton(("tail_tip",))}


def test_keypoints_of_one_object_stay_two() -> None:
    labels = label(("cow", "nose|Nose"))
    (note,) = take_spellings(labels, SCHEMA)
    assert note.startswith("'nose' and 'Nose' stand in one object (0.png) and stay two")
    assert [*labels.images[0].instances[0].keypoints] == ["nose", "Nose"]


@pytest.mark.parametrize(
    ("labels", "schema", "message"),
    [
        (label(("cow", "Nose|NOSE")), SCHEMA, "0.png: 'NOSE' and 'Nose' stand in one object, and both look like"),
        (label(("cow", "Nose")), Schema({"cow": Skeleton(("nose", "NOSE"))}), "'Nose' looks like 'nose' and 'NOSE'"),
        (label(("Cow", "a")), Schema({"cow": Skeleton(("a",)), "COW": Skeleton(("a",))}), "the class 'Cow' looks like"),
    ],
)
def test_a_name_that_could_mean_several_is_refused(labels: LabelSet, schema: Schema, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        take_spellings(labels, schema)
