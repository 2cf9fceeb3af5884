from __future__ import annotations

import pytest

from keypipe.annotations.sizes import INPUTS, ObjectSizes, measure_share, summarise_sizes


def test_the_share_is_that_of_the_longer_sides() -> None:
    assert measure_share((10, 10, 30, 60), (200, 100)) == 0.25


def test_median_and_tenth() -> None:
    assert summarise_sizes([n / 100 for n in range(100)], 640) == ObjectSizes(0.5, 0.1, 640)
    assert summarise_sizes([0.5], 640) == ObjectSizes(0.5, 0.5, 640)
    assert summarise_sizes([], 640) is None


@pytest.mark.parametrize(
    ("tenth", "image_px", "imgsz"),
    [(0.5, 1920, 160), (0.1, 1920, 320), (0.05, 4000, 640), (0.01, 4000, 1280), (0.01, 300, 320), (0.2, 100, 160)],
)
def test_the_smallest_input_at_which_most_objects_have_32_px(tenth: float, image_px: int, imgsz: int) -> None:
    sizes = ObjectSizes(max(tenth, 0.3), tenth, image_px)
    assert sizes.imgsz == imgsz
    assert imgsz in INPUTS
    assert ("hard to learn" in sizes.describe()) == (tenth * imgsz < 32)
