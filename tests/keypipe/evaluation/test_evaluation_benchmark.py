from __future__ import annotations

import pytest

from benchmarks.evaluation import by_faster_coco_eval, by_pycocotools, draw, timed


@pytest.mark.benchmark
def test_faster_coco_eval_is_faster_and_says_the_same() -> None:
    truth, detections = draw(4000, 13)
    ratios = []
    for _ in range(3):
        ours, figures = timed(by_faster_coco_eval, truth, detections)
        theirs, expected = timed(by_pycocotools, truth, detections)
        assert figures == pytest.approx(expected, abs=1e-6)
        ratios.append(ours.cpu / theirs.cpu)
    assert sorted(ratios)[1] < 1
