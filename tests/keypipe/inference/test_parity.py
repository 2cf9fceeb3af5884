from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from keypipe.inference.model_info import ModelInfo
from keypipe.inference.parity import SCORE_SLACK, WORST, Comparison, compare_models, count_unmatched, match_detections
from keypipe.inference.postprocess import Detections
from keypipe.keypoints.skeleton import parse_schema

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


def images(n: int = 2) -> list[tuple[str, NDArray[np.uint8]]]:
    return [(f"{index}.jpg", np.zeros((128, 128, 3), dtype=np.uint8)) for index in range(n)]


def compare(reference: Model, other: Model, n: int = 2, conf: float = 0.25) -> Comparison:
    return compare_models(reference, {"other": other}, INFO, images(n), conf)[1]["other"]


def test_equal_models_differ_by_nothing() -> None:
    parity = compare(model(), model()).parity
    assert (parity.images, parity.anchors, parity.unmatched) == (2, 80, 0)
    assert parity.objects == parity.matched == 2 * 32
    assert parity.anchors_max_px == parity.anchors_max_box_px == parity.anchors_max_confidence == 0
    assert parity.max_px == parity.p99_px == parity.median_px == parity.p99_diagonals == parity.max_box_px == 0


def test_a_shift_is_measured_in_pixels_of_the_image() -> None:
    def shift(out: NDArray[np.float32]) -> None:
        out[8, 3] += 0.5  # the tail of one object

    comparison = compare(model(), model(shift))
    parity = comparison.parity
    # The image is twice the size of the input; a box is 12 px wide and high.
    assert parity.anchors_max_px == pytest.approx(1.0)
    assert parity.max_px == pytest.approx(1.0)
    assert parity.median_px == parity.anchors_max_box_px == parity.max_box_px == 0
    worst = comparison.worst[0]
    assert (worst.image, worst.class_name, worst.keypoint) == ("1.jpg", "cow", "tail")
    assert worst.other_xy[0] - worst.reference_xy[0] == pytest.approx(worst.px) == pytest.approx(1.0)
    assert len(comparison.worst) == WORST


def test_a_shift_of_all_is_measured_in_box_diagonals_as_well() -> None:
    def shift(out: NDArray[np.float32]) -> None:
        out[[5, 8]] += 0.5

    parity = compare(model(), model(shift)).parity
    assert parity.p99_px == pytest.approx(1.0)
    assert parity.p99_diagonals == pytest.approx(1 / np.hypot(12, 12))


def test_boxes_are_compared() -> None:
    def widen(out: NDArray[np.float32]) -> None:
        out[2] += 1

    parity = compare(model(), model(widen)).parity
    assert parity.anchors_max_box_px == pytest.approx(2)
    assert parity.max_box_px == pytest.approx(1)  # each side moves by half
    assert parity.max_px == 0


def test_a_model_that_finds_nothing_is_compared_all_the_same() -> None:
    def faint(out: NDArray[np.float32]) -> None:
        out[4] *= 0.01

    def faint_and_shifted(out: NDArray[np.float32]) -> None:
        faint(out)
        out[5] += 0.5

    parity = compare(model(faint), model(faint_and_shifted)).parity
    assert parity.objects == 0
    assert parity.anchors_max_px == pytest.approx(1.0)
    assert parity.max_px is parity.p99_px is parity.p99_diagonals is parity.max_box_px is None


def test_objects_of_one_model_only_are_counted() -> None:
    def lose_best(out: NDArray[np.float32]) -> None:
        out[4, 0] = 0.0

    parity = compare(model(), model(lose_best), n=1).parity
    assert (parity.objects, parity.matched, parity.unmatched) == (32, 31, 1)
    assert parity.anchors_max_confidence == pytest.approx(0.9)
    assert compare(model(lose_best), model(), n=1).parity.unmatched == 1


def test_an_output_that_is_no_number_is_no_small_difference() -> None:
    def break_one(out: NDArray[np.float32]) -> None:
        out[6, 2] = np.nan

    parity = compare(model(), model(break_one)).parity
    assert np.isnan(parity.anchors_max_px)


def test_all_detections_are_kept_for_ap() -> None:
    found, comparisons = compare_models(model(), {"other": model()}, INFO, images(1), conf=0.5)
    assert len(found[0]) == len(comparisons["other"].detections[0]) == 40
    assert found[0].boxes_xyxy[0].tolist() == [2, 6, 14, 18]  # pixels of the image
    kept = compare_models(model(), {}, INFO, images(1), 0.5, max_det=7)[0]
    assert len(kept[0]) == 7


