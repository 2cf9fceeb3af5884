from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.evaluation.evaluation import evaluate
from keypipe.evaluation.keypoint_errors import GroupError, measure_reliability, tabulate_keypoints
from keypipe.evaluation.matching import Detection

DUCK = CocoCategory(1, "duck", ["beak", "left_foot", "right_foot"])
SIGMAS = {"duck": np.full(3, 0.1)}
BOX = (0.0, 0.0, 60.0, 80.0)  # diagonal 100, OKS area 2544: medium


def annotation(number: int, points: list[tuple[float, float, int]], box: Any = BOX) -> CocoAnnotation:
    flat = [value for point in points for value in point]
    labelled = sum(point[2] > 0 for point in points)
    return CocoAnnotation(number, number, 1, box, box[2] * box[3], list(flat), labelled)


def detection(number: int, points: list[tuple[float, float, float]], box: Any = BOX, score: float = 0.9) -> Detection:
    return Detection(number, 1, score, box, [float(value) for point in points for value in point])


def file(*annotations: CocoAnnotation) -> CocoFile:
    images = [CocoImage(item.image_id, f"raw/{item.image_id}.jpg", 100, 100) for item in annotations]
    return CocoFile(images, list(annotations), [DUCK])


def groups(evaluation: Any) -> dict[tuple[str, str], GroupError]:
    return {(group.kind, group.name): group for group in evaluation.groups}


def test_errors_by_visibility_and_size() -> None:
    truth = file(
        annotation(1, [(30, 10, 2), (10, 70, 1), (50, 70, 2)]),
        annotation(2, [(5, 5, 2), (0, 0, 0), (9, 9, 1)], (0.0, 0.0, 12.0, 16.0)),  # diagonal 20, small
        annotation(3, [(30, 10, 2), (10, 70, 2), (50, 70, 2)], (0.0, 0.0, 600.0, 800.0)),  # large, not found
    )
    found = [
        detection(1, [(33, 14, 0.9), (10, 78, 0.3), (50, 70, 0.8)]),
        detection(2, [(5, 8, 0.9), (0, 0, 0.1), (9, 9, 0.2)], (0.0, 0.0, 12.0, 16.0)),
    ]
    evaluation = evaluate(truth, found, SIGMAS)
    of = groups(evaluation)
    assert set(of) == {
        ("class", "duck"), ("size", "small"), ("size", "medium"), ("size", "large"),
        ("visibility", "visible"), ("visibility", "occluded"),
    }  # fmt: skip
    hidden = of["visibility", "occluded"]
    assert (hidden.labelled, hidden.found, hidden.missed, hidden.unsure) == (2, 2, 0.0, 1.0)
    assert hidden.median_px == pytest.approx(4.0)  # 8 px of diagonal 100, and 0
    assert hidden.pck == {"0.05": 0.5, "0.1": 1.0, "0.2": 1.0}
    small = of["size", "small"]
    assert (small.labelled, small.median_diagonals) == (2, pytest.approx(0.075))
    large = of["size", "large"]
    assert (large.labelled, large.found, large.missed, large.median_px, large.within) == (3, 0, 1.0, None, 0.0)
    assert large.similarity == 0.0
    together = evaluation.all_keypoints
    assert (together.labelled, together.found, together.missed) == (8, 5, pytest.approx(3 / 8))
    assert together.p95_px == pytest.approx(np.percentile([5, 8, 0, 3, 0], 95))
    assert evaluation.within == together.within == pytest.approx(4 / 8)  # 3 px of diagonal 20 is too far


def test_the_similarity_is_the_term_of_oks() -> None:
    truth = file(annotation(1, [(30, 10, 2), (10, 70, 2), (50, 70, 2)]))
    evaluation = evaluate(truth, [detection(1, [(33, 14, 0.9), (10, 70, 0.9), (50, 70, 0.9)])], SIGMAS)
    expected = np.exp(-25 / (2 * 0.53 * 4800 * 0.2**2))
    assert evaluation.keypoints[0].similarity == pytest.approx(expected)
    assert evaluation.all_keypoints.similarity == pytest.approx((expected + 2) / 3)


