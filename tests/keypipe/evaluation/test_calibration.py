from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.evaluation.calibration import CONFIDENCES, calibrate_confidence, flatten_calibration
from keypipe.evaluation.keypoint_errors import KeypointTable, measure_reliability, tabulate_keypoints
from keypipe.evaluation.matching import Detection

DUCK = CocoCategory(1, "duck", ["beak", "left_foot", "right_foot"])
BOX = (0.0, 0.0, 60.0, 80.0)  # diagonal 100


def make_tables(n: int, seed: int, share_of: Any = np.square, far: float = 0.0) -> list[KeypointTable]:
    """Tables of objects whose keypoints of confidence c are labelled with probability ``share_of(c)``."""
    rng = np.random.default_rng(seed)
    images = [CocoImage(number, f"raw/{number}.jpg", 100, 100) for number in range(1, n + 1)]
    pairs: list[tuple[CocoAnnotation, Detection]] = []
    for number in range(1, n + 1):
        confidence = rng.random(3)
        labelled = rng.random(3) < share_of(confidence)
        away = rng.random(3) < far
        points = [
            value for i, is_one in enumerate(labelled) for value in ((10.0 * i, 10.0, 2) if is_one else (0, 0, 0))
        ]
        found = [
            float(value)
            for i, (c, is_away) in enumerate(zip(confidence, away, strict=True))
            for value in (10.0 * i, 50.0 if is_away else 10.0, c)
        ]
        annotation = CocoAnnotation(number, number, 1, BOX, 4800.0, points, int(labelled.sum()))
        pairs.append((annotation, Detection(number, 1, 0.9, BOX, found)))
    truth = CocoFile(images, [annotation for annotation, _ in pairs], [DUCK])
    return tabulate_keypoints(truth, pairs, {"duck": np.full(3, 0.1)})


def units(n: int, size: int = 1) -> list[str]:
    return [f"unit {number // size}" for number in range(n)]


def test_a_confidence_that_says_too_much_is_put_right_on_images_left_out() -> None:
    tables = make_tables(1000, 0, far=0.2)
    before = measure_reliability(tables)
    calibration = calibrate_confidence(tables, units(1000))
    assert calibration is not None
    assert calibration.folds == 5
    assert before.ece_labelled == pytest.approx(1 / 6, abs=0.02)  # the mean of c - c ** 2
    assert calibration.ece_labelled < 0.03
    assert before.ece_close is not None
    assert calibration.ece_close < 0.2 * before.ece_close
    inside = slice(1, -1)  # the ends of the curve follow a few keypoints
    squared = np.square(CONFIDENCES)[inside]
    assert np.abs(calibration.labelled[inside] - squared).max() < 0.12
    assert np.abs(calibration.close[inside] - 0.8 * squared).max() < 0.12
    assert (np.diff(calibration.labelled) >= 0).all()
    assert flatten_calibration(calibration) == {
        "keypoint_confidence_ece_isotonic": calibration.ece_labelled,
        "keypoint_confidence_ece_close_isotonic": calibration.ece_close,
    }


def test_what_is_learnt_by_heart_does_not_count() -> None:
    """A curve that is measured on its own images has no error at all; this one has no more than its noise allows."""
    noise = make_tables(40, 3, lambda confidence: np.full_like(confidence, 0.5))
    calibration = calibrate_confidence(noise, units(40))
    assert calibration is not None
    assert calibration.ece_labelled > 0.02


def test_units_stay_together() -> None:
    calibration = calibrate_confidence(make_tables(30, 0), units(30, 10))
    assert calibration is not None
    assert calibration.folds == 3


@pytest.mark.parametrize("n", [0, 1, 5])
def test_one_unit_teaches_nothing_of_others(n: int) -> None:
    assert calibrate_confidence(make_tables(n, 0), units(n, 10)) is None


def test_objects_that_were_not_found_have_no_say() -> None:
    tables = make_tables(60, 0)
    (table,) = tables
    table.found[:20] = False
    table.confidence[:20] = np.nan
    calibration = calibrate_confidence(tables, units(60))
    assert calibration is not None
    assert np.isfinite([calibration.ece_labelled, calibration.ece_close, *calibration.close]).all()
