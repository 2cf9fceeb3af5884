"""What is written down of an image: its pixels, its objects in their boxes, and how far other views disagree."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypipe.drift.observation import compare_views, look_at_pixels, to_objects
from keypipe.drift.rows import keypoints_px
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from tests.keypipe.drift.samples import NAMES, lit_predictor


def noise(shape: tuple[int, ...] = (240, 320, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_an_even_image() -> None:
    found = look_at_pixels(np.full((50, 80, 3), 51, np.uint8))
    assert (found.brightness, found.contrast, found.saturation) == (0.2, 0.0, 0.0)


def test_a_coloured_image_is_saturated() -> None:
    image = np.zeros((50, 80, 3), np.uint8)
    image[..., 2] = 200
    assert look_at_pixels(image).saturation == 1.0


def test_dark_images_are_as_sharp_and_blurred_ones_are_not() -> None:
    image = cv2.GaussianBlur(noise(), (0, 0), 1.0)
    sharp = look_at_pixels(image).sharpness
    assert look_at_pixels((image * 0.4).astype(np.uint8)).sharpness == pytest.approx(sharp, abs=0.1)
    assert look_at_pixels(cv2.GaussianBlur(image, (0, 0), 3.0)).sharpness < sharp - 0.5


def test_objects_are_written_in_their_boxes_and_come_back_in_pixels() -> None:
    points = [PredictedKeypoint("nose", 30.0, 20.0, 0.9), PredictedKeypoint("tail", 5.0, 60.0, 0.2)]
    (found,) = to_objects([Prediction("cow", 0.8, (10.0, 20.0, 50.0, 40.0), points)], (200, 100))
    assert (found.keypoints[0].x, found.keypoints[0].y) == (0.5, 0.0)
    assert (found.keypoints[1].x, found.keypoints[1].y) == (-0.125, 2.0)
    assert found.size == pytest.approx(math.sqrt(800 / 20000), abs=1e-4)
    assert found.aspect == 2.0
    assert found.keypoints[0].mirrored is None
    assert keypoints_px(found).tolist() == [[30.0, 20.0], [5.0, 60.0]]


def test_a_model_that_says_the_same_of_every_image_disagrees_with_itself_on_other_views(tmp_path: Path) -> None:
    """Its keypoints stay where they are in the input, so that on the image they move by what the view has moved."""
    predictor = lit_predictor(tmp_path / "model.onnx")
    image = np.full((64, 64, 3), 200, np.uint8)
    found = predictor.predict_image(image)
    assert len(found) == 1
    mirrored, smaller = compare_views(predictor, image, found, Thresholds())
    # left and right change places in the mirror, so an ear is compared with the other one's place
    width, diagonal = 64, math.hypot(40, 40)
    xs = {name: 10.0 + 8 * k for k, name in enumerate(NAMES)}
    ys = {name: 20.0 + 4 * k for k, name in enumerate(NAMES)}
    partner = {"left_ear": "right_ear", "right_ear": "left_ear"}
    for k, name in enumerate(NAMES):
        other = partner.get(name, name)
        expected = math.hypot(width - xs[other] - xs[name], ys[other] - ys[name]) / diagonal
        assert mirrored[0][k] == pytest.approx(expected, abs=0.01)
    assert len(smaller[0]) == len(NAMES)


def test_an_object_that_a_view_loses_is_infinitely_far(tmp_path: Path) -> None:
    predictor = lit_predictor(tmp_path / "model.onnx")
    image = np.full((64, 64, 3), 200, np.uint8)
    points = [PredictedKeypoint(name, 60.0, 60.0, 0.9) for name in NAMES]
    elsewhere = Prediction("cow", 0.8, (56.0, 56.0, 63.0, 63.0), points)
    mirrored, smaller = compare_views(predictor, image, [elsewhere], Thresholds())
    assert all(math.isinf(value) for value in [*mirrored[0], *smaller[0]])


class Centred:
    """A model that sees a bright square, whatever the view; its keypoints lie in it and are not moved by views."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        ys, xs = np.nonzero(images[0].mean(axis=0) > 0.8)
        left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
        width, height = right - left, bottom - top
        output = np.zeros((1, 4 + 1 + 3 * len(NAMES), 1), np.float32)
        output[0, :5, 0] = [(left + right) / 2, (top + bottom) / 2, width, height, 0.9]
        for k in range(len(NAMES)):
            output[0, 5 + 3 * k : 8 + 3 * k, 0] = [(left + right) / 2, top + height * (k + 1) / 6, 0.9]
        return output


def test_a_model_that_follows_the_image_agrees_with_itself(tmp_path: Path) -> None:
    from keypipe.inference.predictor import Predictor

    predictor = Predictor(Centred(), lit_predictor(tmp_path / "model.onnx").info)
    image = np.zeros((128, 128, 3), np.uint8)
    image[40:90, 20:80] = 255
    found = predictor.predict_image(image)
    mirrored, smaller = compare_views(predictor, image, found, Thresholds())
    flat = [k for k, name in enumerate(NAMES) if not name.endswith("_ear")]
    assert max(mirrored[0][k] for k in flat) < 0.05
    assert max(smaller[0]) < 0.05
