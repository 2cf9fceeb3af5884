"""A drawn dataset that no default was chosen by: beetles from above, turned any way, on soil, leaves and paper.

Other than the demo's cows they have no upright: left and right follow from where the head is, and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from keypipe.demo.canvas import Canvas, Rgb, Rng, Vec, blob, darker, lit, mix, varied
from keypipe.demo.scene import Animal, Keypoint, Scene, to_labelme

CLASS_NAME: Final = "beetle"
LEGS: Final = {
    "front": ((0.20, 0.10), (0.33, 0.30), (0.50, 0.38)),
    "mid": ((0.06, 0.13), (0.09, 0.38), (0.02, 0.54)),
    "hind": ((-0.08, 0.13), (-0.22, 0.37), (-0.45, 0.47)),
}
"""Hip, knee and foot of the left legs: forwards and to the left, body lengths."""
ANTENNA: Final = ((0.44, 0.05), (0.58, 0.17), (0.70, 0.24))
KEYPOINT_NAMES: Final = (
    "head",
    "tail",
    *(f"{side}_antenna" for side in ("left", "right")),
    *(f"{side}_{leg}_foot" for leg in LEGS for side in ("left", "right")),
)
SCHEMA: Final[dict[str, Any]] = {
    "classes": {
        CLASS_NAME: {
            "keypoints": list(KEYPOINT_NAMES),
            "skeleton": [
                ["head", "tail"],
                ["head", "left_antenna"],
                ["head", "right_antenna"],
                *(["head", f"{side}_{leg}_foot"] for leg in LEGS for side in ("left", "right")),
            ],
            "pairs": "auto",
        }
    }
}
GROUNDS: Final[dict[str, tuple[Rgb, Rgb]]] = {  # ground, and what lies on it
    "soil": ((112, 88, 66), (78, 62, 48)),
    "leaves": ((86, 108, 58), (136, 120, 62)),
    "paper": ((222, 216, 204), (190, 184, 176)),
}
COLOURS: Final[tuple[Rgb, ...]] = (
    (40, 36, 40),
    (120, 40, 34),
    (38, 84, 62),
    (44, 56, 96),
    (104, 74, 42),
    (176, 120, 40),
)
NEGATIVE_EVERY: Final = 12


class Beetle:
    """One beetle: where it is, how it is turned, and how it holds its legs."""

    def __init__(self, rng: Rng, size_wh: tuple[int, int]) -> None:
        width, height = size_wh
        self.rng = rng
        self.length_px = float(min(size_wh) * rng.uniform(0.2, 0.42))
        self.centre = np.array([rng.uniform(0.08, 0.92) * width, rng.uniform(0.1, 0.9) * height])
        self.angle = float(rng.uniform(0, 2 * math.pi))
        self.colour = lit(rng, COLOURS[int(rng.integers(len(COLOURS)))], 0.2)
        self.legs = {
            f"{side}_{leg}_foot": self._limb(joints, 0.07, side) for leg, joints in LEGS.items() for side in _SIDES
        }
        self.antennae = {f"{side}_antenna": self._limb(ANTENNA, 0.05, side) for side in _SIDES}
        self.layer_of: dict[str, int] = {}
        self.bounds: list[Vec] = []

    def _limb(self, joints: Sequence[tuple[float, float]], loose: float, side: str) -> Vec:
        """Bend a limb: each joint moves more than the one before."""
        bent = np.array(joints) + np.cumsum(self.rng.uniform(-loose, loose, (len(joints), 2)) * [[0], [1], [1]], axis=0)
        return self.project(bent * (1, 1 if side == "left" else -1))

    def project(self, points: Any) -> Vec:
        """Return pixels of points that are given forwards and to the left, body lengths, (n, 2)."""
        forwards, left = np.asarray(points, dtype=np.float64).T[:, :, None]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        placed: Vec = self.centre + self.length_px * (forwards * (cos, sin) + left * (sin, -cos))
        return placed

    def keypoints_px(self) -> dict[str, tuple[float, float]]:
        """Return where each keypoint lies, in or out of the picture."""
        head, tail = self.project([(0.47, 0.0), (-0.5, 0.0)])
        ends = {name: limb[-1] for name, limb in (self.antennae | self.legs).items()}
        return {name: (float(x), float(y)) for name, (x, y) in ({"head": head, "tail": tail} | ends).items()}

    def paint(self, canvas: Canvas) -> None:
        """Draw it: limbs, then the body over them."""
        soft = canvas.blobs([blob(self.rng, self.centre + 3, (0.32 * self.length_px,) * 2, 0.1)], blur_px=3.0)
        canvas.tint((20, 20, 20), soft, 0.35)
        limbs = canvas.next_layer()
        for limb, thick in [*((limb, 0.028) for limb in self.legs.values()),
                            *((limb, 0.014) for limb in self.antennae.values())]:  # fmt: skip
            self._stroke(canvas, limb, (1.4 * thick, thick, 0.6 * thick), darker(self.colour, 0.4))
        self.layer_of = dict.fromkeys([*self.legs, *self.antennae], limbs)
        self.layer_of |= dict.fromkeys(["head", "tail"], canvas.next_layer())
        self._stroke(canvas, self.project([(0.10, 0), (-0.10, 0), (-0.40, 0)]), (0.16, 0.20, 0.10), self.colour)
        self._stroke(canvas, self.project([(0.26, 0), (0.20, 0)]), (0.12, 0.15), darker(self.colour, 0.25))
        self._stroke(canvas, self.project([(0.40, 0), (0.36, 0)]), (0.07, 0.09), darker(self.colour, 0.45))
        seam = self.project([(0.08, 0), (-0.49, 0)])
        canvas.stroke(seam, (0.008 * self.length_px,) * 2, darker(self.colour, 0.6))
        if self.rng.random() < 0.5:
            spots = [(f, side * left) for f, left in ((-0.02, 0.10), (-0.24, 0.09)) for side in (1, -1)]
            for spot in self.project(spots):
                canvas.stroke(spot[None], (0.035 * self.length_px,), mix(self.colour, (235, 215, 170), 0.7))

    def _stroke(self, canvas: Canvas, points: Vec, radii: Sequence[float], colour: Rgb) -> None:
        scaled = [radius * self.length_px for radius in radii]
        canvas.stroke(points, scaled, darker(colour, 0.5), grow=max(0.5, 0.008 * self.length_px))
        canvas.stroke(points, scaled, colour)
        reach = np.array(scaled)[:, None]
        self.bounds += [points - reach, points + reach]

    def bounds_xyxy_px(self) -> tuple[float, float, float, float]:
        """Return the tight bounds of what was drawn, unclipped."""
        corners = np.concatenate([*self.bounds, list(self.keypoints_px().values())])
        (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
        return float(x1), float(y1), float(x2), float(y2)


_SIDES = ("left", "right")


def draw_beetles(rng: Rng, n_beetles: int, size_wh: tuple[int, int] = (320, 240)) -> Scene:
    """Draw one picture.

    Args:
        rng: the only source of chance.
        n_beetles: how many; one that would lie on another is left out.
        size_wh: image (width, height), pixels.
    """
    canvas = Canvas(size_wh)
    width, height = size_wh
    place = sorted(GROUNDS)[int(rng.integers(len(GROUNDS)))]
    ground, litter = (lit(rng, colour, 0.15) for colour in GROUNDS[place])
    canvas.polygon([(0, 0), (width, 0), (width, height), (0, height)], ground)
    for _ in range(int(rng.integers(10, 50))):
        _lay(canvas, rng, varied(rng, litter, 22), 0.08)
    beetles: list[Beetle] = []
    for _ in range(n_beetles):
        new = Beetle(rng, size_wh)
        if all(np.hypot(*(new.centre - old.centre)) > 0.55 * (new.length_px + old.length_px) for old in beetles):
            new.paint(canvas)
            beetles.append(new)
    canvas.next_layer()
    for _ in range(int(rng.integers(0, 5))):  # blades and twigs that lie over them
        _lay(canvas, rng, varied(rng, litter, 30), 0.3)
    return Scene(canvas.finished(), tuple(_to_animal(canvas, beetle) for beetle in beetles), place, grouped=True)


def _lay(canvas: Canvas, rng: Rng, colour: Rgb, length: float) -> None:
    """Lay a leaf, a crumb or a twig somewhere; ``length`` is the longest, as a share of the picture's height."""
    width, height = canvas.size_wh
    start = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    angle, reach = rng.uniform(0, 2 * math.pi), height * length * rng.uniform(0.3, 1.0)
    line = start + np.array([[0.0], [0.5], [1.0]]) * reach * np.array([[math.cos(angle), math.sin(angle)]])
    line[1] += rng.uniform(-0.1, 0.1, 2) * reach
    canvas.stroke(line, reach * np.array([0.03, rng.uniform(0.03, 0.16), 0.02]), colour)


