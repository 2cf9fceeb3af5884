from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import Schema, Skeleton
from keypipe.ranking.suspects import LIMIT, Seen, Suspect, find_suspects

NAMES = ("nose", "left_ear", "right_ear", "tail")
SCHEMA = Schema({"cow": Skeleton(NAMES, (), (("left_ear", "right_ear"),)), "calf": Skeleton(NAMES)})
PLACES = {"nose": (10.0, 20.0), "left_ear": (20.0, 10.0), "right_ear": (20.0, 30.0), "tail": (90.0, 20.0)}
Labels = dict[str, Keypoint]


def seen(number: int, rng: np.random.Generator) -> Seen:
    """Return an image with two animals that a model sees as they are labelled, but for a pixel."""
    instances, predictions = [], []
    for dy in (0.0, 60.0):
        labels = {
            name: Keypoint(x + rng.normal(0, 1.5), y + dy + rng.normal(0, 1.5)) for name, (x, y) in PLACES.items()
        }
        box = (5.0, 5.0 + dy, 95.0, 35.0 + dy)
        instances.append(Instance("cow", box, labels))
        points = [
            PredictedKeypoint(name, point.x + rng.normal(0, 1), point.y + rng.normal(0, 1), 0.97)
            for name, point in labels.items()
        ]
        predictions.append(Prediction("cow", 0.9, box, points))
    image = AnnotatedImage(f"raw/{number}.jpg", (100, 100), f"{number:032x}", tuple(instances), f"{number}.json")
    return Seen(image, predictions)


def dataset(n: int = 30) -> list[Seen]:
    rng = np.random.default_rng(0)
    return [seen(number, rng) for number in range(n)]


def with_labels(item: Seen, change: Callable[[Labels], Labels], class_name: str = "cow") -> Seen:
    """Change the labels of the second animal."""
    first, second = item.image.instances
    changed = Instance(class_name, second.box_xyxy, change(dict(second.keypoints)))
    return Seen(msgspec.structs.replace(item.image, instances=(first, changed)), item.predictions)


def exchange(*names: str) -> Callable[[Labels], Labels]:
    """Give keypoints the names of those that follow them."""
    return lambda labels: (
        labels | {name: labels[other] for name, other in zip(names, names[1:] + names[:1], strict=True)}
    )


CASES: dict[str, tuple[Callable[[Labels], Labels], str, tuple[str, ...]]] = {
    "moved": (lambda labels: labels | {"tail": Keypoint(60.0, 85.0)}, "moved", ("tail",)),
    "left and right": (exchange("left_ear", "right_ear"), "exchanged", ("left_ear", "right_ear")),
    "three in a circle": (exchange("nose", "left_ear", "right_ear"), "exchanged", ("nose", "left_ear", "right_ear")),
    "one on another's place": (lambda labels: labels | {"tail": labels["nose"]}, "moved", ("tail",)),
    "forgotten": (lambda labels: {k: v for k, v in labels.items() if k != "nose"}, "missing-keypoint", ("nose",)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_label_is_the_first_suspect_and_named(case: str) -> None:
    change, kind, names = CASES[case]
    items = dataset()
    items[7] = with_labels(items[7], change)
    found = find_suspects(items, SCHEMA)
    assert [(one.image, one.number, one.kind) for one in found] == [("raw/7.jpg", 1, kind)]
    assert set(found[0].keypoints) == set(names)
    assert found[0].score >= LIMIT
    assert len(found[0].predicted) == len(names)


def test_sound_labels_are_not_suspected() -> None:
    assert find_suspects(dataset(), SCHEMA) == []


def test_an_object_of_another_class_one_that_nobody_labelled_and_one_that_is_not_there() -> None:
    items = dataset(60)
    items[3] = with_labels(items[3], lambda labels: labels, "calf")
    items[4] = Seen(
        msgspec.structs.replace(items[4].image, instances=items[4].image.instances[:1]), items[4].predictions
    )
    items[5] = Seen(items[5].image, items[5].predictions[:1])
    found = {(one.image, one.kind, one.number) for one in find_suspects(items, SCHEMA)}
    assert found == {
        ("raw/3.jpg", "other-class", 1),
        ("raw/4.jpg", "not-labelled", None),
        ("raw/5.jpg", "not-found", 1),
    }


def test_what_a_model_is_unsure_of_is_not_held_against_a_person() -> None:
    items = dataset()
    unsure = [
        msgspec.structs.replace(
            found, keypoints=[msgspec.structs.replace(point, confidence=0.2) for point in found.keypoints]
        )
        for found in items[7].predictions
    ]
    items[7] = with_labels(Seen(items[7].image, unsure), lambda labels: labels | {"tail": Keypoint(75.0, 85.0)})
    assert find_suspects(items, SCHEMA) == []


def test_a_weak_model_says_nothing_of_what_is_there_at_all() -> None:
    items = [Seen(item.image, item.predictions[: number % 2]) for number, item in enumerate(dataset(60))]
    assert find_suspects(items, SCHEMA) == []


def test_a_model_that_sees_a_shape_that_never_occurs_is_not_believed() -> None:
    items = dataset()
    first, second = items[7].predictions
    turned = {"nose": (88.0, 80.0), "tail": (12.0, 81.0), "left_ear": (50.0, 78.0), "right_ear": (52.0, 79.0)}
    points = [PredictedKeypoint(name, *turned[name], 0.97) for name in NAMES]
    items[7] = Seen(items[7].image, [first, msgspec.structs.replace(second, keypoints=points)])
    assert find_suspects(items, SCHEMA) == []


def test_the_likeliest_come_first() -> None:
    items = dataset()
    items[1] = with_labels(items[1], lambda labels: labels | {"tail": Keypoint(75.0, 85.0)})
    items[2] = with_labels(items[2], lambda labels: labels | {"tail": Keypoint(40.0, 85.0)})
    found: list[Suspect] = find_suspects(items, SCHEMA)
    assert [one.image for one in found] == ["raw/2.jpg", "raw/1.jpg"]


def test_nothing_to_compare() -> None:
    assert find_suspects([], SCHEMA) == []
    assert find_suspects([Seen(dataset(1)[0].image, [])], SCHEMA) == []
