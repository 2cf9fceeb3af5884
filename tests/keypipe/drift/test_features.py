"""The numbers that windows are compared by."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from keypipe.drift.features import FAR, extract_features
from keypipe.drift.rows import LoggedKeypoint
from keypipe.drift.shapes import MIN_OBJECTS, learn_shape
from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.keypipe.drift.samples import NAMES, SCHEMA, SHAPE, make_row


def test_every_feature_has_its_values_and_units() -> None:
    rng = np.random.default_rng(0)
    rows = [make_row(rng, score=0.5), make_row(rng, objects=[]), make_row(rng, move=0.02)]
    found = extract_features(rows, [4, 4, 7], SCHEMA, {})
    assert found["count"].values.tolist() == [1, 0, 1]
    assert found["best"].values[1] == 0
    assert found["cow/score"].units.tolist() == [4, 7]
    assert len(found["brightness"].values) == 3
    assert found["cow/mirrored"].units.tolist() == [7]  # rows without views have no such value
    assert found["cow/aspect"].values[0] == pytest.approx(math.log(rows[0].objects[0].aspect))
    assert found["cow/nose/x"].values[0] == pytest.approx(rows[0].objects[0].keypoints[0].x)
    assert {feature.family for feature in found.values()} == {"outputs", "geometry", "pixels"}
    assert not len(found["cow/oddity"].values)  # no shape is known


def test_places_of_keypoints_that_are_not_shown_do_not_count() -> None:
    rng = np.random.default_rng(0)
    row = make_row(rng)
    found = row.objects[0]
    unsure = [LoggedKeypoint(point.name, 9.0, 9.0, 0.1) for point in found.keypoints]
    row = msgspec.structs.replace(row, objects=[msgspec.structs.replace(found, keypoints=unsure)])
    features = extract_features([row], [0], SCHEMA, {})
    assert not len(features["cow/nose/x"].values)
    assert features["cow/nose/confidence"].values.tolist() == [0.1]
    assert features["cow/shown"].values.tolist() == [0.0]


def test_a_view_that_lost_the_object_is_far() -> None:
    row = make_row(np.random.default_rng(0))
    lost = [LoggedKeypoint(p.name, p.x, p.y, p.confidence, math.inf, 0.01) for p in row.objects[0].keypoints]
    row = msgspec.structs.replace(row, objects=[msgspec.structs.replace(row.objects[0], keypoints=lost)])
    features = extract_features([row], [0], SCHEMA, {})
    assert features["cow/mirrored"].values.tolist() == [FAR]
    assert features["cow/smaller"].values.tolist() == [0.01]


def test_the_same_schema_gives_the_same_features_in_the_same_order_and_classes_are_counted_apart() -> None:
    two = Schema({**SCHEMA.classes, "calf": Skeleton(("nose",))})
    rows = [make_row(np.random.default_rng(0))]
    assert list(extract_features(rows, [0], two, {})) == list(extract_features([], [], two, {}))
    found = extract_features(rows, [0], two, {})
    assert (found["cow/count"].values.tolist(), found["calf/count"].values.tolist()) == ([1.0], [0.0])


def annotated(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shapes = (SHAPE + rng.normal(0, 0.02, (n, *SHAPE.shape))) * (60, 40)
    return shapes[..., 0] + 1j * shapes[..., 1]


def test_odd_shapes_are_found_and_the_keypoint_that_is_out_of_place() -> None:
    shape = learn_shape(annotated(200), SCHEMA.classes["cow"])
    assert shape is not None
    rng = np.random.default_rng(1)
    usual = [make_row(rng).objects[0] for _ in range(20)]
    oddity, deviations = shape.measure(usual, 0.5)
    assert np.median(oddity) < 2
    points = list(usual[0].keypoints)
    points[4] = msgspec.structs.replace(points[4], x=0.1, y=0.1)
    odd = msgspec.structs.replace(usual[0], keypoints=points)
    strange, where = shape.measure([odd], 0.5)
    assert strange[0] > 3 * oddity[0]
    assert where[0, NAMES.index("hoof")] > 5 * deviations[0, NAMES.index("hoof")]
    assert np.isnan(shape.measure([odd], 1.1)[0]).all()  # no keypoint is so sure


def test_a_mirrored_animal_is_as_usual_and_its_deviations_stand_at_its_own_keypoints() -> None:
    """One that faces the other way: its left ear is where the other's right ear would be, seen in the mirror."""
    shape = learn_shape(annotated(200), SCHEMA.classes["cow"])
    assert shape is not None
    found = make_row(np.random.default_rng(2)).objects[0]
    other = {"left_ear": "right_ear", "right_ear": "left_ear"}
    by_name = {point.name: point for point in found.keypoints}
    points = []
    for point in found.keypoints:
        partner = by_name[other.get(point.name, point.name)]
        points.append(msgspec.structs.replace(point, x=1 - partner.x, y=partner.y))
    mirrored = msgspec.structs.replace(found, keypoints=points)
    assert shape.measure([mirrored], 0.5)[0] == pytest.approx(shape.measure([found], 0.5)[0], rel=0.01)
    ear = NAMES.index("left_ear")
    points[ear] = msgspec.structs.replace(points[ear], x=points[ear].x + 0.4)
    odd = msgspec.structs.replace(found, keypoints=points)
    assert int(np.nanargmax(shape.measure([odd], 0.5)[1][0])) == ear


def test_too_few_objects_have_no_shape() -> None:
    assert learn_shape(annotated(MIN_OBJECTS - 1), SCHEMA.classes["cow"]) is None
    assert learn_shape(annotated(100)[:, :2], Skeleton(("nose", "tail"))) is None
