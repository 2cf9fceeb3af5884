"""The demo dataset: cows on a pasture and in a barn, drawn by a seeded program.

The animal is a small 3D skeleton that is posed, turned and projected, so left and right in the
picture are what they are in reality: an animal that faces left shows its left side, and its right
legs are drawn behind and darker. What is written is what labelme 6.3.1 itself writes.

The drawing uses Pillow and integer seeds only; coordinates are rounded before they are drawn, so the
same seed gives the same bytes on every machine with the same Pillow.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from keypipe.errors import PoseError
from keypipe.labelme import LabelmeShape, to_document

Rng = np.random.Generator
Rgb = tuple[int, int, int]
Vec = NDArray[np.float64]
Xy = Sequence[float] | Vec
Points = Sequence[Xy] | Vec
Stroke = tuple[Vec, tuple[float, ...]]  # centres (n, 2) and as many radii, pixels

CLASS_NAME: Final = "cow"
KEYPOINT_NAMES: Final = (
    "nose",
    "left_ear",
    "right_ear",
    "withers",
    "tail_base",
    "left_front_knee",
    "right_front_knee",
    "left_front_hoof",
    "right_front_hoof",
    "left_hind_knee",
    "right_hind_knee",
    "left_hind_hoof",
    "right_hind_hoof",
)
SCHEMA: Final[dict[str, Any]] = {
    "classes": {
        CLASS_NAME: {
            "keypoints": list(KEYPOINT_NAMES),
            "skeleton": [
                ["nose", "left_ear"],
                ["nose", "right_ear"],
                ["left_ear", "withers"],
                ["right_ear", "withers"],
                ["withers", "tail_base"],
                ["withers", "left_front_knee"],
                ["left_front_knee", "left_front_hoof"],
                ["withers", "right_front_knee"],
                ["right_front_knee", "right_front_hoof"],
                ["tail_base", "left_hind_knee"],
                ["left_hind_knee", "left_hind_hoof"],
                ["tail_base", "right_hind_knee"],
                ["right_hind_knee", "right_hind_hoof"],
            ],
            "pairs": "auto",
        }
    },
}

PLACES: Final = ("pasture", "barn")
JPEG_QUALITY: Final = 90
SUPERSAMPLING: Final = 3
MIN_SIDE_PX: Final = 32
NEGATIVE_EVERY: Final = 11  # one image in so many shows no animal; no multiple of 3, so every place has some
GROUPED_SHARE: Final = 0.25  # of the images that would do without; those with overlaps always are

COATS: Final[tuple[tuple[Rgb, Rgb], ...]] = (  # coat, patches
    ((242, 238, 230), (46, 42, 44)),
    ((240, 234, 222), (128, 74, 44)),
    ((158, 96, 56), (238, 228, 212)),
    ((196, 146, 92), (232, 214, 184)),
    ((66, 58, 58), (232, 228, 222)),
    ((140, 128, 120), (226, 222, 216)),
)
PINK: Final[Rgb] = (232, 172, 160)
HOOF: Final[Rgb] = (62, 52, 48)
HORN: Final[Rgb] = (226, 212, 178)
EYE_WHITE: Final[Rgb] = (250, 248, 244)
EYE: Final[Rgb] = (30, 24, 24)
BELL: Final[Rgb] = (222, 178, 60)
EAR_TAG: Final[Rgb] = (246, 204, 52)


@dataclass(frozen=True)
class Keypoint:
    """A named point of an animal; `xy_px` from the image's top left corner."""

    name: str
    xy_px: tuple[float, float]
    occluded: bool


@dataclass(frozen=True)
class Animal:
    """One drawn animal: its box (x1, y1, x2, y2), clipped to the image, and the keypoints inside it."""

    class_name: str
    box_xyxy_px: tuple[float, float, float, float]
    keypoints: tuple[Keypoint, ...]


@dataclass(frozen=True)
class Scene:
    """A drawn picture and what is in it.

    Attributes:
        image: uint8 (height, width, 3), RGB.
        animals: from the farthest to the nearest.
        place: one of `PLACES`.
        grouped: whether its annotation joins the points to their box by `group_id`.
    """

    image: NDArray[np.uint8]
    animals: tuple[Animal, ...]
    place: str
    grouped: bool

    @property
    def size_wh(self) -> tuple[int, int]:
        """Image (width, height), pixels."""
        return self.image.shape[1], self.image.shape[0]


# ---------------------------------------------------------------------------------------- canvas


def _mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """Blend two colours; `share` is that of the second."""
    r, g, b = (round(a + (c - a) * share) for a, c in zip(first, second, strict=True))
    return r, g, b


def _darker(colour: Rgb, share: float) -> Rgb:
    return _mix(colour, (24, 20, 30), share)


def _lit(rng: Rng, colour: Rgb, amount: float) -> Rgb:
    """Make a colour a little lighter or darker."""
    share = float(rng.uniform(-amount, amount))
    return _mix(colour, (255, 250, 240), share) if share > 0 else _darker(colour, -share)


def _varied(rng: Rng, colour: Rgb, amount: int) -> Rgb:
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
        self._fill("ellipse", self._grid(_corners(centre, radii)), colour)

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


def _corners(centre: Xy, radii: tuple[float, float]) -> list[tuple[float, float]]:
    (x, y), (rx, ry) = centre, radii
    return [(x - rx, y - ry), (x + rx, y + ry)]


