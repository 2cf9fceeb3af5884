from __future__ import annotations

import numpy as np
import pytest

from keypipe.inference.postprocess import Detections, merge_views, mirror_back, suppress_overlaps


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


# ----------------------------------------------------------------------------------- two views


def views(*objects: tuple[float, float, int, float]) -> Detections:
    """Objects of 10 px from left, score, class id, and x of their first keypoint; the second lies 4 px right of it."""
    boxes = [(left, 20.0, left + 10, 30.0) for left, _, _, _ in objects]
    keypoints = [((x, 21.0, 0.5), (x + 4, 29.0, 1.0)) for *_, x in objects]
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array([score for _, score, _, _ in objects], dtype=np.float32),
        np.array([class_id for _, _, class_id, _ in objects], dtype=np.int64),
        np.array(keypoints, dtype=np.float32).reshape(-1, 2, 3),
    )


def test_what_is_mirrored_back_exchanges_partners() -> None:
    back = mirror_back(views((10, 0.9, 0, 12.0)), 100, (1, 0))
    assert back.boxes_xyxy.tolist() == [[80, 20, 90, 30]]
    assert back.keypoints.tolist() == [[[84, 29, 1.0], [88, 21, 0.5]]]
    again = mirror_back(back, 100, (1, 0))
    assert again.keypoints.tolist() == views((10, 0.9, 0, 12.0)).keypoints.tolist()
    assert len(mirror_back(views(), 100, (1, 0))) == 0


def test_objects_of_both_views_get_the_mean_and_those_of_one_half_their_score() -> None:
    first = views((10, 0.9, 0, 12.0), (50, 0.6, 0, 52.0))
    second = views((80, 0.8, 0, 82.0), (12, 0.5, 0, 15.0), (50, 0.4, 1, 52.0))  # alone; the same; of another class
    merged = merge_views(first, second)
    assert merged.scores.tolist() == pytest.approx([0.7, 0.4, 0.3, 0.2])
    assert merged.class_ids.tolist() == [0, 0, 0, 1]
    assert merged.boxes_xyxy[:, 0].tolist() == [11, 80, 50, 50]
    assert merged.keypoints[0].tolist() == [[13.5, 21, 0.5], [17.5, 29, 1.0]]
    assert merge_views(views(), second).scores.tolist() == pytest.approx([0.4, 0.25, 0.2])
    assert len(merge_views(views(), views())) == 0
