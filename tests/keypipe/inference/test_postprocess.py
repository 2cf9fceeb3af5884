from __future__ import annotations

import numpy as np
import pytest

from keypipe.inference.postprocess import Detections, suppress_overlaps


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_suppression_as_torchvision(iou: float) -> None:
    import torch
    import torchvision

    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 200, (2000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 60, (2000, 2))], axis=1).astype(np.float32)
    scores, class_ids = rng.uniform(0, 1, 2000).astype(np.float32), rng.integers(0, 3, 2000)
    everything = Detections(boxes, scores, class_ids, np.zeros((2000, 1, 3), np.float32))
    kept = torchvision.ops.batched_nms(
        torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(class_ids), iou
    )
    found = suppress_overlaps(everything, iou, max_det=5000)
    np.testing.assert_array_equal(found.scores, scores[kept.numpy()])
    assert len(suppress_overlaps(everything, iou, max_det=7)) == 7


def test_suppression_of_nothing() -> None:
    nothing = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros((0, 5, 3), np.float32)
    )
    assert suppress_overlaps(nothing, 0.7, 300).keypoints.shape == (0, 5, 3)
