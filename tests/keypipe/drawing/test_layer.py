from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from keypipe.drawing.layer import Ink, Layer

WHITE: Ink = (255, 255, 255, 255)
SIZES = [(60, 40), (4000, 3200)]
"""Pictures whose layer is twice as large, and as large as they are."""


def blank(size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    return np.zeros((size_wh[1], size_wh[0], 3), np.uint8)


def coverage(picture: NDArray[np.uint8], layer: Layer) -> NDArray[np.float64]:
    """How much of every pixel white shapes on black cover."""
    layer.paste()
    shares: NDArray[np.float64] = picture[..., 0] / 255.0
    return shares


def centroid(shares: NDArray[np.float64]) -> tuple[float, float]:
    ys, xs = np.nonzero(shares)
    weights = shares[ys, xs]
    return float(np.average(xs + 0.5, weights=weights)), float(np.average(ys + 0.5, weights=weights))


@pytest.mark.parametrize(
    ("size_wh", "radius"), [(SIZES[0], 1.0), *((size_wh, radius) for size_wh in SIZES for radius in (1.7, 3.0, 17.0))]
)
@pytest.mark.parametrize("centre", [(22.0, 19.0), (22.37, 19.61)])
def test_a_disc_is_as_large_as_it_should_be_and_where_it_should_be(
    size_wh: tuple[int, int], radius: float, centre: tuple[float, float]
) -> None:
    picture = blank(size_wh)
    layer = Layer(picture, (0, 0, *size_wh))
    layer.discs(np.array([centre]), np.array([radius]), [WHITE])
    shares = coverage(picture, layer)
    tolerance = 0.1 if size_wh == SIZES[0] else 0.2
    assert math.sqrt(shares.sum() / math.pi) == pytest.approx(radius, abs=tolerance)
    assert centroid(shares) == pytest.approx(centre, abs=0.1)
    assert ((shares > 0) & (shares < 1)).sum() >= 4 * radius  # its edge is smooth


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 4, math.pi / 2, 2.5])
@pytest.mark.parametrize(
    ("size_wh", "width"), [(SIZES[0], 1.0), *((size_wh, width) for size_wh in SIZES for width in (2.5, 6.0))]
)
def test_a_line_has_its_width_and_round_ends(size_wh: tuple[int, int], angle: float, width: float) -> None:
    picture = blank(size_wh)
    start, length = np.array([[25.0, 20.0]]), 12.0
    end = start + length * np.array([math.cos(angle), math.sin(angle)])
    layer = Layer(picture, (0, 0, *size_wh))
    layer.lines(start, end, width, [WHITE])
    area = coverage(picture, layer).sum()
    expected = length * width + math.pi * width**2 / 4
    tolerance = 0.2 if size_wh == SIZES[0] else 0.4
    assert area == pytest.approx(expected, abs=tolerance * length)


def test_a_line_without_length_is_a_disc() -> None:
    pictures = [blank(SIZES[0]) for _ in range(2)]
    layers = [Layer(picture, (0, 0, *SIZES[0])) for picture in pictures]
    place = np.array([[30.0, 20.0]])
    layers[0].lines(place, place, 8.0, [WHITE])
    layers[1].discs(place, np.array([4.0]), [WHITE])
    first, second = (coverage(*pair) for pair in zip(pictures, layers, strict=True))
    assert np.abs(first - second).sum() < 1.5


def test_a_ring_is_a_disc_with_a_hole() -> None:
    picture = blank(SIZES[0])
    layer = Layer(picture, (0, 0, *SIZES[0]))
    layer.rings(np.array([[30.0, 20.0]]), 10.0, 2.5, [WHITE])
    shares = coverage(picture, layer)
    assert shares.sum() == pytest.approx(math.pi * (10**2 - 7.5**2), rel=0.05)
    assert shares[20, 30] == 0
    layer = Layer(picture, (0, 0, *SIZES[0]))
    layer.rings(np.array([[30.0, 20.0]]), 1.0, 3.0, [WHITE])  # wider than its radius
    assert coverage(picture, layer)[20, 30] > 0


def test_a_rectangle_has_round_corners_and_its_line_on_the_box() -> None:
    picture = blank(SIZES[0])
    layer = Layer(picture, (0, 0, *SIZES[0]))
    layer.rectangle((10.0, 8.0, 50.0, 32.0), 2.0, 4.0, WHITE)
    shares = coverage(picture, layer)
    assert shares[:, 30].tolist() == pytest.approx([float(row in {7, 8, 31, 32}) for row in range(40)], abs=0.4)
    assert shares[20, :].sum() == pytest.approx(4.0, abs=0.3)
    assert shares[7, 9] < 0.3  # the corner itself is cut off
    assert shares[8, 13] > 0.5


@pytest.mark.parametrize("box", [(30.0, 20.0, 30.0, 20.0), (50.0, 30.0, 10.0, 5.0), (-50.0, -60.0, 400.0, 300.0)])
def test_rectangles_without_area_or_beyond_the_picture(box: tuple[float, float, float, float]) -> None:
    picture = blank(SIZES[0])
    layer = Layer(picture, (0, 0, *SIZES[0]))
    layer.rectangle(box, 2.0, 4.0, WHITE)
    assert coverage(picture, layer).mean() < 0.2


def test_opacity_mixes_with_the_picture_and_the_last_shape_counts() -> None:
    picture = np.full((40, 60, 3), 100, np.uint8)
    layer = Layer(picture, (0, 0, 60, 40))
    centres, radii = np.array([[30.0, 20.0], [30.0, 20.0]]), np.array([15.0, 8.0])
    layer.discs(centres, radii, [(200, 0, 0, 255), (0, 250, 0, 51)])
    layer.paste()
    assert picture[20, 18].tolist() == [200, 0, 0]
    assert picture[20, 30].tolist() == [80, 130, 80]
    assert picture[1, 1].tolist() == [100, 100, 100]


def test_only_the_region_of_the_picture_is_touched() -> None:
    picture = np.full((40, 60, 3), 100, np.uint8)
    layer = Layer(picture, (20.5, 10.2, 30.1, 22.0))
    layer.discs(np.array([[25.0, 16.0]]), np.array([30.0]), [WHITE])
    layer.paste()
    changed = (picture != 100).any(axis=2)
    assert changed[10:22, 20:31].all()
    assert changed.sum() == 12 * 11


@pytest.mark.parametrize("region", [(-90, -90, -50, -50), (500, 500, 600, 600), (30, 20, 30, 20), (40, 30, 10, 5)])
def test_a_region_beyond_the_picture_or_without_area(region: tuple[float, float, float, float]) -> None:
    picture = blank(SIZES[0])
    layer = Layer(picture, region)
    layer.discs(np.array([[30.0, 20.0], [1e9, -1e9]]), np.array([2.0, 2.0]), [WHITE, WHITE])
    layer.paste()
    assert picture.shape == (40, 60, 3)


def test_a_pasted_layer_is_the_same_wherever_its_region_begins() -> None:
    pictures = [blank(SIZES[0]) for _ in range(2)]
    for picture, region in zip(pictures, [(0, 0, 60, 40), (7, 11, 55, 39)], strict=True):
        layer = Layer(picture, region)
        layer.lines(np.array([[15.3, 20.2]]), np.array([[44.1, 25.7]]), 3.0, [WHITE])
        layer.paste()
    np.testing.assert_array_equal(*pictures)
