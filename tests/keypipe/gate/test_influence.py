from __future__ import annotations

import numpy as np

from keypipe.dataset.coco import CocoAnnotation
from keypipe.evaluation.average_precision import average_precision, match_by_oks
from keypipe.evaluation.bootstrap import draw_weights
from keypipe.gate.influence import ap_influence
from tests.keypipe.gate.models import draw_truth, see, sigmas_of


def test_it_says_what_a_resample_does_to_ap() -> None:
    truth = draw_truth(300)
    matched = match_by_oks(truth, see(truth, 20, seed=1), sigmas_of(truth))["cow"]
    pulls = ap_influence(matched)
    assert pulls is not None
    assert abs(pulls.sum()) < 1e-12
    whole = average_precision(matched).mean()
    units = [image.file_name for image in truth.images]
    weights = list(draw_weights(units, 400, seed=0))
    exact = np.array([average_precision(matched, item).mean() - whole for item in weights])
    linear = np.array([(item - 1) @ pulls for item in weights])
    assert np.corrcoef(exact, linear)[0, 1] > 0.98
    assert 0.9 < linear.std() / exact.std() < 1.1


def test_it_is_the_derivative_where_one_object_is_missed() -> None:
    """Precision is 1 all along and recall n / (n + 1): the area's derivative by hand."""
    truth = draw_truth(1)
    matched = match_by_oks(draw_truth(4), see(draw_truth(4), 0.0, seed=0)[:0], sigmas_of(truth))["cow"]
    pulls = ap_influence(matched)
    assert pulls is not None
    np.testing.assert_array_equal(pulls, 0.0)  # nothing was found, so no image pulls
    truth = draw_truth(4)
    found = [item for item in see(truth, 0.0, seed=0) if item.bbox[0] != 400 and item.image_id != 2]
    pulls = ap_influence(match_by_oks(truth, found, sigmas_of(truth))["cow"])
    assert pulls is not None
    # Images hold 2, 1, 2, 1 objects, the one of image 2 was not found: AP is 5 / 6.
    np.testing.assert_allclose(pulls, [(2 - 2 * 5 / 6) / 6, -(5 / 6) / 6, (2 - 2 * 5 / 6) / 6, (1 - 5 / 6) / 6])


def test_detections_that_coco_ignores_do_not_pull() -> None:
    truth = draw_truth(40)
    item = truth.annotations[0]
    truth.annotations[0] = CocoAnnotation(
        item.id, item.image_id, item.category_id, item.bbox, item.area, [0] * len(item.keypoints), 0
    )
    matched = match_by_oks(truth, see(truth, 20, seed=1), sigmas_of(truth))["cow"]
    assert any(mask is not None for mask in matched.counted)
    pulls = ap_influence(matched)
    assert pulls is not None
    assert abs(pulls.sum()) < 1e-12


def test_a_class_without_an_object_has_none() -> None:
    truth = draw_truth(6, {"cow": ["nose", "tail"], "calf": ["nose", "tail"]})
    truth.annotations = [item for item in truth.annotations if item.category_id == 1]
    assert ap_influence(match_by_oks(truth, see(truth, seed=0), sigmas_of(truth))["calf"]) is None
