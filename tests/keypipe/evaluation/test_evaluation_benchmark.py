from __future__ import annotations

import pytest

from benchmarks.evaluation import by_faster_coco_eval, by_pycocotools, draw, timed


@pytest.mark.benchmark
def test_faster_coco_eval_says_the_same() -> None:
    truth, detections = draw(4000, 13)
    figures = timed(by_faster_coco_eval, truth, detections)[1]
    assert figures == pytest.approx(timed(by_pycocotools, truth, detections)[1], abs=1e-6)
