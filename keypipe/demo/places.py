"""The demo's places: a pasture and a barn, and what lies about in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from keypipe.demo.animal import View
from keypipe.demo.canvas import Canvas, Rgb, Rng, Xy, blob, corners_of, darker, lit, mix, varied

PLACES: Final = ("pasture", "barn")


def draw_backdrop(canvas: Canvas, rng: Rng, place: str) -> float:
    """Draw what lies behind everything; return the row where the ground begins, pixels."""
    return _BACKDROPS[place](canvas, rng)


def strew(canvas: Canvas, rng: Rng, place: str, ground: float, count: int) -> None:
    """Strew props behind the animals."""
    width, height = canvas.size_wh
    for y in np.sort(rng.uniform(ground + 0.03 * height, height * 0.8, count)):
        prop = _PROPS[place][int(rng.integers(len(_PROPS[place])))]
        nearness = (y - ground) / (height - ground)
        x, size = rng.uniform(0, width), height * (0.08 + 0.16 * nearness) * rng.uniform(0.7, 1.2)
        shade = blob(rng, (x, float(y)), (size * 0.55, size * 0.12), 0.05)
        canvas.tint((30, 34, 30), canvas.blobs([shade], blur_px=1.0), 0.3)
        prop(canvas, rng, x, float(y), size)


def screen(canvas: Canvas, rng: Rng, place: str, views: Sequence[View]) -> None:
    """Put things before the animals: now and then a fence, or something that hides a few legs."""
    height = canvas.size_wh[1]
    canvas.next_layer()
    for view in views:
        if rng.random() < 0.3:
            prop = _SCREENS[place][int(rng.integers(len(_SCREENS[place])))]
            x = view.feet_px[0] + rng.uniform(-0.9, 0.9) * view.unit_px
            prop(canvas, rng, x, view.feet_px[1] + 0.12 * view.unit_px, view.unit_px * rng.uniform(0.25, 0.5))
    if views and rng.random() < 0.15:
        nearest = views[-1]
        wood = _FENCE_WOOD[int(rng.integers(len(_FENCE_WOOD)))]
        y = min(nearest.feet_px[1] + 0.2 * nearest.unit_px, height * 1.02)
        _fence(canvas, rng, y, nearest.unit_px * rng.uniform(0.5, 0.7), wood)


# ------------------------------------------------------------------------------------------ parts


def _gradient(canvas: Canvas, top: float, bottom: float, first: Rgb, last: Rgb) -> None:
    """Fill the rows from `top` to `bottom` (pixels) with a vertical gradient."""
    steps, width = 40, canvas.size_wh[0]
    for step in range(steps):
        y = top + (bottom - top) * step / steps
        corners = [(0, y), (width, y), (width, bottom), (0, bottom)]
        canvas.polygon(corners, mix(first, last, step / (steps - 1)))


def _tufts(canvas: Canvas, rng: Rng, top: float, bottom: float, *, colour: Rgb, count: int) -> None:
    """Strew short blades (grass or straw), longer towards the front."""
    width = canvas.size_wh[0]
    for y in np.sort(rng.uniform(top, bottom, count)):
        x, near = rng.uniform(0, width), (y - top) / max(1.0, bottom - top)
        length = (0.012 + 0.022 * near) * width
        for lean in rng.uniform(-0.6, 0.6, 3):
            tip = (x + lean * length, y - length)
            canvas.polygon([(x - 0.6, y), (x + 0.6, y), tip], varied(rng, colour, 14))


def _clouds(canvas: Canvas, rng: Rng, horizon: float) -> None:
    width = canvas.size_wh[0]
    for _ in range(int(rng.integers(1, 4))):
        x, y, size = rng.uniform(0, width), rng.uniform(0.1, 0.6) * horizon, rng.uniform(0.03, 0.07) * width
        puffs = [
            blob(rng, (x + shift * size, y - lift * size), (size, size * 0.5), 0.15)
            for shift, lift in ((-1.0, 0.0), (0.0, 0.35), (1.0, 0.05), (0.1, -0.1))
        ]
        canvas.tint((255, 255, 255), canvas.blobs(puffs, blur_px=0.5), 0.8)


def _hills(canvas: Canvas, rng: Rng, horizon: float, near: Rgb, far: Rgb) -> None:
    width, height = canvas.size_wh
    for share, rise in ((0.75, 0.13), (0.4, 0.07)):
        phase, waves = rng.uniform(0, 6.28, 2), rng.uniform(1.0, 2.6)
        ridge = [
            (x, horizon - height * rise * (0.6 + 0.4 * math.sin(waves * 6.28 * x / width + phase[0])))
            for x in np.linspace(0, width, 40)
        ]
        canvas.polygon([*ridge, (width, horizon + 4), (0, horizon + 4)], mix(near, far, share))


def _tree(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    trunk = np.array([[x, y], [x, y - size]])
    canvas.stroke(trunk, (size * 0.1, size * 0.07), (98, 74, 56))
    leaves = varied(rng, (74, 118, 66), 16)
    for dx, dy, reach in ((-0.3, 0.9, 0.4), (0.3, 0.95, 0.42), (0.0, 1.25, 0.45)):
        centre = (x + dx * size, y - dy * size)
        canvas.polygon(blob(rng, centre, (reach * size, reach * size * 0.9)), leaves)
        light = (centre[0] - 0.1 * size, centre[1] - 0.1 * size)
        canvas.polygon(blob(rng, light, (reach * size * 0.6, reach * size * 0.5)), mix(leaves, (200, 220, 130), 0.25))


def _bush(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    leaves = varied(rng, (70, 116, 58), 18)
    for dx, dy, reach in ((-0.55, 0.25, 0.45), (0.55, 0.25, 0.42), (0.0, 0.42, 0.58)):
        canvas.polygon(blob(rng, (x + dx * size, y - dy * size), (reach * size, reach * size * 0.8)), leaves)
    for dx, dy in rng.uniform((-0.7, 0.1), (0.7, 0.8), (9, 2)):
        spot = blob(rng, (x + dx * size, y - dy * size), (0.13 * size, 0.1 * size))
        canvas.polygon(spot, mix(leaves, (190, 214, 120), float(rng.uniform(0.1, 0.35))))


def _stone(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    grey = lit(rng, (142, 140, 136), 0.2)
    canvas.polygon(blob(rng, (x, y - size * 0.25), (size * 0.55, size * 0.36)), darker(grey, 0.35))
    canvas.polygon(blob(rng, (x - size * 0.04, y - size * 0.3), (size * 0.48, size * 0.28)), grey)


def _hay_bale(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    straw = varied(rng, (214, 178, 92), 12)
    canvas.ellipse((x, y - size * 0.5), (size * 0.56, size * 0.52), darker(straw, 0.45))
    for turn in range(5):
        reach = size * (0.52 - 0.1 * turn)
        canvas.ellipse((x, y - size * 0.5), (reach, reach * 0.94), darker(straw, 0.0 if turn % 2 == 0 else 0.2))


def _barrel(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    wood = varied(rng, (138, 92, 56), 20)
    left, right = (
        [(x + side * size * w, y - size * h) for w, h in ((0.3, 0), (0.38, 0.5), (0.3, 1))] for side in (-1, 1)
    )
    canvas.polygon([*left, *reversed(right)], wood)
    for lift in (0.15, 0.5, 0.85):
        canvas.stroke(
            np.array([[x - size * 0.34, y - size * lift], [x + size * 0.34, y - size * lift]]),
            (size * 0.035, size * 0.035),
            (70, 68, 70),
        )
    canvas.ellipse((x, y - size), (size * 0.3, size * 0.09), darker(wood, 0.4))


def _milk_can(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    steel = varied(rng, (178, 186, 194), 12)
    body = np.array([[x, y - size * 0.24], [x, y - size * 0.5], [x, y - size * 0.72], [x, y - size * 0.88]])
    for grow, shade in ((0.03, 0.5), (0.0, 0.0)):
        canvas.stroke(body, [size * (r + grow) for r in (0.26, 0.26, 0.14, 0.14)], darker(steel, shade))
    shine = np.array([[x - size * 0.12, y - size * 0.24], [x - size * 0.12, y - size * 0.5]])
    canvas.stroke(shine, (size * 0.04, size * 0.04), (232, 238, 242))
    canvas.ellipse((x, y - size * 0.98), (size * 0.22, size * 0.07), darker(steel, 0.3))


def _trestle(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    """Draw a wooden trestle: four legs and a back, the shape most easily taken for an animal."""
    wood = varied(rng, (168, 120, 72), 24)
    legs = ((-0.5, -0.4, 0.12, 0.55), (0.6, 0.5, 0.12, 0.55), (-0.65, -0.5, 0.0, 0.15), (0.5, 0.4, 0.0, 0.15))
    for foot, top, lift, shade in legs:
        leg = np.array([[x + foot * size, y - lift * size], [x + top * size, y - size * 0.75]])
        canvas.stroke(leg, (size * 0.05, size * 0.05), darker(wood, shade))
    beam = np.array([[x - size * 0.7, y - size * 0.78], [x + size * 0.7, y - size * 0.78]])
    canvas.stroke(beam, (size * 0.09, size * 0.09), wood)


def _fence(canvas: Canvas, rng: Rng, y: float, height: float, colour: Rgb) -> None:
    """Draw a fence across the whole picture that stands at `y`."""
    width = canvas.size_wh[0]
    thick, gap = height * 0.075, height * rng.uniform(1.1, 1.7)
    for lift in (0.45, 0.85):
        rail = np.array([[-5, y - height * lift], [width + 5, y - height * lift + rng.uniform(-3, 3)]])
        canvas.stroke(rail, (thick * 1.25, thick * 1.25), darker(colour, 0.5))
        canvas.stroke(rail, (thick, thick), colour)
    for x in np.arange(rng.uniform(0, gap), width, gap):
        post = np.array([[x, y], [x + rng.uniform(-2, 2), y - height]])
        canvas.stroke(post, (thick * 1.6, thick * 1.5), darker(colour, 0.5))
        canvas.stroke(post, (thick * 1.35, thick * 1.25), lit(rng, colour, 0.08))


_SKIES: Final[tuple[tuple[Rgb, Rgb], ...]] = (
    ((122, 178, 226), (212, 232, 244)),
    ((170, 186, 200), (222, 226, 228)),
    ((136, 150, 204), (250, 208, 160)),
)
_MEADOWS: Final[tuple[tuple[Rgb, Rgb], ...]] = (
    ((150, 184, 98), (94, 142, 66)),
    ((178, 184, 104), (132, 142, 70)),
    ((126, 168, 104), (70, 122, 72)),
)
_FENCE_WOOD: Final[tuple[Rgb, ...]] = ((152, 118, 86), (206, 198, 186), (122, 104, 92))


def _pasture(canvas: Canvas, rng: Rng) -> float:
    """Draw sky, hills and meadow; return the row where the ground begins, pixels."""
    width, height = canvas.size_wh
    horizon = height * rng.uniform(0.28, 0.42)
    sky, meadow = (choices[int(rng.integers(len(choices)))] for choices in (_SKIES, _MEADOWS))
    _gradient(canvas, 0, horizon + 2, *sky)
    _clouds(canvas, rng, horizon)
    _hills(canvas, rng, horizon, darker(meadow[1], 0.1), sky[1])
    for x in rng.uniform(0, width, int(rng.integers(0, 6))):
        _tree(canvas, rng, x, horizon + 2, height * rng.uniform(0.06, 0.13))
    _gradient(canvas, horizon, height, *meadow)
    _tufts(canvas, rng, horizon, height, colour=darker(meadow[1], 0.18), count=70)
    if rng.random() < 0.5:
        wood = _FENCE_WOOD[int(rng.integers(len(_FENCE_WOOD)))]
        _fence(canvas, rng, horizon + height * 0.09, height * rng.uniform(0.1, 0.15), wood)
    for x, y in rng.uniform((0, horizon + 6), (width, height), (int(rng.integers(0, 26)), 2)):
        size = 0.0035 * width
        canvas.ellipse((x, y), (size * 1.6, size), varied(rng, (240, 222, 120), 14))
    return horizon


def _barn(canvas: Canvas, rng: Rng) -> float:
    """Draw a wall of boards and a floor with straw; return the row where the floor begins."""
    width, height = canvas.size_wh
    floor = height * rng.uniform(0.38, 0.52)
    wood = varied(rng, ((136, 96, 70), (120, 102, 88), (146, 82, 66))[int(rng.integers(3))], 10)
    board = width * rng.uniform(0.05, 0.09)
    for x in np.arange(-board, width, board):
        canvas.polygon([(x, 0), (x + board, 0), (x + board, floor), (x, floor)], lit(rng, wood, 0.12))
        canvas.polygon([(x, 0), (x + 0.8, 0), (x + 0.8, floor), (x, floor)], darker(wood, 0.45))
    for half in range(int(rng.integers(0, 3))):
        _window(canvas, (0.5 * half + rng.uniform(0.12, 0.38)) * width, floor * 0.36, height * 0.1)
    beam = floor * rng.uniform(0.06, 0.12)
    canvas.polygon([(0, 0), (width, 0), (width, beam), (0, beam)], darker(wood, 0.35))
    earth = varied(rng, (178, 150, 112), 12)
    _gradient(canvas, floor, height, darker(earth, 0.25), earth)
    _tufts(canvas, rng, floor + 4, height, colour=(216, 186, 110), count=90)
    return floor


def _window(canvas: Canvas, x: float, y: float, size: float) -> None:
    def pane(centre: Xy, half: tuple[float, float], colour: Rgb) -> None:
        (x1, y1), (x2, y2) = corners_of(centre, half)
        canvas.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour)

    pane((x, y), (size, size * 0.8), (88, 66, 52))
    for dx in (-0.47, 0.47):
        for dy in (-0.37, 0.37):
            pane((x + dx * size, y + dy * size), (size * 0.39, size * 0.30), (206, 226, 238))


_BACKDROPS: Final = {"pasture": _pasture, "barn": _barn}
_PROPS: Final = {
    "pasture": (_bush, _stone, _hay_bale, _trestle, _stone, _bush, _milk_can),
    "barn": (_hay_bale, _barrel, _milk_can, _trestle, _hay_bale),
}
_SCREENS: Final = {"pasture": (_bush, _bush, _stone), "barn": (_hay_bale, _barrel, _milk_can)}
