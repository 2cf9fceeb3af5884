from __future__ import annotations

import numpy as np
import pytest

from keypipe.dataset.coco import CocoFile, CocoImage
from keypipe.evaluation.gallery import (
    choose_random,
    choose_worst,
    describe_score,
    find_typical_pose,
    score_images,
)
from keypipe.evaluation.matching import Detection
from tests.keypipe.evaluation.test_keypoint_errors import DUCK, SIGMAS, annotation, detection, file

POINTS: list[tuple[float, float, int]] = [(30, 10, 2), (10, 70, 2), (50, 70, 2)]
RIGHT = [(x, y, 0.9) for x, y, _ in POINTS]


def off(px: float) -> list[tuple[float, float, float]]:
    """The right prediction, but with the left foot off by so much."""
    return [RIGHT[0], (RIGHT[1][0] + px, RIGHT[1][1], 0.9), RIGHT[2]]


@pytest.fixture
def scene() -> tuple[CocoFile, list[Detection]]:
    """Six images: right, a little off, far off, missed, one too many, empty."""
    truth = file(*(annotation(number, POINTS) for number in (1, 2, 3, 4, 5)))
    truth.images.append(CocoImage(6, "raw/6.jpg", 100, 100))
    found = [detection(1, RIGHT), detection(2, off(3)), detection(3, off(60)), detection(5, RIGHT)]
    return truth, [*found, detection(5, RIGHT, (500.0, 500.0, 60.0, 80.0), 0.5)]


def test_how_an_image_went(scene: tuple[CocoFile, list[Detection]]) -> None:
    scores = score_images(*scene, SIGMAS)
    term = np.exp(-9 / (2 * 0.53 * 4800 * 0.2**2))
    assert [score.score for score in scores] == pytest.approx([1.0, (2 + term) / 3, 2 / 3, 0.0, 0.5, 1.0], abs=1e-3)
    culprit = scores[2].culprit
    assert culprit is not None
    assert (culprit.keypoint, culprit.distance_px) == ("left_foot", 60.0)
    assert (culprit.true, culprit.predicted) == ((10.0, 70.0), (70.0, 70.0))
    assert (scores[3].missed_xyxy, scores[3].culprit) == (((0.0, 0.0, 60.0, 80.0),), None)
    assert scores[4].false == 1
    assert [describe_score(score) for score in scores[2:]] == [
        "OKS 0.67, worst: duck left_foot, 60.0 px off",
        "OKS 0.00, 1 of 1 not found",
        "OKS 0.50, 1 found where there is none",
        "no object, and none found",
    ]


def test_worst_and_random(scene: tuple[CocoFile, list[Detection]]) -> None:
    scores = score_images(*scene, SIGMAS)
    assert [score.index for score in choose_worst(scores, 3)] == [3, 4, 2]
    drawn = choose_random(scores, 4, seed=1)
    assert len({score.index for score in drawn}) == 4
    assert drawn == choose_random(scores, 4, seed=1)
    assert [score.index for score in choose_random(scores, 99, seed=1)] == list(range(6))
    often = np.bincount([score.index for seed in range(600) for score in choose_random(scores, 1, seed)], minlength=6)
    assert often.min() > 60  # each one in six, whatever it went like


def test_an_object_without_keypoints_has_no_oks() -> None:
    truth = file(annotation(1, [(0, 0, 0)] * 3))
    (score,) = score_images(truth, [detection(1, RIGHT)], SIGMAS)
    assert (score.score, score.culprit, score.missed_xyxy) == (1.0, None, ())


def test_the_typical_pose_is_a_real_one() -> None:
    rng = np.random.default_rng(0)
    facing_right = np.array([(50, 10), (10, 70), (50, 70)])
    truth = file()
    for number in range(1, 31):
        mirrored = number % 3 == 0  # a third faces left: the mean of all is no duck at all
        points = facing_right + rng.normal(0, 1, (3, 2))
        if mirrored:
            points[:, 0] = 60 - points[:, 0]
        truth.images.append(CocoImage(number, f"raw/{number}.jpg", 100, 100))
        truth.annotations.append(annotation(number, [(float(x), float(y), 2) for x, y in points]))
    truth.annotations.append(annotation(31, [(30, 10, 2), (0, 0, 0), (0, 0, 0)]))
    pose = find_typical_pose(truth, 1)
    assert pose is not None
    assert pose.size == pytest.approx((0.6, 0.8))
    for name, (x, y) in zip(DUCK.keypoints, facing_right / 100, strict=True):
        assert pose.points[name] == pytest.approx((x, y), abs=0.03)


def test_no_pose_without_keypoints() -> None:
    assert find_typical_pose(file(annotation(1, [(0, 0, 0)] * 3)), 1) is None
    one = find_typical_pose(file(annotation(1, [(30, 10, 2), (0, 0, 0), (0, 0, 0)])), 1)
    assert one is not None
    assert list(one.points) == ["beak"]
