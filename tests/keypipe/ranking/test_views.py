from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from keypipe.inference.model_info import ModelInfo
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.views import predict_mirrored
from keypipe.keypoints.skeleton import Schema, Skeleton
from keypipe.ranking.views import Views, disagreement, predict_views
from tests.onnx_files import raw_output

SIDE = 64
PAIRED = Schema({"cow": Skeleton(("nose", "left_ear", "right_ear"), (), (("left_ear", "right_ear"),))})
PLAIN = Schema({"cow": Skeleton(("nose", "left_ear", "right_ear"))})
SURE = Thresholds(0.25, keypoint_conf=0.5)


class Detector:
    """A model that finds a bright square and puts its keypoints into its corners; where it lies is where it is seen."""

    def __init__(self, schema: Schema, twist: Callable[[float], float] = lambda width: 0.0) -> None:
        self.schema, self.twist = schema, twist

    def __call__(self, images: NDArray[np.float32], /) -> NDArray[np.float32]:
        bright = images[0].min(axis=0) > 0.9
        if not bright.any():
            return raw_output(self.schema, [])[None]
        ys, xs = np.nonzero(bright)
        left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        dx = self.twist(float(right - left))
        points = {
            "nose": (float(left + right) / 2 + dx, float(top), 0.9),
            "left_ear": (float(left) + dx, float(bottom), 0.9),
            "right_ear": (float(right) + dx, float(bottom), 0.9),
        }
        box = [(left + right) / 2, (top + bottom) / 2, float(right - left), float(bottom - top)]
        return raw_output(self.schema, [("cow", 0.9, box, points)])[None]


def predictor(schema: Schema, twist: Callable[[float], float] = lambda width: 0.0) -> Predictor:
    return Predictor(Detector(schema, twist), ModelInfo(schema, (SIDE, SIDE)))


def square(left: int = 10, top: int = 20, side: int = 20) -> NDArray[np.uint8]:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[top : top + side, left : left + side] = 255
    return image


def test_a_model_that_sees_the_same_in_every_view_agrees_with_itself() -> None:
    views = predict_views(predictor(PAIRED), square(), SURE)
    for found in (*views.mirrored, *views.smaller):
        assert found.box_xyxy == pytest.approx(views.plain[0].box_xyxy, abs=1.5)
        for point, plain in zip(found.keypoints, views.plain[0].keypoints, strict=True):
            assert (point.name, point.x, point.y) == (
                plain.name,
                pytest.approx(plain.x, abs=1.5),
                pytest.approx(plain.y, abs=1.5),
            )
    assert len(views.mirrored) == len(views.smaller) == 1
    assert disagreement(views, PAIRED, 0.5) < 0.3


def test_a_model_that_shifts_its_points_disagrees() -> None:
    sound = disagreement(predict_views(predictor(PAIRED), square(), SURE), PAIRED, 0.5)
    shifted = disagreement(predict_views(predictor(PAIRED, lambda width: 5.0), square(), SURE), PAIRED, 0.5)
    assert shifted > sound + 0.3  # to the right in the image and in its mirror image


def test_without_pairs_nothing_is_mirrored() -> None:
    views = predict_views(predictor(PLAIN, lambda width: 5.0), square(), SURE)
    assert views.mirrored == []
    assert disagreement(views, PLAIN, 0.5) < 0.3  # the mirror image alone would tell


def test_what_one_view_alone_shows_counts_in_full() -> None:
    found = predict_views(predictor(PLAIN), square(), SURE).plain
    assert disagreement(Views(found, [], []), PLAIN, 0.5) == 1.0
    assert disagreement(Views([], [], found), PLAIN, 0.5) == 1.0
    assert disagreement(Views([], [], []), PLAIN, 0.5) == 0.0
    assert disagreement(Views(found, [], found), PLAIN, 0.5) == 0.0


# --------------------------------------------------------------- both views as one answer, `mirror`

BOTH = msgspec.structs.replace(SURE, mirror=True)


def test_a_shift_to_one_side_cancels_where_both_views_are_looked_at() -> None:
    shifting = predictor(PAIRED, lambda width: 5.0)
    for left in (10, 11, 30):  # ears are at the square's corners
        alone, both = (shifting.predict_image(square(left), thresholds)[0] for thresholds in (SURE, BOTH))
        names = ["nose", "left_ear", "right_ear"]
        assert [point.name for point in both.keypoints] == names
        assert [point.x for point in alone.keypoints] == [left + 15, left + 5, left + 25]
        assert [point.x for point in both.keypoints] == pytest.approx([left + 10, left, left + 20])
        assert both.score == pytest.approx(alone.score)
        assert both.box_xyxy == pytest.approx(alone.box_xyxy)


def test_views_are_compared_one_by_one_whatever_is_asked_for() -> None:
    shifting = predictor(PAIRED, lambda width: 5.0)
    assert predict_mirrored(shifting, square(), BOTH) == predict_mirrored(shifting, square(), SURE)


def test_what_is_faint_in_both_views_is_nothing() -> None:
    def faint(images: NDArray[np.float32], /) -> NDArray[np.float32]:
        found = Detector(PAIRED)(images)
        found[:, 4] *= 0.2
        return found

    quiet = Predictor(faint, ModelInfo(PAIRED, (SIDE, SIDE)))
    assert len(quiet.detect(square(), BOTH)) == 0
    assert len(quiet.detect(square(), msgspec.structs.replace(BOTH, conf=0.1))) == 1


def test_files_without_mirrored_views_are_as_before() -> None:
    assert b"mirror" not in msgspec.json.encode(Thresholds())
    assert b'"mirror":true' in msgspec.json.encode(BOTH)
    assert msgspec.json.decode(msgspec.json.encode(BOTH), type=Thresholds) == BOTH