def found(*scores: float, class_id: int = 0, shift: float = 0) -> Detections:
    n = len(scores)
    boxes = np.array([[20 * i + shift, 0, 20 * i + 10 + shift, 10] for i in range(n)], dtype=np.float32).reshape(n, 4)
    classes = np.full(n, class_id, dtype=np.int64)
    return Detections(boxes, np.array(scores, dtype=np.float32), classes, np.zeros((n, 1, 3), np.float32))


def test_objects_at_the_threshold_do_not_count() -> None:
    assert count_unmatched(found(0.9, 0.25 + SCORE_SLACK / 2), found(0.9), 0.25) == 0
    assert count_unmatched(found(0.9, 0.5), found(0.9), 0.25) == 1
    assert count_unmatched(found(), found(0.9), 0.25) == 1
    assert count_unmatched(found(), found(), 0.25) == 0


@pytest.mark.parametrize(
    ("other", "pairs"),
    [
        (found(0.8, 0.7), [(0, 0), (1, 1)]),
        (found(0.8, 0.7, shift=3), [(0, 0), (1, 1)]),  # IoU 7 / 13
        (found(0.8, 0.7, shift=4), []),  # IoU 6 / 14
        (found(0.8, class_id=1), []),
        (found(), []),
    ],
)
def test_objects_are_paired_by_class_and_overlap(other: Detections, pairs: list[tuple[int, int]]) -> None:
    rows, columns = match_detections(found(0.9, 0.6), other)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == pairs


def test_an_object_is_in_one_pair_at_most() -> None:
    twice = found(0.9).take(np.array([0, 0]))
    rows, columns = match_detections(twice, found(0.8))
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


# ------------------------------------------------------------------- models that give an object once


def end2end(change: Callable[[NDArray[np.float32]], NDArray[np.float32] | None] | None = None) -> Model:
    """As ``model``, of a head that needs no suppression: 40 rows, the best first."""

    def run(images: NDArray[np.float32], /) -> NDArray[np.float32]:
        raw = model()(images)[0].T
        out = np.column_stack([raw[:, :2] - 3, raw[:, :2] + 3, raw[:, 4], np.zeros(40), raw[:, 5:]]).astype(np.float32)
        changed = change(out) if change else None
        return (out if changed is None else changed)[None]

    return run


def compare_rows(reference: Model, other: Model) -> Comparison:
    info = msgspec.structs.replace(INFO, end2end=True)
    return compare_models(reference, {"other": other}, info, images(1), 0.25)[1]["other"]


def test_rows_whose_order_a_rounding_decides_are_the_same() -> None:
    def swap(out: NDArray[np.float32]) -> NDArray[np.float32]:
        return out[[1, 0, *range(2, 40)]]

    parity = compare_rows(end2end(), end2end(swap)).parity
    assert parity.anchors == 40
    assert parity.anchors_max_px == parity.anchors_max_box_px == parity.anchors_max_confidence == 0
    assert (parity.objects, parity.matched, parity.unmatched) == (32, 32, 0)


def test_rows_are_compared_value_by_value() -> None:
    def keypoint(out: NDArray[np.float32]) -> None:
        out[35, 6] += 0.5  # one that counts for no object

    def side(out: NDArray[np.float32]) -> None:
        out[:, 3] += 0.5

    def score(out: NDArray[np.float32]) -> None:
        out[5, 4] += 0.01

    # The image is twice the size of the input.
    assert compare_rows(end2end(), end2end(keypoint)).parity.anchors_max_px == pytest.approx(1.0)
    assert compare_rows(end2end(), end2end(side)).parity.anchors_max_box_px == pytest.approx(1.0)
    assert compare_rows(end2end(), end2end(score)).parity.anchors_max_confidence == pytest.approx(0.01, abs=1e-6)


def test_a_row_that_only_one_of_the_two_gives_is_no_small_difference() -> None:
    def lose(out: NDArray[np.float32]) -> None:
        out[7] = out[8]

    def other_class(out: NDArray[np.float32]) -> None:
        out[7, 5] = 1

    def nothing(out: NDArray[np.float32]) -> None:
        out[7, 9] = np.nan

    for first, second in ((None, lose), (lose, None)):
        assert compare_rows(end2end(first), end2end(second)).parity.anchors_max_px > 5
    for broken in (other_class, nothing):
        assert np.isnan(compare_rows(end2end(), end2end(broken)).parity.anchors_max_px)


def test_which_row_is_the_last_decides_nothing() -> None:
    def faint(out: NDArray[np.float32]) -> None:
        out[39, :4] += 20
        out[39, 6:] = 3

    assert compare_rows(end2end(), end2end(faint)).parity.anchors_max_px == 0