def _to_animal(canvas: Canvas, beetle: Beetle) -> Animal:
    """Read a beetle off the finished canvas; points outside the picture are left out."""
    width, height = canvas.size_wh
    x1, y1, x2, y2 = beetle.bounds_xyxy_px()
    points = beetle.keypoints_px()
    keypoints = tuple(
        Keypoint(name, points[name], canvas.covered(points[name], beetle.layer_of[name]))
        for name in KEYPOINT_NAMES
        if 0 <= points[name][0] < width and 0 <= points[name][1] < height
    )
    return Animal(CLASS_NAME, (max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)), keypoints)


def write_beetles(folder: Path, n_images: int = 240, seed: int = 12) -> None:
    """Write JPEG images and labelme JSON files; image k is the same whatever ``n_images`` is."""
    folder.mkdir(parents=True)
    for index in range(n_images):
        rng = np.random.default_rng([seed, index])
        count = 0 if index % NEGATIVE_EVERY == NEGATIVE_EVERY // 2 else int(rng.integers(1, 4))
        scene = draw_beetles(rng, count)
        path = folder / f"{CLASS_NAME}_{index:04d}.jpg"
        Image.fromarray(scene.image).save(path, quality=90)
        text = json.dumps(to_labelme(scene, path.name), indent=2)
        path.with_suffix(".json").write_text(text, encoding="utf-8")