def _stroke_pieces(points: Vec, radii: Sequence[float]) -> Iterator[tuple[str, list[Any]]]:
    """Yield a stroke as discs and the quadrilaterals that join them."""
    for centre, radius in zip(points, radii, strict=True):
        yield "ellipse", _corners(centre, (radius, radius))
    discs = zip(points, radii, strict=True)
    for (a, ra), (b, rb) in pairwise(discs):
        length = math.hypot(*(b - a))
        if length > 0:
            side = np.array([a[1] - b[1], b[0] - a[0]]) / length
            yield "polygon", [a + side * ra, b + side * rb, b - side * rb, a - side * ra]


def _blob(rng: Rng, centre: Xy, radii: tuple[float, float], wobble: float = 0.25) -> Vec:
    """Return a rounded, irregular outline around a centre, (28, 2)."""
    phases, sizes = rng.uniform(0, 2 * math.pi, 3), rng.uniform(0, wobble / 2, 3)
    outline = np.empty((28, 2))
    for step in range(28):
        angle = 2 * math.pi * step / 28
        reach = 1 + sum(s * math.sin(n * angle + p) for n, s, p in zip((2, 3, 5), sizes, phases, strict=True))
        outline[step] = math.cos(angle) * reach, math.sin(angle) * reach
    placed: Vec = outline * radii + np.array(centre)
    return placed


# ------------------------------------------------------------------------------------ the animal
# Body frame: x forward, y to the animal's left, z up; the unit is the length of the trunk and the
# ground is z = 0.


@dataclass(frozen=True)
class View:
    """How an animal stands before the camera.

    Attributes:
        facing: 1 for right, -1 for left.
        turn: heading out of the picture plane towards the camera, radians.
        tilt: how far the camera looks down, radians.
        unit_px: length of the trunk, pixels.
        feet_px: where the point on the ground under the trunk's middle lies in the picture.
    """

    facing: int
    turn: float
    tilt: float
    unit_px: float
    feet_px: tuple[float, float]

    @property
    def near(self) -> int:
        """The side that is seen: 1 for the animal's left (it faces left), -1 for its right."""
        return -self.facing

    def project(self, points: Points) -> Vec:
        """Project body-frame points (n, 3) to pixels (n, 2)."""
        x, y, z = np.asarray(points, dtype=np.float64).reshape(-1, 3).T
        across = self.facing * x * math.cos(self.turn) + y * math.sin(self.turn)
        away = -x * math.sin(self.turn) + self.facing * y * math.cos(self.turn)
        up = z * math.cos(self.tilt) + away * math.sin(self.tilt)
        pixels = np.stack([across, -up], axis=1) * self.unit_px + np.array(self.feet_px)
        rounded: Vec = np.round(pixels, 2)
        return rounded

    def frontality(self, direction: Vec) -> float:
        """Tell how much a body-frame unit vector points at the camera: 1 straight at it, 0 across."""
        x, y, _ = direction
        return float(x * math.sin(self.turn) - self.facing * y * math.cos(self.turn))


@dataclass(frozen=True)
class Pose:
    """Joints in the body frame.

    Attributes:
        joints: name -> (x, y, z); holds the keypoints, `head` and the legs' upper ends.
        tail: (n, 3), from the base to the tip.
        face: unit vector from the head's base along the face.
        sideways: unit vector to the left of the head.
    """

    joints: Mapping[str, Vec]
    tail: Vec
    face: Vec
    sideways: Vec


def _legs(rng: Rng) -> dict[str, Vec]:
    """Pose the four legs: a walk with diagonal pairs in step, plus some freedom for each leg."""
    stride, phase = rng.uniform(0.05, 0.45), rng.uniform(0, 2 * math.pi)
    joints: dict[str, Vec] = {}
    for end, x, top, shift in (("front", 0.36, 0.62, 0.0), ("hind", -0.40, 0.66, math.pi)):
        for side, y, beat in (("left", 0.17, 0.0), ("right", -0.17, math.pi)):
            step = phase + shift + beat
            swing = stride * math.sin(step) + rng.uniform(-0.08, 0.08)
            lift = max(0.0, math.cos(step)) * stride * 1.6
            rest = -0.12 if end == "hind" else 0.03
            bend = lift if end == "front" else -lift * 0.6 - 0.24
            upper, lower = swing + rest, swing + rest - bend
            knee = np.array([x + 0.33 * math.sin(upper), y, top - 0.33 * math.cos(upper)])
            hoof = knee + 0.30 * np.array([math.sin(lower), 0.0, -math.cos(lower)])
            joints |= {f"{side}_{end}_top": np.array([x, y, top]), f"{side}_{end}_knee": knee}
            joints[f"{side}_{end}_hoof"] = np.array([hoof[0], hoof[1], max(hoof[2], 0.02)])
    return joints


def _head(rng: Rng, near: int) -> tuple[dict[str, Vec], Vec, Vec]:
    """Pose neck and head, from grazing to looking up; the head turns towards the camera."""
    grazing = rng.random() < 0.3
    lift = rng.uniform(-0.95, -0.6) if grazing else rng.uniform(-0.15, 0.85)
    nod = rng.uniform(-1.15, -0.7) if grazing else rng.uniform(-0.75, -0.1)
    look = rng.uniform(0.15, 0.75) * near
    base = np.array([0.40, 0.0, 0.80])
    neck = np.array([math.cos(lift), 0.3 * math.sin(look), math.sin(lift)])
    head = base + 0.52 * neck
    face = np.array([math.cos(nod) * math.cos(look), math.cos(nod) * math.sin(look), math.sin(nod)])
    sideways = np.array([-math.sin(look), math.cos(look), 0.0])
    crown = np.cross(face, sideways)
    joints = {"head": head, "neck": base, "nose": head + 0.36 * face}
    for side, sign in (("left", 1), ("right", -1)):
        droop = rng.uniform(-0.02, 0.07)
        joints[f"{side}_ear"] = head + sign * 0.25 * sideways + droop * crown - 0.03 * face
    return joints, face, sideways


