"""What the demo is drawn on: a supersampled picture that knows what hides what, and colours and outlines for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Rng = np.random.Generator
Rgb = tuple[int, int, int]
Vec = NDArray[np.float64]
Xy = Sequence[float] | Vec
Points = Sequence[Xy] | Vec
Stroke = tuple[Vec, tuple[float, ...]]  # centres (n, 2) and as many radii, pixels

SUPERSAMPLING: Final = 3
MIN_SIDE_PX: Final = 32


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Blend two colours; `share` is that of the second."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(first, second, strict=True))
    return r, g, b


def darker(colour: Rgb, share: float) -> Rgb:
    """Blend a colour with a dark one; `share` is that of the latter."""
    return mix(colour, (24, 20, 30), share)


def lit(rng: Rng, colour: Rgb, amount: float) -> Rgb:
    """Make a colour a little lighter or darker."""
    share = float(rng.uniform(-amount, amount))
    return mix(colour, (255, 250, 240), share) if share > 0 else darker(colour, -share)


def varied(rng: Rng, colour: Rgb, amount: int) -> Rgb:
    """Change each of a colour's parts by up to `amount`."""
    r, g, b = (int(np.clip(c + d, 0, 255)) for c, d in zip(colour, rng.integers(-amount, amount + 1, 3), strict=True))
    return r, g, b


class Canvas:
    """A supersampled picture that remembers, for every pixel, which layer covered it last.

    Coordinates are pixels of the finished picture. The layer numbers grow with every `next_layer`,
    so a point of layer k is hidden where the number is greater than k.
    """

    def __init__(self, size_wh: tuple[int, int]) -> None:
        if min(size_wh) < MIN_SIDE_PX:
            raise ValueError(f"a picture needs sides of at least {MIN_SIDE_PX} px, got {size_wh[0]}x{size_wh[1]}")
        self.size_wh = size_wh
        width, height = (side * SUPERSAMPLING for side in size_wh)
        self.colours = Image.new("RGB", (width, height))
        self.layers = Image.new("I", (width, height), 0)
        self.layer = 0

    def next_layer(self) -> int:
        """Start a layer that covers all earlier ones."""
        self.layer += 1
        return self.layer

    def polygon(self, points: Points, colour: Rgb) -> None:
        """Fill a polygon of (x, y) points."""
        self._fill("polygon", self._grid(points), colour)

    def ellipse(self, centre: Xy, radii: tuple[float, float], colour: Rgb) -> None:
        """Fill an upright ellipse."""
        self._fill("ellipse", self._grid(corners_of(centre, radii)), colour)

    def stroke(self, points: Vec, radii: Sequence[float], colour: Rgb, grow: float = 0.0) -> None:
        """Fill a line of discs, (n, 2) centres, whose radii change evenly from one to the next."""
        for kind, outline in _stroke_pieces(points, [r + grow for r in radii]):
            self._fill(kind, self._grid(outline), colour)

    def mask(self, strokes: Iterable[Stroke]) -> Image.Image:
        """Return an 8-bit mask in canvas resolution that covers the strokes."""
        mask = Image.new("L", self.colours.size, 0)
        draw = ImageDraw.Draw(mask)
        for points, radii in strokes:
            for kind, outline in _stroke_pieces(points, radii):
                getattr(draw, kind)(self._grid(outline), fill=255)
        return mask

    def blobs(self, outlines: Iterable[Points], blur_px: float = 0.0) -> Image.Image:
        """Return an 8-bit mask of polygons, with soft edges where `blur_px` is given."""
        mask = Image.new("L", self.colours.size, 0)
        draw = ImageDraw.Draw(mask)
        for outline in outlines:
            draw.polygon(self._grid(outline), fill=255)
        return mask.filter(ImageFilter.BoxBlur(blur_px * SUPERSAMPLING)) if blur_px else mask

    def tint(self, colour: Rgb, mask: Image.Image, opacity: float = 1.0) -> None:
        """Colour what lies under a mask; hides nothing."""
        region = mask.getbbox()
        if region is None:
            return
        part = mask.crop(region)
        if opacity < 1.0:
            part = part.point([round(v * opacity) for v in range(256)])
        self.colours.paste(colour, region, part)

    def covered(self, xy_px: Xy, layer: int) -> bool:
        """Tell whether most of the spot around a point lies under later layers than `layer`."""
        x, y = (math.floor(v * SUPERSAMPLING) for v in xy_px)
        spot = np.asarray(self.layers.crop((x - 2, y - 2, x + 3, y + 3)))
        return bool((spot > layer).mean() > 0.5)

    def finished(self) -> NDArray[np.uint8]:
        """Return the picture in its final size, uint8 (height, width, 3)."""
        return np.asarray(self.colours.resize(self.size_wh, Image.Resampling.BOX)).copy()

    def _fill(self, kind: str, points: list[tuple[int, int]], colour: Rgb) -> None:
        getattr(ImageDraw.Draw(self.colours), kind)(points, fill=colour)
        getattr(ImageDraw.Draw(self.layers), kind)(points, fill=self.layer)

    @staticmethod
    def _grid(points: Points) -> list[tuple[int, int]]:
        return [(round(float(x) * SUPERSAMPLING), round(float(y) * SUPERSAMPLING)) for x, y in points]


def corners_of(centre: Xy, radii: tuple[float, float]) -> list[tuple[float, float]]:
    """Return the upper left and the lower right corner of what reaches so far from a centre both ways."""
    (x, y), (rx, ry) = centre, radii
    return [(x - rx, y - ry), (x + rx, y + ry)]


def _stroke_pieces(points: Vec, radii: Sequence[float]) -> Iterator[tuple[str, list[Any]]]:
    """Yield a stroke as discs and the quadrilaterals that join them."""
    for centre, radius in zip(points, radii, strict=True):
        yield "ellipse", corners_of(centre, (radius, radius))
    discs = zip(points, radii, strict=True)
    for (a, ra), (b, rb) in pairwise(discs):
        length = math.hypot(*(b - a))
        if length > 0:
            side = np.array([a[1] - b[1], b[0] - a[0]]) / length
            yield "polygon", [a + side * ra, b + side * rb, b - side * rb, a - side * ra]


def blob(rng: Rng, centre: Xy, radii: tuple[float, float], wobble: float = 0.25) -> Vec:
    """Return a rounded, irregular outline around a centre, (28, 2)."""
    phases, sizes = rng.uniform(0, 2 * math.pi, 3), rng.uniform(0, wobble / 2, 3)
    outline = np.empty((28, 2))
    for step in range(28):
        angle = 2 * math.pi * step / 28
        reach = 1 + sum(s * math.sin(n * angle + p) for n, s, p in zip((2, 3, 5), sizes, phases, strict=True))
        outline[step] = math.cos(angle) * reach, math.sin(angle) * reach
    placed: Vec = outline * radii + np.array(centre)
    return placed
