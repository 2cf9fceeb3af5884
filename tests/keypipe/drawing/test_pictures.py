from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from keypipe.drawing import text as drawn_text
from keypipe.drawing.colours import class_colours, keypoint_colours, oklch_to_rgb
from keypipe.drawing.pictures import (
    draw_comparison,
    draw_instances,
    draw_predictions,
    encode_jpeg,
)
from keypipe.images import fonts
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.keypoints.skeleton import Schema, Skeleton

NAMES = ("nose", "left_ear", "right_ear", "left_hoof", "right_hoof")
SCHEMA = Schema({"奶牛": Skeleton(NAMES, (("nose", "left_ear"), ("left_ear", "left_hoof")), ())})
PAIRED = Schema(
    {"cow": Skeleton(NAMES, (("nose", "left_ear"),), (("right_ear", "left_ear"), ("left_hoof", "right_hoof")))}
)
GREY = np.full((120, 160, 3), 128, dtype=np.uint8)


def prediction(points: dict[str, tuple[float, float, float]], score: float = 0.9) -> Prediction:
    keypoints = [PredictedKeypoint(name, *values) for name, values in points.items()]
    return Prediction("cow", score, (40, 30, 120, 100), keypoints)


def nearest_colour_shares(
    picture: np.ndarray, colour: tuple[int, int, int], centre: tuple[int, int], reach: int
) -> float:
    """Share of pixels around a place that have nearly this colour."""
    x, y = centre
    window = picture[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].astype(int)
    return float((np.abs(window - np.array(colour)).max(axis=2) < 12).mean())


# -------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize(
    ("lch", "rgb"),
    [((0, 0, 0), (0, 0, 0)), ((1, 0, 0), (255, 255, 255)), ((0.627955, 0.257683, 29.2339), (255, 0, 0))],
)
def test_oklch(lch: tuple[float, float, float], rgb: tuple[int, int, int]) -> None:
    assert np.abs(np.subtract(oklch_to_rgb(*lch), rgb)).max() <= 1


def test_left_is_cool_and_right_is_warm() -> None:
    colours = keypoint_colours(PAIRED)
    assert list(colours) == list(NAMES)
    for side, warm in (("left", False), ("right", True)):
        for name in ("ear", "hoof"):
            red, _, blue = colours[f"{side}_{name}"]
            assert (red > blue) == warm
    assert len(set(colours.values())) == len(NAMES)


def test_a_side_is_told_by_name_and_not_by_the_order_of_the_pair() -> None:
    turned = Schema({"cow": Skeleton(NAMES, (), (("left_ear", "right_ear"), ("right_hoof", "left_hoof")))})
    assert keypoint_colours(turned) == keypoint_colours(PAIRED)


@pytest.mark.parametrize("n", [1, 2, 17, 40])
def test_colours_of_unpaired_keypoints_differ(n: int) -> None:
    schema = Schema({"thing": Skeleton(tuple(str(i) for i in range(n)))})
    assert len(set(keypoint_colours(schema).values())) == n


def test_classes_have_colours_of_their_own() -> None:
    schema = Schema({name: Skeleton(("a",)) for name in ("x", "y", "z")})
    assert len(set(class_colours(schema).values())) == 3


# -------------------------------------------------------------------------------------- drawing


def test_the_input_stays_as_it_is() -> None:
    image = GREY.copy()
    image.flags.writeable = False
    drawn = draw_predictions(image, [prediction({"nose": (60, 60, 0.9)})], PAIRED)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 128).all()
    assert (drawn != image).any()


def test_nothing_to_draw_leaves_the_picture() -> None:
    np.testing.assert_array_equal(draw_predictions(GREY, [], PAIRED), GREY)


def test_points_below_the_threshold_are_not_drawn() -> None:
    colour = keypoint_colours(PAIRED)["right_ear"]
    sure, unsure = prediction({"right_ear": (80.5, 70.5, 0.9)}), prediction({"right_ear": (80.5, 70.5, 0.4)})
    assert nearest_colour_shares(draw_predictions(GREY, [sure], PAIRED), colour, (80, 70), 1) > 0.5
    assert nearest_colour_shares(draw_predictions(GREY, [unsure], PAIRED), colour, (80, 70), 3) == 0
    lower = draw_predictions(GREY, [unsure], PAIRED, keypoint_conf=0.3)
    assert nearest_colour_shares(lower, colour, (80, 70), 1) > 0.5


def test_occluded_points_are_hollow() -> None:
    def drawn(visibility: Visibility) -> np.ndarray:
        instance = Instance("cow", (10, 10, 150, 110), {"right_ear": Keypoint(80, 60, visibility)})
        return draw_instances(GREY, [instance], PAIRED, longest_side_px=640)

    colour = keypoint_colours(PAIRED)["right_ear"]
    hollow, filled = drawn(Visibility.OCCLUDED), drawn(Visibility.VISIBLE)
    assert nearest_colour_shares(filled, colour, (320, 240), 1) == 1
    assert nearest_colour_shares(hollow, colour, (320, 240), 1) == 0
    assert nearest_colour_shares(hollow, colour, (320, 240), 8) > 0.05


