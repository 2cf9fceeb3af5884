"""A drawn film of the demo's cows, with the truth of who is where: they walk, cross, leave, and come back.

Everything follows from the seed and the number of the frame, so that any frame can be drawn by itself.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keypipe.demo.animal import KEYPOINT_NAMES, AnimalPainter, View, walk
from keypipe.demo.canvas import Canvas
from keypipe.demo.places import PLACES, draw_backdrop, strew
from keypipe.keypoints.boxes import Box, box_around

SHOWN_SHARE = 0.3
"""So much of an animal's box lies in the picture, or nobody is expected to find it."""
_MARGIN = 0.09  # of a box around the keypoints, which the belly and the muzzle exceed


@dataclass(frozen=True)
class Cow:
    """An animal at one moment.

    Attributes:
        identity: number from 0, the same throughout the film.
        box_xyxy: pixels, clipped to the picture.
        points_px: float64 (n_keypoints, 2), pixels, in or out of the picture.
        depth: the row of its feet; who has more of it stands before the others.
    """

    identity: int
    box_xyxy: Box
    points_px: NDArray[np.float64]
    depth: float


class Film:
    """Animals on their ways."""

    def __init__(self, seed: int, n_cows: int = 4, size_wh: tuple[int, int] = (640, 360), fps: float = 25.0) -> None:
        self.size_wh, self.fps = size_wh, fps
        rng = np.random.default_rng([seed, 7])
        width, height = size_wh
        self._seed = seed
        self._canvas = Canvas(size_wh)
        ground = draw_backdrop(self._canvas, rng, PLACES[seed % 2])
        strew(self._canvas, rng, PLACES[seed % 2], ground, 3)
        self._ways = [
            {
                "period_s": rng.uniform(14, 40),
                "phase": rng.uniform(0, 2 * math.pi),
                # Some turn within the picture, others leave it for a while.
                "reach": width * rng.uniform(0.3, 0.8),
                "feet": height * rng.uniform(0.62, 0.95),
                "sway": height * rng.uniform(0.0, 0.05),
                "unit": min(width, 4 / 3 * height) * rng.uniform(0.17, 0.25),
                "beat": rng.uniform(0, 2 * math.pi),
            }
            for _ in range(n_cows)
        ]
        self._still = [
            AnimalPainter(Canvas((32, 32)), np.random.default_rng([seed, 11, cow]), self._view(cow, 0.0))
            for cow in range(n_cows)
        ]

    def cows(self, seconds: float) -> list[Cow]:
        """Return who is in the picture, by identity."""
        width, height = self.size_wh
        shown: list[Cow] = []
        for identity in range(len(self._ways)):
            painter = self._pose(identity, seconds, None)
            points = np.array(list(painter.keypoints_px().values()))
            box = box_around([(x, y) for x, y in points.tolist()], _MARGIN)
            if box is None:
                continue
            clipped = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
            area = (box[2] - box[0]) * (box[3] - box[1])
            inside = max(0.0, clipped[2] - clipped[0]) * max(0.0, clipped[3] - clipped[1])
            if inside >= SHOWN_SHARE * area:
                shown.append(Cow(identity, clipped, points, painter.view.feet_px[1]))
        return shown

    def draw(self, seconds: float) -> NDArray[np.uint8]:
        """Draw a moment, uint8 (height, width, 3), RGB."""
        canvas = Canvas(self.size_wh)
        canvas.colours, canvas.layers = self._canvas.colours.copy(), self._canvas.layers.copy()
        canvas.layer = self._canvas.layer
        painters = [self._pose(identity, seconds, canvas) for identity in range(len(self._ways))]
        for painter in sorted(painters, key=lambda item: item.view.feet_px[1]):
            painter.paint()
        return canvas.finished()

    def _view(self, identity: int, seconds: float) -> View:
        way = self._ways[identity]
        angle = 2 * math.pi * seconds / way["period_s"] + way["phase"]
        x = self.size_wh[0] / 2 + way["reach"] * math.sin(angle)
        y = way["feet"] + way["sway"] * math.sin(1.7 * angle)
        facing = 1 if math.cos(angle) >= 0 else -1
        return View(facing, 0.25, 0.25, way["unit"], (x, y))

    def _pose(self, identity: int, seconds: float, canvas: Canvas | None) -> AnimalPainter:
        """Return an animal as it stands at a moment; it has the same coat in every frame."""
        way, view = self._ways[identity], self._view(identity, seconds)
        painter = copy.copy(self._still[identity])
        if canvas is not None:
            painter = AnimalPainter(canvas, np.random.default_rng([self._seed, 11, identity]), view)
        painter.view = view
        speed = way["reach"] * 2 * math.pi / way["period_s"] * abs(math.cos(2 * math.pi * seconds / way["period_s"]))
        steps = 2 * math.pi * way["reach"] / (0.9 * way["unit"]) * math.sin(2 * math.pi * seconds / way["period_s"])
        stride = min(0.4, 0.6 * speed / way["unit"])
        joints = {**painter.pose.joints, **walk(stride, steps + way["beat"])}
        painter.pose = replace(painter.pose, joints=joints)
        return painter


__all__ = ["KEYPOINT_NAMES", "SHOWN_SHARE", "Cow", "Film"]
