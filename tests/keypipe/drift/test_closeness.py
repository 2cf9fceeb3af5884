"""The share of close keypoints that is to be expected without labels, and when nothing is said."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from keypipe.drift.closeness import (
    MIN_KEYPOINTS,
    Closeness,
    Keypoints,
    Truth,
    expect,
    learn_closeness,
    list_keypoints,
)
from keypipe.drift.novelty import tell_apart
from keypipe.drift.rows import Row, keypoints_px
from tests.keypipe.drift.samples import NAMES, SCHEMA, make_row

RULES = {"most_separable": 0.8, "most_outside": 0.2, "seed": 0}


def drawn(n: int, seed: int, hard: float = 0.3) -> tuple[list[Row], list[Truth]]:
    """Draw images on which a share of the objects is hard: the model is off, moves in the mirror, and is less sure."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    truth: list[Truth] = []
    for index in range(n):
        difficult = rng.random() < hard
        row = make_row(rng, group=f"{seed}-{index}", score=0.55 if difficult else 0.8, move=0.12 if difficult else 0.01)
        (found,) = row.objects
        off = rng.normal(0, 12 if difficult else 1.5, (len(NAMES), 2))
        places = keypoints_px(found) + off
        points = {name: (float(x), float(y)) for name, (x, y) in zip(NAMES, places, strict=True)}
        rows.append(row)
        truth.append([("cow", found.box_xyxy, points)])
    return rows, truth


def listed(rows: Sequence[Row], truth: Sequence[Truth] | None = None, views: bool = True) -> Keypoints:
    return list_keypoints(rows, range(len(rows)), SCHEMA, {}, 0.5, views=views, truth=truth)


@pytest.fixture(scope="module")
def learnt() -> Closeness:
    found = learn_closeness(listed(*drawn(150, 1)), len(NAMES))
    assert found is not None
    return found


def test_a_keypoint_is_close_within_a_tenth_of_the_true_boxs_diagonal() -> None:
    row = make_row(np.random.default_rng(0))
    (found,) = row.objects
    left, top, right, bottom = found.box_xyxy
    reach = 0.1 * math.hypot(right - left, bottom - top)
    places = keypoints_px(found)
    points = {
        "nose": (places[0, 0] + 0.99 * reach, places[0, 1]),
        "tail": (places[1, 0] + 1.01 * reach, places[1, 1]),
        "hoof": tuple(places[4]),
    }
    close = listed([row], [[("cow", found.box_xyxy, points)]], views=False).close
    assert close.tolist() == [True, False, False, False, True]  # an ear that is not labelled is not close


def test_keypoints_of_objects_that_are_none_are_not_close() -> None:
    row = make_row(np.random.default_rng(0))
    (found,) = row.objects
    points = {name: (float(x), float(y)) for name, (x, y) in zip(NAMES, keypoints_px(found), strict=True)}
    far = (500.0, 500.0, 560.0, 540.0)
    assert not listed([row], [[("cow", far, points)]], views=False).close.any()
    assert not listed([row], [[("calf", found.box_xyxy, points)]], views=False).close.any()
    twice = msgspec.structs.replace(row, objects=[found, msgspec.structs.replace(found, score=0.3)])
    close = listed([twice], [[("cow", found.box_xyxy, points)]], views=False).close
    assert close.tolist() == [True] * 5 + [False] * 5  # the surer one is the object


def test_it_is_learnt_and_its_own_calibration_is_told(learnt: Closeness) -> None:
    reliability = learnt.reliability
    assert (reliability.keypoints, reliability.units) == (len(learnt.keypoints.close), 150)
    assert reliability.expected == pytest.approx(reliability.observed, abs=0.03)
    assert reliability.error < 0.08
    assert reliability.auc is not None
    assert reliability.auc > 0.7
    assert sum(count for count, _, _ in reliability.bins) == reliability.keypoints


