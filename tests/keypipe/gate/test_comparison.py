from __future__ import annotations

import numpy as np
import pytest

from keypipe.errors import DatasetError
from keypipe.evaluation.evaluation import evaluate
from keypipe.gate.comparison import compare, measure, number_units
from keypipe.splits.power import AP, CLOSE
from tests.keypipe.gate.models import CONF, draw_truth, images_of, scored, see, sigmas_of

TWO = {"cow": ["nose", "tail", "ear"], "calf": ["nose", "tail"]}


def test_the_figures_are_those_of_the_evaluation() -> None:
    truth = draw_truth(60, TWO)
    measures = measure(scored(truth, 18, seed=3), images_of(truth))
    figures = dict(zip(measures.names, measures.values.tolist(), strict=True))
    expected = evaluate(truth, see(truth, 18, seed=3), sigmas_of(truth), conf=CONF)
    assert figures[AP] == pytest.approx(expected.oks["AP"], abs=1e-9)
    assert figures[CLOSE] == pytest.approx(expected.within)
    for name in TWO:
        assert figures[name] == pytest.approx(expected.oks_by_class[name]["AP"], abs=1e-9)
    for item in expected.keypoints:
        assert figures[f"{item.class_name} {item.keypoint}"] == pytest.approx(item.within)
    assert list(figures)[:4] == [AP, CLOSE, "cow", "calf"]


def test_one_class_stands_for_itself_in_ap_alone() -> None:
    truth = draw_truth(30)
    names = measure(scored(truth, seed=1), images_of(truth)).names
    assert names == (AP, CLOSE, "cow nose", "cow left_ear", "cow right_ear", "cow tail")


def test_the_pull_of_a_group_is_that_of_its_images() -> None:
    truth = draw_truth(30)
    alone = measure(scored(truth, seed=1), images_of(truth))
    names = [f"cow {index % 7}" for index in range(30)]
    units = number_units(names, "group")
    assert units.count == 7
    grouped = measure(scored(truth, seed=1), units)
    for index, name in enumerate(sorted(set(names))):
        members = np.flatnonzero(np.array(names) == name)
        np.testing.assert_allclose(grouped.pulls[index], alone.pulls[members].sum(0))
    np.testing.assert_allclose(grouped.pulls.sum(0), 0, atol=1e-12)


def test_shares_add_up_to_the_difference() -> None:
    truth = draw_truth(50)
    units = images_of(truth)
    comparison = compare(measure(scored(truth, 25, seed=1), units), measure(scored(truth, 12, seed=2), units))
    np.testing.assert_allclose(comparison.shares().sum(0), comparison.differences, atol=1e-12)
    assert comparison.differences[0] < 0


def test_what_is_hard_for_both_cancels_out() -> None:
    truth = draw_truth(50)
    measures = measure(scored(truth, 25, seed=1), images_of(truth))
    assert np.abs(measures.pulls[:, 0]).max() > 0
    same = compare(measures, measures)
    assert not same.pulls.any()
    assert not same.differences.any()


def test_a_keypoint_without_a_label_is_left_out_and_no_label_at_all_is_an_error() -> None:
    truth = draw_truth(20)
    for item in truth.annotations:
        item.keypoints[-3:] = [0, 0, 0]
        item.num_keypoints = sum(value > 0 for value in item.keypoints[2::3])
    assert "cow tail" not in measure(scored(truth, seed=1), images_of(truth)).names
    for item in truth.annotations:
        item.keypoints[:] = [0] * len(item.keypoints)
        item.num_keypoints = 0
    with pytest.raises(DatasetError, match="no object with a labelled keypoint"):
        measure(scored(truth, seed=1), images_of(truth))
