from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from keypipe.diagnosis.columns import Rows
from keypipe.proposal.geometry import Geometry, measure_geometry

TRIANGLE = np.array([0, 40, 15 + 25j])


def to_rows(points: NDArray[np.complex128], size_wh: tuple[int, int] = (400, 200)) -> Rows:
    boxes = np.column_stack([points.real.min(1), points.imag.min(1), points.real.max(1), points.imag.max(1)])
    states = np.where(np.isfinite(points), 2, 0).astype(np.uint8)
    return Rows(0, boxes, points, states, np.tile(np.array(size_wh, np.int32), (len(points), 1)))


def measure(points: NDArray[np.complex128], partners: tuple[int, ...] = (0, 1, 2)) -> Geometry:
    found = measure_geometry({"thing": to_rows(points)}, {"thing": partners})
    assert found is not None
    return found


def turned(degrees: NDArray[np.float64]) -> NDArray[np.complex128]:
    centred = TRIANGLE - TRIANGLE.mean()
    return np.exp(1j * np.radians(degrees))[:, None] * centred + (200 + 100j)


def test_sizes_are_shares_of_the_longer_side() -> None:
    found = measure(np.tile(TRIANGLE + 10 + 10j, (20, 1)))
    assert (found.n_objects, found.image_px) == (20, 400)
    assert found.median == found.small == found.smallest == pytest.approx(0.1)
    assert found.spacing == pytest.approx(abs(TRIANGLE[2] - TRIANGLE[0]) / 400)
    assert found.whole == pytest.approx((1 - 0.1) * (1 - 25 / 200))


@pytest.mark.parametrize("degrees", [0.0, 10.0, 25.0])
def test_how_far_objects_are_turned(degrees: float) -> None:
    found = measure(turned(np.linspace(-degrees, degrees, 201)))
    assert found.turned_degrees == pytest.approx(0.9 * degrees, abs=1)


def test_quarter_turns_are_told_from_turns_of_any_kind() -> None:
    rng = np.random.default_rng(0)
    quarters = measure(turned(rng.integers(0, 4, 200) * 90.0))
    any_turn = measure(turned(rng.uniform(-180, 180, 400)))
    assert quarters.turned_degrees >= 45
    assert quarters.quarters > 0.99
    assert any_turn.turned_degrees > 100
    assert any_turn.quarters < 0.3


def test_mirror_images_are_counted_and_are_not_turned() -> None:
    upright = turned(np.zeros(60))
    upright[:20] = -upright[:20].conj() + 400
    found = measure(upright)
    assert found.mirrored == pytest.approx(1 / 3)
    assert found.turned_degrees < 1


def test_what_looks_the_other_way_with_its_sides_exchanged_is_its_own_mirror_image() -> None:
    rng = np.random.default_rng(0)
    animal = np.array([0, 30 + 5j, 30 - 5j, 60 + 20j])  # nose, left and right ear, tail
    points = np.tile(animal, (60, 1)) + rng.normal(0, 0.5, (60, 4))
    points[30:] = -points[30:].conj()[:, [0, 2, 1, 3]]
    found = measure(points + (200 + 100j), (0, 2, 1, 3))
    assert found.turned_degrees < 5


def test_one_keypoint_and_no_object_tell_nothing() -> None:
    found = measure(np.full((20, 1), 50 + 50j), (0,))
    assert np.isnan([found.spacing, found.turned_degrees, found.mirrored, found.quarters]).all()
    empty = Rows(0, np.empty((0, 4)), np.empty((0, 3), complex), np.empty((0, 3), np.uint8), np.empty((0, 2), np.int32))
    assert measure_geometry({"thing": empty}, {"thing": (0, 1, 2)}) is None