@pytest.mark.parametrize("hard", [0.2, 0.3, 0.45])
def test_what_is_expected_holds_what_is_true(learnt: Closeness, hard: float) -> None:
    inside = 0
    for seed in range(4):
        rows, truth = drawn(60, 100 + seed, hard)
        found = expect(learnt, listed(rows), **RULES)  # type: ignore[arg-type]
        true = float(listed(rows, truth).close.mean())
        assert found.share is not None, found.why_not
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= true <= found.high
        assert found.share == pytest.approx(true, abs=0.1)
    assert inside >= 3


def test_more_hard_images_lower_what_is_expected(learnt: Closeness) -> None:
    shares = [expect(learnt, listed(drawn(80, 7, hard)[0]), **RULES).share for hard in (0.1, 0.5)]  # type: ignore[arg-type]
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[0] > shares[1] + 0.1


def test_where_images_are_of_another_kind_it_says_so_instead(learnt: Closeness) -> None:
    rng = np.random.default_rng(5)
    rows = [make_row(rng, group=str(k), score=0.3, move=0.3) for k in range(60)]
    found = expect(learnt, listed(rows), **RULES)  # type: ignore[arg-type]
    assert (found.share, found.low, found.high) == (None, None, None)
    assert any("can be told from the validation side" in why for why in found.why_not)
    assert found.separable is not None
    assert found.separable > 0.95


def test_values_beyond_what_was_seen_are_a_reason_too(learnt: Closeness) -> None:
    rng = np.random.default_rng(5)
    rows = []
    for k in range(60):
        row = make_row(rng, group=str(k), move=0.01)
        wide = msgspec.structs.replace(row.objects[0], aspect=9.0)
        rows.append(msgspec.structs.replace(row, objects=[wide]))
    found = expect(learnt, listed(rows), most_separable=1.0, most_outside=0.2, seed=0)
    assert found.share is None
    assert found.outside > 0.9
    assert "lie outside what the validation side shows" in found.why_not[0]


def test_images_without_shown_keypoints_have_no_share(learnt: Closeness) -> None:
    rows = [make_row(np.random.default_rng(k), objects=[]) for k in range(5)]
    found = expect(learnt, listed(rows), **RULES)  # type: ignore[arg-type]
    assert found.why_not == ("no keypoint is shown on these images",)


def test_too_little_to_learn_from() -> None:
    rows, truth = drawn(MIN_KEYPOINTS // len(NAMES) - 1, 1)
    assert learn_closeness(listed(rows, truth), len(NAMES)) is None
    rows, truth = drawn(60, 1, hard=0.0)
    everything_close: list[Truth] = []
    for row, [(name, box, _)] in zip(rows, truth, strict=True):
        places = {key: (float(x), float(y)) for key, (x, y) in zip(NAMES, keypoints_px(row.objects[0]), strict=True)}
        everything_close.append([(name, box, places)])
    assert learn_closeness(listed(rows, everything_close), len(NAMES)) is None


def test_the_same_seed_says_the_same(learnt: Closeness) -> None:
    window = listed(drawn(30, 9)[0])
    assert expect(learnt, window, **RULES) == expect(learnt, window, **RULES)  # type: ignore[arg-type]


def test_two_sets_of_a_kind_cannot_be_told_apart_and_others_can() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, (150, 6)), rng.normal(0, 1, (120, 6))
    second[::7, 2] = np.nan
    alike = tell_apart(first[:, :2], second[:, :2], range(150), range(120))
    assert alike is not None
    assert 0.38 < alike.auc < 0.62
    second[:, 1] += 2
    other = tell_apart(first, second, range(150), range(120))
    assert other is not None
    assert other.auc > 0.85
    assert other.window.mean() > other.reference.mean() + 0.3
    assert tell_apart(first, second, [0] * 150, range(120)) is None


def test_a_unit_is_never_learnt_from_and_asked() -> None:
    """Single videos can be told apart by what is their own; that says nothing of their kind."""
    rng = np.random.default_rng(1)
    units = np.repeat(np.arange(12), 30)
    first = rng.normal(0, 1, (12, 8))[units] + rng.normal(0, 0.05, (360, 8))
    second = rng.normal(0, 1, (12, 8))[units] + rng.normal(0, 0.05, (360, 8))
    found = tell_apart(first, second, units.tolist(), units.tolist())
    assert found is not None
    assert found.auc < 0.85
