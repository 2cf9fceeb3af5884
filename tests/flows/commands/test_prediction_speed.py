from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.prediction import choose_conf, draw_images, make_model, measure
from benchmarks.timing import median


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("objects", [2, 255])
def test_keypipe_predict_is_faster_than_yolo_predict_with_the_same_file(tmp_path: Path, objects: int) -> None:
    model, source = make_model(tmp_path, 320), draw_images(tmp_path, 20)
    result = measure(tmp_path, model, source, choose_conf(model, source, objects), times=3)
    assert result.found[0] == pytest.approx(result.found[1], abs=2, rel=0.001)
    assert result.found[0] > 5 * objects
    assert median(result.ours) < median(result.theirs)