def test_an_edge_needs_both_ends() -> None:
    ends = {"nose": (50.0, 60.0, 0.9), "left_ear": (110.0, 60.0, 0.9)}
    whole = draw_predictions(GREY, [prediction(ends)], PAIRED)
    assert (whole[60, 80] != 128).any()
    half = draw_predictions(GREY, [prediction({**ends, "left_ear": (110.0, 60.0, 0.1)})], PAIRED)
    assert (half[60, 80] == 128).all()


@pytest.mark.parametrize("size_wh", [(12, 10), (4000, 3000), (1, 400), (33, 21)])
def test_any_size(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    image = np.zeros((height, width, 3), np.uint8)
    points = [PredictedKeypoint("nose", width / 2, height / 2, 1), PredictedKeypoint("left_ear", float(width), 0, 1)]
    found = Prediction("cow", 1.0, (0, 0, width, height), points)
    assert draw_predictions(image, [found], PAIRED).shape == image.shape


@pytest.mark.parametrize("box", [(50, 50, 50, 50), (0, 0, 160, 120), (60, 0, 60, 120)])
def test_odd_boxes(box: tuple[float, float, float, float]) -> None:
    assert draw_predictions(GREY, [Prediction("cow", 0.5, box, [])], PAIRED).shape == GREY.shape


def test_line_widths_grow_with_the_picture() -> None:
    def width_of_edge(scale: int) -> int:
        image = np.full((120 * scale, 160 * scale, 3), 128, np.uint8)
        points = [
            PredictedKeypoint("nose", 30.0 * scale, 60.0 * scale, 1),
            PredictedKeypoint("left_ear", 130.0 * scale, 60.0 * scale, 1),
        ]
        found = Prediction("cow", 1.0, (10.0 * scale, 10.0 * scale, 150.0 * scale, 110.0 * scale), points)
        column = draw_predictions(image, [found], PAIRED)[45 * scale : 75 * scale, 80 * scale]
        return int((column != 128).any(axis=1).sum())

    assert width_of_edge(20) > 2 * width_of_edge(6) > 4


def test_pictures_can_be_enlarged() -> None:
    plain = draw_predictions(GREY, [], PAIRED, longest_side_px=640)
    assert plain.shape == (480, 640, 3)


def test_comparisons() -> None:
    truth = [Instance("cow", (40, 30, 120, 100), {"nose": Keypoint(60, 60)})]
    found = [prediction({"nose": (75, 60, 0.9)})]
    both = draw_comparison(GREY, truth, found, PAIRED, longest_side_px=320)
    assert both.shape[0] == pytest.approx(240, abs=3)
    assert 640 < both.shape[1] < 660


def test_a_comparison_rings_the_culprit_in_both_pictures_and_comes_close() -> None:
    scene = np.full((1200, 1600, 3), 128, dtype=np.uint8)
    truth = [Instance("cow", (400, 300, 480, 360), {"nose": Keypoint(420, 330)})]
    found = [Prediction("cow", 0.9, (400, 300, 480, 360), [PredictedKeypoint("nose", 450, 330, 0.1)])]
    plain = draw_comparison(scene, truth, found, PAIRED, longest_side_px=320)
    ringed = draw_comparison(scene, truth, found, PAIRED, longest_side_px=320, culprit=((420, 330), (450, 330)))
    assert plain.shape == ringed.shape
    left, right = ((ringed != plain).any(2)[:, half] for half in (slice(0, 320), slice(-320, None)))
    for half in (left, right):
        ys, xs = np.nonzero(half)
        assert 15 < np.ptp(xs) < 30
        assert 15 < np.ptp(ys) < 30
    missed = draw_comparison(scene, truth, found, PAIRED, longest_side_px=320, missed=[(400, 300, 480, 360)])
    changed = (missed != plain).any(2)
    assert changed[:, -320:].any()
    assert not changed[:, :320].any()
    # 30 pixels of a scene of 1600 are far apart here, since the picture shows the surroundings of the object alone.
    assert np.nonzero(right)[1].mean() - np.nonzero(left)[1].mean() > 30


def test_jpeg() -> None:
    content = encode_jpeg(np.zeros((100, 400, 3), np.uint8), longest_side_px=200)
    assert Image.open(io.BytesIO(content)).size == (200, 50)
    assert content == encode_jpeg(np.zeros((100, 400, 3), np.uint8), longest_side_px=200)


# ---------------------------------------------------------------------------------------- fonts


def test_chinese_is_drawn() -> None:
    if fonts.font_path() is None:
        pytest.skip("needs the font of pylopdf-fonts-zh-cn: pip install 'keypipe[predict]'")
    font = fonts.load_font(40)
    masks = [bytes(font.getmask(text)) for text in ("奶", "牛", "\uffff")]
    assert len(set(masks)) == 3  # a font without them draws the same empty box for all


def test_without_the_font_package_pillows_own_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = (fonts.font_path, fonts.load_font, drawn_text._plate, drawn_text._plate_size)
    monkeypatch.setattr(fonts, "find_spec", lambda _: None)
    for cached in caches:
        cached.cache_clear()
    try:
        assert fonts.font_path() is None
        drawn = draw_predictions(GREY, [Prediction("奶牛", 0.5, (40, 30, 120, 100), [])], SCHEMA)
        assert (drawn[:120] != GREY).any()
    finally:
        for cached in caches:
            cached.cache_clear()
