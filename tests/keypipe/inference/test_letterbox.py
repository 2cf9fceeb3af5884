from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keypipe.inference.letterbox import letterbox, place_image

SIZES_WH = [(64, 48), (33, 500), (701, 99), (160, 160), (320, 213), (1, 300), (17, 11), (161, 159), (1280, 720)]


@pytest.mark.parametrize("size_wh", SIZES_WH)
@pytest.mark.parametrize("side_px", [64, 160, 224])
def test_letterbox_as_ultralytics(ultralytics: Any, size_wh: tuple[int, int], side_px: int) -> None:
    from ultralytics.data.augment import LetterBox

    image = np.random.default_rng(0).integers(0, 255, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    tensor, _ = letterbox(image, side_px)
    expected = LetterBox(side_px)(image=image)[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor[0], expected)


@pytest.mark.parametrize("size_wh", SIZES_WH)
def test_points_come_back_as_in_ultralytics(ultralytics: Any, size_wh: tuple[int, int]) -> None:
    from ultralytics.utils import ops

    points = np.random.default_rng(0).uniform(-20, 200, (50, 2)).astype(np.float32)
    expected = ops.scale_coords((96, 160), points.copy(), (size_wh[1], size_wh[0]))
    placement = place_image(size_wh, (160, 96))
    np.testing.assert_allclose(placement.to_image(points), expected, rtol=1e-6, atol=1e-4)
