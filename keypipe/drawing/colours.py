"""Colours of keypoints and classes, the same in every picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from keypipe.keypoints.skeleton import Schema, mirror_name

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

INK: Colour = (17, 20, 24)
PAPER: Colour = (250, 250, 248)
_LEFT_WORDS = ("left", "左")


def oklch_to_rgb(lightness: float, chroma: float, hue_degrees: float) -> Colour:
    """Convert an OKLCH colour to sRGB (B. Ottosson, "A perceptual color space for image processing", 2020).

    Args:
        lightness: 0 to 1.
        chroma: 0 (grey) to about 0.3.
        hue_degrees: 30 red, 90 yellow, 145 green, 260 blue.

    Returns:
        Red, green, blue, 0 to 255, clipped to the gamut.
    """
    hue = math.radians(hue_degrees)
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = _to_srgb_byte(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short)
    green = _to_srgb_byte(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short)
    blue = _to_srgb_byte(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short)
    return red, green, blue


def _to_srgb_byte(linear: float) -> int:
    clipped = min(max(linear, 0.0), 1.0)
    encoded = 12.92 * clipped if clipped <= 0.0031308 else 1.055 * clipped ** (1 / 2.4) - 0.055
    return round(255 * encoded)


def keypoint_colours(schema: Schema) -> dict[str, Colour]:
    """Give every keypoint a colour: cool on the left, warm on the right, green on neither side.

    Partners have the same rank in their ranges. A schema without pairs spreads over the whole circle.

    Args:
        schema: classes and skeletons.

    Returns:
        Colour by keypoint name, the same in every picture of this schema.
    """
    return dict(_keypoint_colours(schema.slots, schema.flip_idx))


@lru_cache(maxsize=64)
def _keypoint_colours(slots: tuple[str, ...], flip_idx: tuple[int, ...]) -> dict[str, Colour]:
    pairs = [
        (name, slots[other]) for slot, (name, other) in enumerate(zip(slots, flip_idx, strict=True)) if slot < other
    ]
    if not pairs:
        return {name: oklch_to_rgb(0.76, 0.16, 25 + 330 * i / len(slots)) for i, name in enumerate(slots)}
    colours: dict[str, Colour] = {}
    for rank, (first, second) in enumerate(pairs):
        left = left_of_pair(first, second, slots)
        right = second if left == first else first
        share = rank / max(len(pairs) - 1, 1)
        colours[left] = oklch_to_rgb(0.80 - 0.12 * share, 0.14 + 0.03 * share, 205 + 85 * share)
        colours[right] = oklch_to_rgb(0.84 - 0.16 * share, 0.16 + 0.04 * share, 82 - 62 * share)
    centre = [name for name in slots if name not in colours]
    for rank, name in enumerate(centre):
        share = rank / max(len(centre) - 1, 1)
        colours[name] = oklch_to_rgb(0.86 - 0.08 * share, 0.18, 120 + 32 * share)
    return {name: colours[name] for name in slots}


def left_of_pair(name: str, partner: str, slots: Sequence[str]) -> str:
    """Tell which of two partners is drawn as the left one: by its name, else the first in schema order.

    Args:
        name: a keypoint.
        partner: the keypoint that it swaps with when an image is mirrored.
        slots: all keypoints in schema order.

    Returns:
        One of the two.
    """
    for candidate, other in ((name, partner), (partner, name)):
        if mirror_name(candidate) == other and any(word in candidate.lower() for word in _LEFT_WORDS):
            return candidate
    return min(name, partner, key=slots.index)


def class_colours(schema: Schema) -> dict[str, Colour]:
    """Give every class the colour of its boxes and tags.

    Args:
        schema: classes and skeletons.

    Returns:
        Colour by class name.
    """
    return dict(_class_colours(schema.class_names))


@lru_cache(maxsize=64)
def _class_colours(names: tuple[str, ...]) -> dict[str, Colour]:
    if len(names) == 1:
        return {names[0]: PAPER}
    return {name: oklch_to_rgb(0.88, 0.11, 95 + 360 * i / len(names)) for i, name in enumerate(names)}
