from __future__ import annotations

import msgspec
import numpy as np
import pytest

from keypipe.dataset.coco import CocoFile
from keypipe.evaluation.average_precision import average_precision, match_by_oks, precision_curves
from keypipe.evaluation.bootstrap import draw_weights, measure_intervals
from keypipe.evaluation.evaluation import evaluate, flatten_figures, match_instances
from keypipe.evaluation.keypoint_errors import tabulate_keypoints
from keypipe.evaluation.matching import Detection
from tests.keypipe.evaluation.test_evaluation import SIGMAS, make


def resample(truth: CocoFile, detections: list[Detection], weights: np.ndarray) -> tuple[CocoFile, list[Detection]]:
    """Write the sample out: every image as often as it was drawn, under ids of its own."""
    sample, found = CocoFile([], [], truth.categories), list[Detection]()
    for image, times in zip(truth.images, weights, strict=True):
        for _ in range(times):
            number = len(sample.images) + 1
            sample.images.append(msgspec.structs.replace(image, id=number))
            for annotation in truth.annotations:
                if annotation.image_id == image.id:
                    copy = msgspec.structs.replace(annotation, id=len(sample.annotations) + 1, image_id=number)
                    sample.annotations.append(copy)
            found += [msgspec.structs.replace(d, image_id=number) for d in detections if d.image_id == image.id]
    return sample, found


@pytest.mark.parametrize("seed", range(4))
def test_the_curves_are_cocos(seed: int) -> None:
    truth, detections = make(30, seed=seed, noise_px=8.0)
    evaluation = evaluate(truth, detections, SIGMAS)
    for name, matched in match_by_oks(truth, detections, SIGMAS).items():
        ap = average_precision(matched)
        figures = evaluation.oks_by_class[name]
        assert [ap.mean(), ap[0], ap[5]] == pytest.approx([figures["AP"], figures["AP50"], figures["AP75"]], abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_measures_what_a_full_evaluation_of_it_does(seed: int) -> None:
    truth, detections = make(25, seed=seed, noise_px=8.0)
    tables = tabulate_keypoints(truth, match_instances(truth, [d for d in detections if d.score >= 0.25]), SIGMAS)
    matched = match_by_oks(truth, detections, SIGMAS)
    units = [str(index) for index in range(25)]
    (weights,) = draw_weights(units, 1, seed)
    assert weights.sum() == 25
    assert weights.max() > 1
    full = flatten_figures(evaluate(*resample(truth, detections, weights), SIGMAS))
    measured = measure_intervals(matched, tables, units, unit="image", resamples=1, seed=seed)
    assert measured is not None
    for name, interval in measured.figures.items():  # of one draw, both bounds are its figure
        assert interval.low == interval.high == pytest.approx(full[name], abs=1e-9), name
    assert set(measured.figures) == {
        "oks_AP", "oks_AP50", "oks_AP75", "within_0.05_diagonals", "within_0.1_diagonals", "within_0.2_diagonals",
    }  # fmt: skip


def test_equal_seeds_give_equal_intervals_that_hold_the_figure() -> None:
    truth, detections = make(40, noise_px=8.0)
    tables = tabulate_keypoints(truth, match_instances(truth, detections), SIGMAS)
    matched = match_by_oks(truth, detections, SIGMAS)
    units = [str(index) for index in range(40)]
    first, again, other = (
        measure_intervals(matched, tables, units, unit="image", resamples=200, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first is not None
    for interval in first.figures.values():
        assert interval.low < interval.value < interval.high
    few = measure_intervals(
        matched, tables, [str(index // 10) for index in range(40)], unit="group", resamples=9, seed=1
    )
    assert few is not None
    assert (few.unit, few.units) == ("group", 4)
    assert measure_intervals(matched, tables, units, unit="image", resamples=0, seed=1) is None


def test_a_group_comes_and_goes_as_a_whole() -> None:
    units = ["a", "b", "a", "c", "b", "a"]
    for weights in draw_weights(units, 50, seed=0):
        assert weights[0] == weights[2] == weights[5]
        assert weights[1] == weights[4]
        assert weights[0] + weights[1] + weights[3] == 3


def test_the_interval_has_the_width_that_theory_gives() -> None:
    """PCK of one keypoint an image is a share: its standard error is sqrt(p * (1 - p) / n)."""
    from tests.keypipe.evaluation.test_keypoint_errors import annotation, detection, file

    rng = np.random.default_rng(0)
    n_images, sigmas = 400, {"duck": np.full(3, 0.1)}
    offsets = np.where(rng.random(n_images) < 0.8, 0.0, 40.0)
    truth = file(*(annotation(i + 1, [(30, 10, 2), (0, 0, 0), (0, 0, 0)]) for i in range(n_images)))
    found = [detection(i + 1, [(30 + offset, 10, 0.9), (0, 0, 0), (0, 0, 0)]) for i, offset in enumerate(offsets)]
    tables = tabulate_keypoints(truth, match_instances(truth, found), sigmas)
    matched = match_by_oks(truth, found, sigmas)
    measured = measure_intervals(matched, tables, list(map(str, range(n_images))), unit="image", resamples=2000, seed=0)
    assert measured is not None
    share = measured.figures["within_0.1_diagonals"]
    expected = 2 * 1.96 * np.sqrt(share.value * (1 - share.value) / n_images)
    assert share.high - share.low == pytest.approx(expected, rel=0.08)


def test_a_sample_without_an_object_has_no_curve() -> None:
    truth, detections = make(6)
    matched = match_by_oks(truth, detections, SIGMAS)["cow"]
    assert precision_curves(matched, np.zeros(6, dtype=np.int64)) is None
    assert np.isnan(average_precision(matched, np.zeros(6, dtype=np.int64))).all()
