from __future__ import annotations

import numpy as np
import pytest

from keypipe.dataset.coco import CocoCategory
from keypipe.errors import DatasetError
from keypipe.evaluation.matching import Detection
from keypipe.gate.common import Predictions, reduce_to_common
from tests.keypipe.gate.models import COW, draw_truth, see, sigmas_of

TWO = {"cow": ["nose", "tail", "ear"], "calf": ["nose", "tail"]}


def test_equal_schemas_lose_nothing() -> None:
    truth = draw_truth(10, TWO)
    seen = see(truth, seed=1)
    common = reduce_to_common(truth, [Predictions("champion", truth.categories, seen)], sigmas_of(truth))
    assert common.detections["champion"] == seen
    assert [item.keypoints for item in common.truth.annotations] == [item.keypoints for item in truth.annotations]
    assert not common.left_out


def test_what_a_model_does_not_know_is_left_out_and_said() -> None:
    truth = draw_truth(10, TWO)
    seen = see(truth, seed=1)
    # The champion has the classes and keypoints in another order, no ear, and a class of its own.
    categories = [CocoCategory(1, "sheep", ["nose"]), CocoCategory(2, "cow", ["tail", "nose"])]
    found = [
        Detection(3, 2, 0.5, (1.0, 2.0, 3.0, 4.0), [7.0, 8.0, 0.9, 5.0, 6.0, 0.8]),
        Detection(3, 1, 0.5, (1.0,) * 4, [0.0] * 3),
    ]
    sigmas = {"cow": np.array([0.1, 0.2, 0.3]), "calf": np.array([0.4, 0.5])}
    models = [Predictions("challenger", truth.categories, seen), Predictions("champion", categories, found)]
    common = reduce_to_common(truth, models, sigmas)
    assert [(item.name, item.keypoints) for item in common.truth.categories] == [("cow", ["nose", "tail"])]
    assert common.left_out == ["cow ear: unknown to the champion", "class calf: unknown to the champion"]
    assert common.sigmas["cow"].tolist() == [0.1, 0.2]
    assert len(common.truth.images) == 10
    cow = truth.categories[0].id
    assert all(item.category_id == cow for item in common.truth.annotations)
    assert common.detections["champion"] == [
        Detection(3, cow, 0.5, (1.0, 2.0, 3.0, 4.0), [5.0, 6.0, 0.8, 7.0, 8.0, 0.9])
    ]
    first, whole = common.truth.annotations[0], next(item for item in truth.annotations if item.category_id == cow)
    assert first.keypoints == whole.keypoints[:6]
    assert first.num_keypoints == sum(value > 0 for value in whole.keypoints[2:6:3])
    assert all(len(item.keypoints) == 6 for item in common.detections["challenger"])


def test_models_of_different_objects_cannot_be_compared() -> None:
    truth = draw_truth(4, COW)
    other = Predictions("champion", [CocoCategory(1, "cow", ["wing"])], [])
    with pytest.raises(DatasetError, match="no class with a common keypoint"):
        reduce_to_common(truth, [Predictions("challenger", truth.categories, []), other], sigmas_of(truth))