def _pose(rng: Rng, near: int) -> Pose:
    """Draw a random pose; `near` is the side towards the camera, 1 for left."""
    head, face, sideways = _head(rng, near)
    joints = {"withers": np.array([0.38, 0.0, 0.99]), "tail_base": np.array([-0.60, 0.0, 0.93])}
    swish = rng.uniform(-0.12, 0.16)
    tail = joints["tail_base"] + np.array(
        [[0, 0, 0], [-0.09, swish * 0.3, -0.08], [-0.12, swish * 0.8, -0.3], [-0.10 - abs(swish), swish, -0.52]]
    )
    return Pose(joints | head | _legs(rng), tail, face, sideways)


@dataclass(frozen=True)
class Coat:
    """Colours and marks of one animal; patches are (x, z, radius) on the trunk, body frame."""

    base: Rgb
    patch: Rgb
    patches: tuple[tuple[float, float, float], ...]
    blaze: bool
    horns: bool
    collar: Rgb | None
    tag: bool


def _coat(rng: Rng) -> Coat:
    base, patch = COATS[int(rng.integers(len(COATS)))]
    count = int(rng.integers(0, 6))
    patches = tuple(
        (float(rng.uniform(-0.6, 0.6)), float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.09, 0.24)))
        for _ in range(count)
    )
    collars: tuple[Rgb | None, ...] = (None, None, (190, 44, 48), (44, 92, 160))
    return Coat(
        base=_lit(rng, base, 0.08),
        patch=_lit(rng, patch, 0.08),
        patches=patches,
        blaze=bool(rng.random() < 0.5),
        horns=bool(rng.random() < 0.6),
        collar=collars[int(rng.integers(len(collars)))],
        tag=bool(rng.random() < 0.5),
    )


