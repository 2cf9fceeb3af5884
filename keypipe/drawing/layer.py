"""Shapes with smooth edges, drawn over a part of a picture.

All shapes of a layer are drawn on it twice as large and brought to the picture at once, so that hundreds of
objects cost one scaling down and one blending.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from keypipe.images.opencv import import_cv2
from keypipe.keypoints.boxes import Array, Box

RgbImage = NDArray[np.uint8]
Ink = tuple[int, int, int, int]
"""Red, green, blue and opacity, 0 to 255."""

_SUPERSAMPLING = 2  # with OpenCV's own smoothing as good as a factor of 3 without it, and half as large
_MAX_LAYER_PX = 12_000_000  # larger layers are drawn with less of it, so that memory stays small
_FRACTION_BITS = 4  # of OpenCV's fixed-point coordinates
_RIM_PX = 0.65  # OpenCV smooths a polygon's outline outwards, by about so much (measured), in pixels of the layer
_FARTHEST_PX = 1 << 20  # keeps fixed-point coordinates far from overflowing


class Layer:
    """A transparent layer over a part of a picture; all coordinates and lengths are pixels of the picture.

    On a layer that is no larger than the picture no line is thinner than about 1.5 px.

    A shape replaces what was drawn on the layer before it, also where it is translucent: there the picture shines
    through.
    """

    def __init__(self, picture: RgbImage, region: Box) -> None:
        """Make an empty layer.

        Args:
            picture: uint8 (height, width, 3); ``paste`` writes into it.
            region: the part that the shapes lie in; what reaches beyond is cut off.
        """
        self._cv2 = import_cv2()
        height, width = picture.shape[:2]
        left, right = _clip_span(region[0], region[2], width)
        top, bottom = _clip_span(region[1], region[3], height)
        self._below = picture[top:bottom, left:right]
        area = (right - left) * (bottom - top)
        self._factor = min(_SUPERSAMPLING, max(1, math.isqrt(_MAX_LAYER_PX // area)))
        self._origin = np.array([left, top], dtype=np.float64)
        size = ((bottom - top) * self._factor, (right - left) * self._factor)
        self._pixels = np.zeros((*size, 4), np.uint8)  # premultiplied, so that scaling mixes no colour of nothing

    def lines(self, starts: Array, ends: Array, width: float, inks: Sequence[Ink], *, round_ends: bool = True) -> None:
        """Draw lines, one after the other.

        Args:
            starts: (n, 2).
            ends: (n, 2).
            width: of all of them.
            inks: one for each line.
            round_ends: end in half circles; else at the points themselves, where something else covers them.
        """
        outline = _capsules if round_ends else _strips
        self._fill(outline(self._at(starts), self._at(ends), self._inner(width / 2)), inks)

    def discs(self, centres: Array, radii: Array, inks: Sequence[Ink]) -> None:
        """Draw filled circles, one after the other.

        Args:
            centres: (n, 2).
            radii: (n,).
            inks: one for each circle.
        """
        if len(centres) == 0:
            return
        inner = np.maximum(radii * self._factor - _RIM_PX, 0.0)
        circle = _unit_circle(_n_corners(float(inner.max())))
        self._fill(self._at(centres)[:, None] + inner[:, None, None] * circle, inks)

    def rings(self, centres: Array, radius: float, width: float, inks: Sequence[Ink]) -> None:
        """Draw circles, one after the other.

        Args:
            centres: (n, 2).
            radius: of their outer edges.
            width: of their lines.
            inks: one for each circle.
        """
        outer = self._inner(radius)
        inner = min(outer, max(0.0, (radius - width) * self._factor + _RIM_PX))
        circle = _unit_circle(_n_corners(outer))
        for centre, ink in zip(self._at(centres), inks, strict=True):
            self._fill_between(centre + outer * circle, centre + inner * circle, ink)

    def rectangle(self, box: Box, width: float, radius: float, ink: Ink) -> None:
        """Draw the outline of a rectangle with rounded corners, its sides on whole pixels of the layer.

        Args:
            box: left, top, right, bottom of the outline's middle line.
            width: of the line.
            radius: of the corners, outside.
            ink: its colour.
        """
        cv2, colour = self._cv2, _premultiply(ink)
        line = max(1, round(width * self._factor))
        # From here on borders between pixels, which OpenCV has at halves.
        borders = self._at(np.array([box[:2], box[2:]])) + 0.5
        left, top = np.rint(borders[0] - line / 2).astype(int).tolist()
        right, bottom = np.rint(borders[1] + line / 2).astype(int).tolist()
        right, bottom = max(right, left + line), max(bottom, top + line)
        corner = min(round(radius * self._factor), (right - left) // 2, (bottom - top) // 2)
        for x1, y1, x2, y2 in (
            (left + corner, top, right - corner, top + line),
            (left + corner, bottom - line, right - corner, bottom),
            (left, top + corner, left + line, bottom - corner),
            (right - line, top + corner, right, bottom - corner),
        ):
            if x2 > x1 and y2 > y1:
                cv2.rectangle(self._pixels, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)
        outer = max(0.0, corner - _RIM_PX)
        arcs = _quarter_rings(outer, min(outer, max(0.0, corner - line + _RIM_PX)))
        centres = np.array([(x, y) for y in (top + corner, bottom - corner) for x in (left + corner, right - corner)])
        for arc in _to_fixed(arcs + centres[:, None] - 0.5):
            cv2.fillPoly(self._pixels, [arc], colour, cv2.LINE_AA, _FRACTION_BITS)

    def paste(self) -> None:
        """Put what was drawn onto the picture."""
        cv2 = self._cv2
        height, width = self._below.shape[:2]
        layer = self._pixels
        if self._factor > 1:
            layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA)
        blend(self._below, layer)

    def _at(self, points: Array) -> Array:
        # A pixel's centre is at its whole coordinate plus a half in the picture, at its whole coordinate in OpenCV.
        placed = (points - self._origin) * self._factor - 0.5
        within: Array = np.minimum(np.maximum(placed, -_FARTHEST_PX), _FARTHEST_PX)
        return within

    def _inner(self, radius: float) -> float:
        return max(0.0, radius * self._factor - _RIM_PX)

    def _fill(self, outlines: Array, inks: Sequence[Ink]) -> None:
        """Fill convex outlines, (n, n_corners, 2), in pixels of the layer."""
        fill, pixels, line_type = self._cv2.fillConvexPoly, self._pixels, self._cv2.LINE_AA
        for outline, ink in zip(_to_fixed(outlines), inks, strict=True):
            fill(pixels, outline, _premultiply(ink), line_type, _FRACTION_BITS)

    def _fill_between(self, outer: Array, inner: Array, ink: Ink) -> None:
        outlines = [_to_fixed(outer), _to_fixed(inner)]
        self._cv2.fillPoly(self._pixels, outlines, _premultiply(ink), self._cv2.LINE_AA, _FRACTION_BITS)


def blend(picture: RgbImage, layer: NDArray[np.uint8]) -> None:
    """Lay a translucent picture over another one of its size.

    Args:
        picture: uint8 (height, width, 3); changed.
        layer: uint8 (height, width, 4), colours premultiplied by the opacity.
    """
    cv2 = import_cv2()
    rest = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(layer, 3)), cv2.COLOR_GRAY2RGB)
    cv2.multiply(picture, rest, dst=rest, scale=1 / 255)
    cv2.add(rest, cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB), dst=picture)


def _clip_span(low: float, high: float, size: int) -> tuple[int, int]:
    """Return the whole pixels from ``low`` to ``high`` that lie within a side, at least one."""
    first = min(max(0, math.floor(low)), size - 1)
    return first, max(first + 1, min(size, math.ceil(high)))


def _to_fixed(points: Array) -> NDArray[np.int32]:
    return np.rint(points * (1 << _FRACTION_BITS)).astype(np.int32)


@lru_cache(maxsize=4096)
def _premultiply(ink: Ink) -> Ink:
    red, green, blue, alpha = ink
    return round(red * alpha / 255), round(green * alpha / 255), round(blue * alpha / 255), alpha


# ---------------------------------------------------------------------------------------- outlines


def _n_corners(radius: float) -> int:
    """Return a multiple of 4 corners with which a polygon is nowhere more than 0.2 px inside its circle."""
    # The middle of a side is radius * (1 - cos(pi / n)), about radius * pi ** 2 / (2 * n ** 2), inside.
    return 4 * max(2, math.ceil(math.pi * math.sqrt(2.5 * radius) / 4))


@cache
def _unit_circle(n_corners: int) -> Array:
    angles = np.linspace(0, 2 * math.pi, n_corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@cache
def _unit_cap(n_corners: int) -> Array:
    """Return the left half of the unit circle, from below to above, both ends included."""
    angles = np.linspace(math.pi / 2, 3 * math.pi / 2, n_corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _directions(starts: Array, ends: Array) -> Array:
    """Return unit vectors from points to points, (2, n); to the right where they are the same."""
    along = (ends - starts).T
    lengths = np.hypot(*along)
    still = lengths == 0
    along[0, still] = lengths[still] = 1.0
    directions: Array = along / lengths
    return directions


def _strips(starts: Array, ends: Array, radius: float) -> Array:
    """Return the outlines of lines without ends, (n, 4, 2)."""
    dx, dy = _directions(starts, ends)
    aside = radius * np.stack([-dy, dx], axis=1)
    return np.stack([starts + aside, ends + aside, ends - aside, starts - aside], axis=1)


def _capsules(starts: Array, ends: Array, radius: float) -> Array:
    """Return the outlines of lines with round ends, (n, n_corners, 2)."""
    dx, dy = _directions(starts, ends)
    x, y = _unit_cap(_n_corners(radius) // 2 + 1).T
    caps = radius * np.stack([np.outer(dx, x) - np.outer(dy, y), np.outer(dy, x) + np.outer(dx, y)], axis=2)
    return np.concatenate([starts[:, None] + caps, ends[:, None] - caps], axis=1)


@lru_cache(maxsize=256)
def _quarter_rings(outer: float, inner: float) -> Array:
    """Return the outlines of a ring's quarters, (4, n_corners, 2): left and right above, left and right below."""
    n_corners = _n_corners(outer)
    arc = _unit_circle(n_corners)[: n_corners // 4]
    arc = np.concatenate([arc, [[0.0, 1.0]]])
    outline = np.concatenate([outer * arc, inner * arc[::-1]])
    signs = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    outlines: Array = outline * signs[:, None]
    return outlines