def test_left_and_right_exchanged() -> None:
    truth = file(
        annotation(1, [(30, 10, 2), (10, 70, 2), (50, 70, 2)]), annotation(2, [(30, 10, 2), (10, 70, 2), (0, 0, 0)])
    )
    found = [
        detection(1, [(30, 10, 0.9), (48, 70, 0.9), (12, 70, 0.9)]),
        detection(2, [(30, 10, 0.9), (50, 70, 0.9), (10, 70, 0.9)]),  # its partner is not labelled: nobody can tell
    ]
    beak, left, right = evaluate(truth, found, SIGMAS).keypoints
    assert (beak.swapped, left.swapped, right.swapped) == (None, 1.0, 1.0)
    lost = [detection(1, [(30, 10, 0.9), (31, 40, 0.9), (29, 40, 0.9)])]  # nearer to the other side, but at neither
    assert evaluate(truth, lost, SIGMAS).keypoints[1].swapped == 0.0


def test_pairs_that_the_names_do_not_tell() -> None:
    truth = file(annotation(1, [(30, 10, 2), (10, 70, 2), (50, 70, 2)]))
    found = [detection(1, [(10, 70, 0.9), (30, 10, 0.9), (50, 70, 0.9)])]
    evaluation = evaluate(truth, found, SIGMAS, pairs={"duck": [("beak", "left_foot")]})
    assert [error.swapped for error in evaluation.keypoints] == [1.0, 1.0, None]


def test_reliability() -> None:
    points: list[tuple[float, float, int]] = [(30, 10, 2), (10, 70, 2), (0, 0, 0)]
    truth = file(*(annotation(number, points) for number in (1, 2)))
    found = [
        detection(1, [(30, 10, 0.95), (10, 70, 0.85), (0, 0, 0.85)]),
        detection(2, [(30, 90, 0.95), (10, 70, 1.0), (0, 0, 0.0)]),  # a beak that is labelled, and far off
    ]
    evaluation = evaluate(truth, found, SIGMAS)
    reliability = evaluation.reliability
    assert reliability.count == [1, 0, 0, 0, 0, 0, 0, 0, 2, 3]
    assert reliability.confidence[0] == 0.0
    assert reliability.confidence[1] is None
    assert reliability.labelled == [0.0, *[None] * 7, 0.5, 1.0]
    assert reliability.close[-1] == pytest.approx(2 / 3)
    last = np.mean([0.95, 0.95, 1.0])
    assert reliability.ece_labelled == pytest.approx((2 * 0.35 + 3 * (1 - last)) / 6)
    assert [error.ece for error in evaluation.keypoints] == pytest.approx([0.05, 0.075, 0.425])
    assert evaluation.all_keypoints.ece == reliability.ece_labelled
    assert groups(evaluation)["visibility", "visible"].ece is None
    assert reliability.ece_close == pytest.approx((2 * 0.35 + 3 * abs(last - 2 / 3)) / 6)


def test_a_calibrated_confidence_has_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    truth, found = file(), list[Detection]()
    for number in range(1, 2001):
        confidence = rng.random(3)
        visible = (rng.random(3) < confidence) * 2
        points = [(10.0 * i, 10.0, int(v)) if v else (0.0, 0.0, 0) for i, v in enumerate(visible)]
        truth.images.append(CocoImage(number, f"raw/{number}.jpg", 100, 100))
        truth.annotations.append(annotation(number, points))
        found.append(detection(number, [(10.0 * i, 10.0, float(c)) for i, c in enumerate(confidence)]))
    pairs = [(a, d) for a, d in zip(truth.annotations, found, strict=True)]
    reliability = measure_reliability(tabulate_keypoints(truth, pairs, SIGMAS))
    assert sum(reliability.count) == 6000
    assert reliability.ece_labelled is not None
    assert reliability.ece_labelled < 0.03  # what is left is the noise of 600 keypoints a bin


def test_nothing_at_all() -> None:
    evaluation = evaluate(CocoFile([], [], [DUCK]), [], SIGMAS)
    assert evaluation.groups == []
    assert evaluation.all_keypoints.labelled == 0
    assert evaluation.reliability.ece_labelled is None
    assert evaluation.confusion == [[0, 0], [0, 0]]
