"""The demo's animal: a small 3D skeleton that is posed, turned, projected and painted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from keypipe.demo.canvas import SUPERSAMPLING, Canvas, Points, Rgb, Rng, Stroke, Vec, Xy, blob, darker, lit, mix

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
    return walk(stride, phase, [rng.uniform(-0.08, 0.08) for _ in range(4)])


def walk(stride: float, phase: float, freedom: Sequence[float] = (0.0,) * 4) -> dict[str, Vec]:
    """Pose the four legs at one moment of a walk.

    Args:
        stride: how far legs swing, radians.
        phase: of the walk, radians.
        freedom: by how much each leg swings otherwise, radians: left front, right front, left hind, right hind.

    Returns:
        Joints in the body frame, by name.
    """
    joints: dict[str, Vec] = {}
    legs = [
        (end, x, top, shift, side, y, beat)
        for end, x, top, shift in (("front", 0.36, 0.62, 0.0), ("hind", -0.40, 0.66, math.pi))
        for side, y, beat in (("left", 0.17, 0.0), ("right", -0.17, math.pi))
    ]
    for (end, x, top, shift, side, y, beat), free in zip(legs, freedom, strict=True):
        step = phase + shift + beat
        swing = stride * math.sin(step) + free
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
        base=lit(rng, base, 0.08),
        patch=lit(rng, patch, 0.08),
        patches=patches,
        blaze=bool(rng.random() < 0.5),
        horns=bool(rng.random() < 0.6),
        collar=collars[int(rng.integers(len(collars)))],
        tag=bool(rng.random() < 0.5),
    )


class AnimalPainter:
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
        edge = darker(colour, 0.55)
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
        soft = self.canvas.blobs([blob(self.rng, (x, y), (spread, spread * 0.2), 0.05)], blur_px=2.0)
        self.canvas.tint((30, 34, 30), soft, 0.38)

    def _leg(self, side: str, end: str, near: bool) -> Stroke:
        """Draw a leg with its hoof and return its outline."""
        layer, shade = self.canvas.next_layer(), 0.05 if near else 0.42
        joints = [self.pose.joints[f"{side}_{end}_{part}"] for part in ("top", "knee", "hoof")]
        top, knee, hoof = self.view.project(joints)
        colour = darker(self.coat.base, shade)
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
        self.canvas.stroke(foot, self._scaled(0.044, 0.052), darker(HOOF, shade))
        self.bounds.append(np.stack([hoof - reach, hoof + reach]))
        self.layer_of |= {f"{side}_{end}_knee": layer, f"{side}_{end}_hoof": layer}
        # Without the foot: patches end above the hoof.
        return np.stack([top, knee, ankle]), limb[1]

    def _tail(self) -> None:
        self.canvas.next_layer()
        points = self.view.project(self.pose.tail)
        self._strokes([(points, self._scaled(0.035, 0.028, 0.022, 0.02))], darker(self.coat.base, 0.12))
        tuft = np.stack([points[-2] * 0.35 + points[-1] * 0.65, points[-1]])
        self._strokes([(tuft, self._scaled(0.03, 0.05))], darker(self.coat.patch, 0.25))

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
            outlines.append(blob(self.rng, self._at((x, side, z))[0], (size, size * 0.8), 0.45))
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
            self.canvas.stroke(stripe, self._scaled(0.03, 0.045), mix((248, 244, 238), self.coat.base, 0.1))
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
            self.canvas.ellipse(nostril, (size, size), darker(PINK, 0.6))

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
        self._strokes([(points, self._scaled(0.035, 0.055, 0.022))], darker(self._face_colour(), shade))
        inner = np.stack([points[0] * 0.5 + points[1] * 0.5, points[1] * 0.4 + points[2] * 0.6])
        self.canvas.stroke(inner, self._scaled(0.02, 0.022), darker(PINK, shade))
        if self.coat.tag:
            spot = points[1] * 0.5 + points[2] * 0.5 + np.array([0.0, 0.03 * self.view.unit_px])
            self.canvas.ellipse(spot, (0.026 * self.view.unit_px, 0.03 * self.view.unit_px), EAR_TAG)
        self.layer_of[f"{side}_ear"] = layer
