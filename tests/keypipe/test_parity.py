from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from keypipe.parity import SCORE_SLACK, compare_models, count_unmatched
from keypipe.postprocess import Detections
from keypipe.predictor import ModelInfo
from keypipe.skeleton import parse_schema

INFO = ModelInfo(parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}}}), (64, 64))
Model = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def model(change: Callable[[NDArray[np.float32]], None] | None = None) -> Model:
    """A model of 40 anchors on a grid with one object each; ``change`` edits its raw output."""

    def run(images: NDArray[np.float32], /) -> NDArray[np.float32]:
        out = np.zeros((1, 11, 40), dtype=np.float32)
        grid = np.stack(np.meshgrid(np.arange(8) * 8 + 4, np.arange(5) * 12 + 6), -1).reshape(-1, 2)
        out[0, :2] = grid.T
        out[0, 2:4] = 6
        out[0, 4] = np.linspace(0.9, 0.1, 40)
        out[0, 5:7] = out[0, 8:10] = grid.T
        out[0, 7] = out[0, 10] = 0.8
        if change:
            change(out[0])
        return out

    return run


def images(n: int = 2) -> list[NDArray[np.uint8]]:
    return [np.zeros((128, 96, 3), dtype=np.uint8)] * n


def test_equal_models_differ_by_nothing() -> None:
    parity = compare_models(model(), model(), INFO, images(), 0.25)
    assert (parity.images, parity.anchors, parity.unmatched) == (2, 80, 0)
    assert parity.objects == 2 * 32
    assert parity.max_px == parity.max_box_px == parity.max_confidence == 0


def test_a_shift_is_measured_in_pixels_of_the_image() -> None:
    def shift(out: NDArray[np.float32]) -> None:
        out[8] += 0.5

    parity = compare_models(model(), model(shift), INFO, images(), 0.25)
    assert parity.max_px == pytest.approx(1.0)  # the image is twice the size of the input
    assert parity.max_box_px == 0


def test_a_model_that_finds_nothing_is_compared_all_the_same() -> None:
    def faint(out: NDArray[np.float32]) -> None:
        out[4] *= 0.01

    def faint_and_shifted(out: NDArray[np.float32]) -> None:
        faint(out)
        out[5] += 0.5

    parity = compare_models(model(faint), model(faint_and_shifted), INFO, images(), 0.25)
    assert parity.objects == 0
    assert parity.max_px == pytest.approx(1.0)


def test_objects_of_one_model_only_are_counted() -> None:
    def lose_best(out: NDArray[np.float32]) -> None:
        out[4, 0] = 0.0

    parity = compare_models(model(), model(lose_best), INFO, images(1), 0.25)
    assert parity.unmatched == 1
    assert parity.max_confidence == pytest.approx(0.9)


def test_objects_at_the_threshold_do_not_count() -> None:
    def found(*scores: float) -> Detections:
        n = len(scores)
        boxes = np.array([[20 * i, 0, 20 * i + 10, 10] for i in range(n)], dtype=np.float32).reshape(n, 4)
        return Detections(
            boxes, np.array(scores, dtype=np.float32), np.zeros(n, dtype=np.int64), np.zeros((n, 1, 3), np.float32)
        )

    assert count_unmatched(found(0.9, 0.25 + SCORE_SLACK / 2), found(0.9), 0.25) == 0
    assert count_unmatched(found(0.9, 0.5), found(0.9), 0.25) == 1
    assert count_unmatched(found(), found(0.9), 0.25) == 1
    assert count_unmatched(found(), found(), 0.25) == 0