class _AnimalPainter:
    """Draws one animal onto a canvas and keeps the layer that each keypoint belongs to."""

    def __init__(self, canvas: Canvas, rng: Rng, view: View) -> None:
        self.canvas, self.rng, self.view = canvas, rng, view
        self.pose, self.coat = _pose(rng, view.near), _coat(rng)
        self.line = max(0.6, view.unit_px * 0.012)
        self.layer_of: dict[str, int] = {}
        self.bounds: list[Vec] = []

    def paint(self) -> None:
        """Draw all parts from the far to the near ones."""
        self._shadow()
        near, far = ("left", "right") if self.view.near > 0 else ("right", "left")
        self._tail()
        for end in ("hind", "front"):
            self._leg(far, end, near=False)
        self._ear(far, shade=0.3)
        trunk = self._trunk()
        skin = [*trunk, *(self._leg(near, end, near=True) for end in ("hind", "front")), self._neck()]
        self._patches(self.canvas.mask(skin))
        self._shading(ImageChops.subtract(self.canvas.mask(trunk), self.canvas.mask(skin[len(trunk) :])))
        self._collar(skin[-1][0])
        self._head()
        self._ear(near, shade=0.1)

    def keypoints_px(self) -> dict[str, tuple[float, float]]:
        """Return where each keypoint lies, in or out of the picture."""
        pixels = self.view.project([self.pose.joints[name] for name in KEYPOINT_NAMES])
        return {name: (float(x), float(y)) for name, (x, y) in zip(KEYPOINT_NAMES, pixels, strict=True)}

    def bounds_xyxy_px(self) -> tuple[float, float, float, float]:
        """Return the tight bounds of all that was drawn (without the shadow), unclipped."""
        corners = np.concatenate([*self.bounds, list(self.keypoints_px().values())])
        (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
        return float(x1), float(y1), float(x2), float(y2)

    def _at(self, *points: Xy) -> Vec:
        return self.view.project(np.array(points, dtype=np.float64))

    def _strokes(self, strokes: Sequence[Stroke], colour: Rgb) -> None:
        """Draw strokes in one colour with one common outline."""
        edge = _darker(colour, 0.55)
        for points, radii in strokes:
            self.canvas.stroke(points, radii, edge, grow=self.line)
            reach = np.array(radii)[:, None] + self.line
            self.bounds += [points - reach, points + reach]
        for points, radii in strokes:
            self.canvas.stroke(points, radii, colour)

    def _scaled(self, *radii: float) -> tuple[float, ...]:
        return tuple(r * self.view.unit_px for r in radii)

    def _shadow(self) -> None:
        x, y = self.view.feet_px
        spread = self.view.unit_px * 0.72
        soft = self.canvas.blobs([_blob(self.rng, (x, y), (spread, spread * 0.2), 0.05)], blur_px=2.0)
        self.canvas.tint((30, 34, 30), soft, 0.38)

    def _leg(self, side: str, end: str, near: bool) -> Stroke:
        """Draw a leg with its hoof and return its outline."""
        layer, shade = self.canvas.next_layer(), 0.05 if near else 0.42
        joints = [self.pose.joints[f"{side}_{end}_{part}"] for part in ("top", "knee", "hoof")]
        top, knee, hoof = self.view.project(joints)
        colour = _darker(self.coat.base, shade)
        thick = 0.125 if end == "hind" else 0.10
        limb = (np.stack([top, knee, hoof]), self._scaled(thick, 0.06, 0.042))
        self._strokes([limb], colour)
        if near:
            # The near legs grow out of the trunk: no outline across shoulder and hip.
            root = np.stack([top, top + (knee - top) * 0.3])
            self.canvas.stroke(root, self._scaled(thick, thick * 0.86), colour, grow=1.2 * self.line)
        ankle = hoof + (knee - hoof) * 0.22
        reach = 0.052 * self.view.unit_px
        foot = np.stack([ankle + (hoof - ankle) * 0.55, hoof])
        self.canvas.stroke(foot, self._scaled(0.044, 0.052), _darker(HOOF, shade))
        self.bounds.append(np.stack([hoof - reach, hoof + reach]))
        self.layer_of |= {f"{side}_{end}_knee": layer, f"{side}_{end}_hoof": layer}
        # Without the foot: patches end above the hoof.
        return np.stack([top, knee, ankle]), limb[1]

    def _tail(self) -> None:
        self.canvas.next_layer()
        points = self.view.project(self.pose.tail)
        self._strokes([(points, self._scaled(0.035, 0.028, 0.022, 0.02))], _darker(self.coat.base, 0.12))
        tuft = np.stack([points[-2] * 0.35 + points[-1] * 0.65, points[-1]])
        self._strokes([(tuft, self._scaled(0.03, 0.05))], _darker(self.coat.patch, 0.25))

    def _trunk(self) -> list[Stroke]:
        """Draw the trunk with the udder and return the trunk's outline."""
        layer = self.canvas.next_layer()
        if self.rng.random() < 0.6:
            udder = self._at((-0.22, 0.0, 0.50), (-0.16, 0.0, 0.43))
            self._strokes([(udder, self._scaled(0.10, 0.07))], PINK)
        spine = self._at((0.34, 0, 0.73), (0.02, 0, 0.70), (-0.38, 0, 0.735))
        crest = self._at((0.34, 0, 0.90), (-0.46, 0, 0.86))
        strokes = [
            (spine, self._scaled(0.27, 0.28, 0.255)),
            (crest, self._scaled(0.10, 0.13)),
        ]
        self._strokes(strokes, self.coat.base)
        self.layer_of["tail_base"] = layer
        return strokes

    def _patches(self, mask: Image.Image) -> None:
        side = 0.2 * self.view.near
        outlines = []
        for x, z, radius in self.coat.patches:
            size = radius * self.view.unit_px
            outlines.append(_blob(self.rng, self._at((x, side, z))[0], (size, size * 0.8), 0.45))
        if outlines:
            self.canvas.tint(self.coat.patch, ImageChops.multiply(self.canvas.blobs(outlines), mask))

    def _shading(self, mask: Image.Image) -> None:
        low = self._at((0.45, 0, 0.42), (-0.5, 0, 0.44))
        high = self._at((0.3, 0, 0.97), (-0.4, 0, 0.94))
        unit = self.view.unit_px
        for points, radius, colour, opacity in ((low, 0.13, (20, 16, 40), 0.3), (high, 0.05, (255, 250, 230), 0.22)):
            soft = self.canvas.mask([(points, (radius * unit, radius * unit))])
            soft = soft.filter(ImageFilter.BoxBlur(0.05 * unit * SUPERSAMPLING))
            self.canvas.tint(colour, ImageChops.multiply(soft, mask), opacity)

    def _neck(self) -> Stroke:
        """Draw the neck and return its outline."""
        # It grows out of the trunk and does not hide the withers; the head may.
        self.layer_of["withers"] = self.canvas.next_layer()
        line = self._at(self.pose.joints["neck"], self.pose.joints["head"])
        neck = (line, self._scaled(0.185, 0.115))
        self._strokes([neck], self.coat.base)
        root = np.stack([line[0], line[0] + (line[1] - line[0]) * 0.3])
        self.canvas.stroke(root, self._scaled(0.185, 0.16), self.coat.base, grow=1.2 * self.line)
        return neck

    def _head(self) -> None:
        head, face, unit = self.pose.joints["head"], self.pose.face, self.view.unit_px
        if self.coat.horns:
            self._horns()
        layer = self.canvas.next_layer()
        skull = self._at(head, head + 0.30 * face)
        self._strokes([(skull, self._scaled(0.118, 0.085))], self._face_colour())
        if self.coat.blaze:
            stripe = self._at(head + 0.02 * face, head + 0.26 * face) - np.array([0.0, 0.03 * unit])
            self.canvas.stroke(stripe, self._scaled(0.03, 0.045), _mix((248, 244, 238), self.coat.base, 0.1))
        self._muzzle()
        self._eyes()
        self.layer_of["nose"] = layer

    def _face_colour(self) -> Rgb:
        return self.coat.patch if len(self.coat.patches) > 2 else self.coat.base

    def _muzzle(self) -> None:
        face, head = self.pose.face, self.pose.joints["head"]
        snout = self._at(head + 0.29 * face, head + 0.34 * face)
        self._strokes([(snout, self._scaled(0.086, 0.08))], PINK)
        for sign in (1, -1):
            nostril = self._at(head + 0.375 * face + sign * 0.035 * self.pose.sideways)[0]
            size = 0.016 * self.view.unit_px
            self.canvas.ellipse(nostril, (size, size), _darker(PINK, 0.6))

    def _eyes(self) -> None:
        face, head, sideways = self.pose.face, self.pose.joints["head"], self.pose.sideways
        crown = np.cross(face, sideways)
        unit = self.view.unit_px
        both = self.view.frontality(face) > 0.6
        for side in (-self.view.near, self.view.near) if both else (self.view.near,):
            eye = self._at(head + 0.10 * face + 0.07 * side * sideways + 0.03 * crown)[0]
            self.canvas.ellipse(eye, (0.032 * unit, 0.034 * unit), EYE_WHITE)
            self.canvas.ellipse(eye, (0.022 * unit, 0.026 * unit), EYE)

    def _horns(self) -> None:
        head, face, sideways = self.pose.joints["head"], self.pose.face, self.pose.sideways
        crown = np.cross(face, sideways)
        for sign in (-self.view.near, self.view.near):
            points = self._at(
                head + sign * 0.07 * sideways + 0.08 * crown,
                head + sign * 0.13 * sideways + 0.15 * crown,
                head + sign * 0.12 * sideways + 0.22 * crown,
            )
            self._strokes([(points, self._scaled(0.032, 0.024, 0.01))], HORN)

    def _collar(self, line: Vec) -> None:
        """Draw the collar with its bell across the neck's line, (2, 2)."""
        if self.coat.collar is None:
            return
        middle, along = line[0] + (line[1] - line[0]) * 0.62, line[1] - line[0]
        reach = 0.15 * self.view.unit_px / max(1e-6, math.hypot(*along))
        across = np.array([-along[1], along[0]]) * (reach if along[0] > 0 else -reach)
        self.canvas.stroke(np.stack([middle - across, middle + across]), self._scaled(0.026, 0.026), self.coat.collar)
        bell = np.array([[0.0, 0.0], [0.0, 0.04 * self.view.unit_px]]) + middle + across
        self.canvas.stroke(bell, self._scaled(0.03, 0.05), BELL)

    def _ear(self, side: str, shade: float) -> None:
        layer = self.canvas.next_layer()
        head, tip = self.pose.joints["head"], self.pose.joints[f"{side}_ear"]
        start = head + (tip - head) * 0.3
        points = self._at(start, start + (tip - start) * 0.5, tip)
        self._strokes([(points, self._scaled(0.035, 0.055, 0.022))], _darker(self._face_colour(), shade))
        inner = np.stack([points[0] * 0.5 + points[1] * 0.5, points[1] * 0.4 + points[2] * 0.6])
        self.canvas.stroke(inner, self._scaled(0.02, 0.022), _darker(PINK, shade))
        if self.coat.tag:
            spot = points[1] * 0.5 + points[2] * 0.5 + np.array([0.0, 0.03 * self.view.unit_px])
            self.canvas.ellipse(spot, (0.026 * self.view.unit_px, 0.03 * self.view.unit_px), EAR_TAG)
        self.layer_of[f"{side}_ear"] = layer


# ---------------------------------------------------------------------------------------- places


def _gradient(canvas: Canvas, top: float, bottom: float, first: Rgb, last: Rgb) -> None:
    """Fill the rows from `top` to `bottom` (pixels) with a vertical gradient."""
    steps, width = 40, canvas.size_wh[0]
    for step in range(steps):
        y = top + (bottom - top) * step / steps
        corners = [(0, y), (width, y), (width, bottom), (0, bottom)]
        canvas.polygon(corners, _mix(first, last, step / (steps - 1)))


def _tufts(canvas: Canvas, rng: Rng, top: float, bottom: float, *, colour: Rgb, count: int) -> None:
    """Strew short blades (grass or straw), longer towards the front."""
    width = canvas.size_wh[0]
    for y in np.sort(rng.uniform(top, bottom, count)):
        x, near = rng.uniform(0, width), (y - top) / max(1.0, bottom - top)
        length = (0.012 + 0.022 * near) * width
        for lean in rng.uniform(-0.6, 0.6, 3):
            tip = (x + lean * length, y - length)
            canvas.polygon([(x - 0.6, y), (x + 0.6, y), tip], _varied(rng, colour, 14))


def _clouds(canvas: Canvas, rng: Rng, horizon: float) -> None:
    width = canvas.size_wh[0]
    for _ in range(int(rng.integers(1, 4))):
        x, y, size = rng.uniform(0, width), rng.uniform(0.1, 0.6) * horizon, rng.uniform(0.03, 0.07) * width
        puffs = [
            _blob(rng, (x + shift * size, y - lift * size), (size, size * 0.5), 0.15)
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
        canvas.polygon([*ridge, (width, horizon + 4), (0, horizon + 4)], _mix(near, far, share))


def _tree(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    trunk = np.array([[x, y], [x, y - size]])
    canvas.stroke(trunk, (size * 0.1, size * 0.07), (98, 74, 56))
    leaves = _varied(rng, (74, 118, 66), 16)
    for dx, dy, reach in ((-0.3, 0.9, 0.4), (0.3, 0.95, 0.42), (0.0, 1.25, 0.45)):
        centre = (x + dx * size, y - dy * size)
        canvas.polygon(_blob(rng, centre, (reach * size, reach * size * 0.9)), leaves)
        light = (centre[0] - 0.1 * size, centre[1] - 0.1 * size)
        canvas.polygon(_blob(rng, light, (reach * size * 0.6, reach * size * 0.5)), _mix(leaves, (200, 220, 130), 0.25))


def _bush(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    leaves = _varied(rng, (70, 116, 58), 18)
    for dx, dy, reach in ((-0.55, 0.25, 0.45), (0.55, 0.25, 0.42), (0.0, 0.42, 0.58)):
        canvas.polygon(_blob(rng, (x + dx * size, y - dy * size), (reach * size, reach * size * 0.8)), leaves)
    for dx, dy in rng.uniform((-0.7, 0.1), (0.7, 0.8), (9, 2)):
        spot = _blob(rng, (x + dx * size, y - dy * size), (0.13 * size, 0.1 * size))
        canvas.polygon(spot, _mix(leaves, (190, 214, 120), float(rng.uniform(0.1, 0.35))))


def _stone(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    grey = _lit(rng, (142, 140, 136), 0.2)
    canvas.polygon(_blob(rng, (x, y - size * 0.25), (size * 0.55, size * 0.36)), _darker(grey, 0.35))
    canvas.polygon(_blob(rng, (x - size * 0.04, y - size * 0.3), (size * 0.48, size * 0.28)), grey)


def _hay_bale(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    straw = _varied(rng, (214, 178, 92), 12)
    canvas.ellipse((x, y - size * 0.5), (size * 0.56, size * 0.52), _darker(straw, 0.45))
    for turn in range(5):
        reach = size * (0.52 - 0.1 * turn)
        canvas.ellipse((x, y - size * 0.5), (reach, reach * 0.94), _darker(straw, 0.0 if turn % 2 == 0 else 0.2))


def _barrel(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    wood = _varied(rng, (138, 92, 56), 20)
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
    canvas.ellipse((x, y - size), (size * 0.3, size * 0.09), _darker(wood, 0.4))


def _milk_can(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    steel = _varied(rng, (178, 186, 194), 12)
    body = np.array([[x, y - size * 0.24], [x, y - size * 0.5], [x, y - size * 0.72], [x, y - size * 0.88]])
    for grow, shade in ((0.03, 0.5), (0.0, 0.0)):
        canvas.stroke(body, [size * (r + grow) for r in (0.26, 0.26, 0.14, 0.14)], _darker(steel, shade))
    shine = np.array([[x - size * 0.12, y - size * 0.24], [x - size * 0.12, y - size * 0.5]])
    canvas.stroke(shine, (size * 0.04, size * 0.04), (232, 238, 242))
    canvas.ellipse((x, y - size * 0.98), (size * 0.22, size * 0.07), _darker(steel, 0.3))


def _trestle(canvas: Canvas, rng: Rng, x: float, y: float, size: float) -> None:
    """Draw a wooden trestle: four legs and a back, the shape most easily taken for an animal."""
    wood = _varied(rng, (168, 120, 72), 24)
    legs = ((-0.5, -0.4, 0.12, 0.55), (0.6, 0.5, 0.12, 0.55), (-0.65, -0.5, 0.0, 0.15), (0.5, 0.4, 0.0, 0.15))
    for foot, top, lift, shade in legs:
        leg = np.array([[x + foot * size, y - lift * size], [x + top * size, y - size * 0.75]])
        canvas.stroke(leg, (size * 0.05, size * 0.05), _darker(wood, shade))
    beam = np.array([[x - size * 0.7, y - size * 0.78], [x + size * 0.7, y - size * 0.78]])
    canvas.stroke(beam, (size * 0.09, size * 0.09), wood)


def _fence(canvas: Canvas, rng: Rng, y: float, height: float, colour: Rgb) -> None:
    """Draw a fence across the whole picture that stands at `y`."""
    width = canvas.size_wh[0]
    thick, gap = height * 0.075, height * rng.uniform(1.1, 1.7)
    for lift in (0.45, 0.85):
        rail = np.array([[-5, y - height * lift], [width + 5, y - height * lift + rng.uniform(-3, 3)]])
        canvas.stroke(rail, (thick * 1.25, thick * 1.25), _darker(colour, 0.5))
        canvas.stroke(rail, (thick, thick), colour)
    for x in np.arange(rng.uniform(0, gap), width, gap):
        post = np.array([[x, y], [x + rng.uniform(-2, 2), y - height]])
        canvas.stroke(post, (thick * 1.6, thick * 1.5), _darker(colour, 0.5))
        canvas.stroke(post, (thick * 1.35, thick * 1.25), _lit(rng, colour, 0.08))


SKIES: Final[tuple[tuple[Rgb, Rgb], ...]] = (
    ((122, 178, 226), (212, 232, 244)),
    ((170, 186, 200), (222, 226, 228)),
    ((136, 150, 204), (250, 208, 160)),
)
MEADOWS: Final[tuple[tuple[Rgb, Rgb], ...]] = (
    ((150, 184, 98), (94, 142, 66)),
    ((178, 184, 104), (132, 142, 70)),
    ((126, 168, 104), (70, 122, 72)),
)
FENCE_WOOD: Final[tuple[Rgb, ...]] = ((152, 118, 86), (206, 198, 186), (122, 104, 92))


def _pasture(canvas: Canvas, rng: Rng) -> float:
    """Draw sky, hills and meadow; return the row where the ground begins, pixels."""
    width, height = canvas.size_wh
    horizon = height * rng.uniform(0.28, 0.42)
    sky, meadow = (choices[int(rng.integers(len(choices)))] for choices in (SKIES, MEADOWS))
    _gradient(canvas, 0, horizon + 2, *sky)
    _clouds(canvas, rng, horizon)
    _hills(canvas, rng, horizon, _darker(meadow[1], 0.1), sky[1])
    for x in rng.uniform(0, width, int(rng.integers(0, 6))):
        _tree(canvas, rng, x, horizon + 2, height * rng.uniform(0.06, 0.13))
    _gradient(canvas, horizon, height, *meadow)
    _tufts(canvas, rng, horizon, height, colour=_darker(meadow[1], 0.18), count=70)
    if rng.random() < 0.5:
        wood = FENCE_WOOD[int(rng.integers(len(FENCE_WOOD)))]
        _fence(canvas, rng, horizon + height * 0.09, height * rng.uniform(0.1, 0.15), wood)
    for x, y in rng.uniform((0, horizon + 6), (width, height), (int(rng.integers(0, 26)), 2)):
        size = 0.0035 * width
        canvas.ellipse((x, y), (size * 1.6, size), _varied(rng, (240, 222, 120), 14))
    return horizon


def _barn(canvas: Canvas, rng: Rng) -> float:
    """Draw a wall of boards and a floor with straw; return the row where the floor begins."""
    width, height = canvas.size_wh
    floor = height * rng.uniform(0.38, 0.52)
    wood = _varied(rng, ((136, 96, 70), (120, 102, 88), (146, 82, 66))[int(rng.integers(3))], 10)
    board = width * rng.uniform(0.05, 0.09)
    for x in np.arange(-board, width, board):
        canvas.polygon([(x, 0), (x + board, 0), (x + board, floor), (x, floor)], _lit(rng, wood, 0.12))
        canvas.polygon([(x, 0), (x + 0.8, 0), (x + 0.8, floor), (x, floor)], _darker(wood, 0.45))
    for half in range(int(rng.integers(0, 3))):
        _window(canvas, (0.5 * half + rng.uniform(0.12, 0.38)) * width, floor * 0.36, height * 0.1)
    beam = floor * rng.uniform(0.06, 0.12)
    canvas.polygon([(0, 0), (width, 0), (width, beam), (0, beam)], _darker(wood, 0.35))
    earth = _varied(rng, (178, 150, 112), 12)
    _gradient(canvas, floor, height, _darker(earth, 0.25), earth)
    _tufts(canvas, rng, floor + 4, height, colour=(216, 186, 110), count=90)
    return floor


def _window(canvas: Canvas, x: float, y: float, size: float) -> None:
    def pane(centre: Xy, half: tuple[float, float], colour: Rgb) -> None:
        (x1, y1), (x2, y2) = _corners(centre, half)
        canvas.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], colour)

    pane((x, y), (size, size * 0.8), (88, 66, 52))
    for dx in (-0.47, 0.47):
        for dy in (-0.37, 0.37):
            pane((x + dx * size, y + dy * size), (size * 0.39, size * 0.30), (206, 226, 238))


BACKDROPS: Final = {"pasture": _pasture, "barn": _barn}
PROPS: Final = {
    "pasture": (_bush, _stone, _hay_bale, _trestle, _stone, _bush, _milk_can),
    "barn": (_hay_bale, _barrel, _milk_can, _trestle, _hay_bale),
}
SCREENS: Final = {"pasture": (_bush, _bush, _stone), "barn": (_hay_bale, _barrel, _milk_can)}


# ----------------------------------------------------------------------------------------- scene

BoxXyxy = tuple[float, float, float, float]


def _expected_box(view: View) -> BoxXyxy:
    """Return the box that an animal of middling pose fills, pixels."""
    (x, y), unit = view.feet_px, view.unit_px
    back, front = 0.75 * unit, 1.05 * unit
    left, right = (back, front) if view.facing > 0 else (front, back)
    return x - left, y - 1.3 * unit, x + right, y + 0.08 * unit


def _covered_share(first: BoxXyxy, second: BoxXyxy) -> float:
    """Return the intersection of two boxes as a share of the smaller one."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return max(0.0, width) * max(0.0, height) / smaller


def _place_animals(rng: Rng, size_wh: tuple[int, int], ground: float, count: int) -> list[View]:
    """Find places for animals, from far to near; one that finds no room is left out."""
    width, height = size_wh
    room = min(width, height * 4 / 3)
    low, high = ((0.26, 0.39), (0.22, 0.31), (0.18, 0.25))[min(count, 3) - 1]
    most_shared = 0.3 if rng.random() < 0.6 else 0.0
    views: list[View] = []
    for _ in range(60):
        if len(views) == count:
            break
        unit = room * rng.uniform(low, high)
        feet_y = rng.uniform(max(ground + 0.22 * height, 1.05 * unit), height * 0.95)
        view = View(
            facing=1 if rng.random() < 0.5 else -1,
            turn=rng.uniform(-0.1, 0.6),
            tilt=rng.uniform(0.16, 0.34),
            unit_px=unit,
            feet_px=(rng.uniform(0.0, 1.0) * width, feet_y),
        )
        box = _expected_box(view)
        inside = _covered_share(box, (0.0, 0.0, float(width), float(height)))
        if inside > 0.85 and all(_covered_share(box, _expected_box(v)) <= most_shared for v in views):
            views.append(view)
    return sorted(views, key=lambda v: v.feet_px[1])


def _strew(canvas: Canvas, rng: Rng, place: str, ground: float, count: int) -> None:
    """Strew props behind the animals."""
    width, height = canvas.size_wh
    for y in np.sort(rng.uniform(ground + 0.03 * height, height * 0.8, count)):
        prop = PROPS[place][int(rng.integers(len(PROPS[place])))]
        nearness = (y - ground) / (height - ground)
        x, size = rng.uniform(0, width), height * (0.08 + 0.16 * nearness) * rng.uniform(0.7, 1.2)
        shade = _blob(rng, (x, float(y)), (size * 0.55, size * 0.12), 0.05)
        canvas.tint((30, 34, 30), canvas.blobs([shade], blur_px=1.0), 0.3)
        prop(canvas, rng, x, float(y), size)


def _screen(canvas: Canvas, rng: Rng, place: str, views: Sequence[View]) -> None:
    """Put things before the animals: now and then a fence, or something that hides a few legs."""
    height = canvas.size_wh[1]
    canvas.next_layer()
    for view in views:
        if rng.random() < 0.3:
            prop = SCREENS[place][int(rng.integers(len(SCREENS[place])))]
            x = view.feet_px[0] + rng.uniform(-0.9, 0.9) * view.unit_px
            prop(canvas, rng, x, view.feet_px[1] + 0.12 * view.unit_px, view.unit_px * rng.uniform(0.25, 0.5))
    if views and rng.random() < 0.15:
        nearest = views[-1]
        wood = FENCE_WOOD[int(rng.integers(len(FENCE_WOOD)))]
        y = min(nearest.feet_px[1] + 0.2 * nearest.unit_px, height * 1.02)
        _fence(canvas, rng, y, nearest.unit_px * rng.uniform(0.5, 0.7), wood)


def _to_animal(canvas: Canvas, painter: _AnimalPainter) -> Animal:
    """Read an animal off the finished canvas; points outside the picture are left out."""
    width, height = canvas.size_wh
    x1, y1, x2, y2 = painter.bounds_xyxy_px()
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    keypoints = [
        Keypoint(name, xy, canvas.covered(xy, painter.layer_of[name]))
        for name, xy in painter.keypoints_px().items()
        if 0 <= xy[0] < width and 0 <= xy[1] < height
    ]
    return Animal(CLASS_NAME, box, tuple(keypoints))


def draw_scene(
    rng: Rng,
    size_wh: tuple[int, int] = (320, 240),
    n_animals: int | None = None,
    place: str | None = None,
) -> Scene:
    """Draw one picture.

    Args:
        rng: the only source of chance; the same state gives the same scene.
        size_wh: image (width, height), pixels.
        n_animals: 0 for clutter only; fewer may find room; None draws 1 to 3.
        place: one of `PLACES`; None draws one.

    Returns:
        The picture and the animals in it, from far to near.

    Raises:
        ValueError: a side of the image is shorter than `MIN_SIDE_PX`.
    """
    place = place or PLACES[int(rng.integers(len(PLACES)))]
    count = int(rng.choice(3, p=(0.45, 0.37, 0.18))) + 1 if n_animals is None else n_animals
    canvas = Canvas(size_wh)
    ground = BACKDROPS[place](canvas, rng)
    _strew(canvas, rng, place, ground, int(rng.integers(1, 5)) + (2 if count == 0 else 0))
    painters = [_AnimalPainter(canvas, rng, view) for view in _place_animals(rng, size_wh, ground, count)]
    for painter in painters:
        painter.paint()
    _screen(canvas, rng, place, [painter.view for painter in painters])
    animals = tuple(_to_animal(canvas, painter) for painter in painters)
    overlap = any(_covered_share(a.box_xyxy_px, b.box_xyxy_px) > 0 for i, a in enumerate(animals) for b in animals[:i])
    return Scene(canvas.finished(), animals, place, grouped=bool(rng.random() < GROUPED_SHARE) or overlap)


# --------------------------------------------------------------------------------------- labelme


def _rounded(points: Points) -> list[tuple[float, float]]:
    return [(round(float(x), 2), round(float(y), 2)) for x, y in points]


def to_labelme(scene: Scene, image_name: str) -> dict[str, Any]:
    """Return what labelme saves for a scene: a rectangle for each animal, then its points.

    Args:
        scene: a drawn picture.
        image_name: file name of the image, which lies beside the JSON file.
    """
    shapes: list[LabelmeShape] = []
    for number, animal in enumerate(scene.animals, start=1):
        group_id = number if scene.grouped else None
        x1, y1, x2, y2 = animal.box_xyxy_px
        shapes.append(LabelmeShape(animal.class_name, _rounded([(x1, y1), (x2, y2)]), "rectangle", group_id, {}))
        for point in animal.keypoints:
            flags = {"occluded": point.occluded}
            shapes.append(LabelmeShape(point.name, _rounded([point.xy_px]), "point", group_id, flags))
    return to_document(shapes, image_name, scene.size_wh)


def write_demo(folder: Path, n_images: int = 240, seed: int = 0, size_wh: tuple[int, int] = (320, 240)) -> list[Path]:
    """Write the demo dataset: JPEG images and labelme JSON files, in one subfolder for each place.

    The folder appears whole or not at all. Image k is the same whatever `n_images` is.

    Args:
        folder: where to write; must not exist or be empty.
        n_images: one in `NEGATIVE_EVERY` shows no animal.
        seed: of the whole dataset.
        size_wh: image (width, height), pixels.

    Returns:
        The image paths, in the order they were drawn; the JSON file has the same stem.

    Raises:
        PoseError: the folder is not empty or is a file.
    """
    _refuse_occupied(folder)
    target = folder.resolve()  # a link to an empty folder stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        # Not `scratch` itself: mkdtemp keeps it from other users.
        whole = scratch / target.name
        whole.mkdir()
        names = [_write_image(whole, index, seed, size_wh) for index in range(n_images)]
        if target.exists():
            target.rmdir()
        whole.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [folder / name for name in names]


def _refuse_occupied(folder: Path) -> None:
    """Raise PoseError unless the folder is absent or empty."""
    if folder.is_dir():
        found = min((path.name for path in folder.iterdir()), default=None)
        if found is not None:
            raise PoseError(
                f"{folder}: the demo needs an empty folder, and this one holds {found!r}; "
                "give another folder or move its contents away"
            )
    elif folder.exists():
        raise PoseError(f"{folder}: the demo needs an empty folder, and this is a file; give another folder")


def _write_image(root: Path, index: int, seed: int, size_wh: tuple[int, int]) -> Path:
    """Write image and JSON number `index`; return the image's path relative to `root`."""
    rng = np.random.default_rng([seed, index])
    place = PLACES[1] if index % 3 == 1 else PLACES[0]
    negative = index % NEGATIVE_EVERY == NEGATIVE_EVERY // 2
    scene = draw_scene(rng, size_wh, n_animals=0 if negative else None, place=place)
    name = Path(place) / f"{CLASS_NAME}_{index:04d}.jpg"
    (root / place).mkdir(exist_ok=True)
    Image.fromarray(scene.image).save(root / name, quality=JPEG_QUALITY)
    text = json.dumps(to_labelme(scene, name.name), ensure_ascii=False, indent=2)
    (root / name).with_suffix(".json").write_text(text, encoding="utf-8", newline="\n")
    return name
