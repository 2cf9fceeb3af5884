"""What the samples of an image are: how many bits each has, and of what kind."""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import msgspec
from PIL import TiffImagePlugin

WIDTH, HEIGHT, DNG_VERSION = 256, 257, 50706
"""TIFF tags; the last one marks a camera's RAW (Adobe, Digital Negative Specification)."""

_BITS, _CHANNELS, _SAMPLE_FORMAT = 258, 277, 339  # TIFF 6.0
_FLOATING = 3  # a value of SampleFormat
_FLAT_MODES = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_SIZ_MARKER = b"\xff\x4f\xff\x51"
_SPACE = rb"(?:\s+|#[^\n]*\n)+"
_PNM_HEAD = re.compile(rb"P[2356]" + _SPACE + rb"\d+" + _SPACE + rb"\d+" + _SPACE + rb"(\d+)")


class Samples(msgspec.Struct, frozen=True):
    """What an image's samples are.

    Attributes:
        bits: of a sample. Formats that know their own range, such as AVIF with 10 bits, come out of their decoder
            with 8.
        floating: whether they are floating point numbers.
        channels: of a pixel: 1, 2 with an alpha, 3 or more for a colour picture.
    """

    bits: int = 8
    floating: bool = False
    channels: int = 3

    @property
    def deep(self) -> bool:
        """Whether they have more than the 8 bits that a model is given."""
        return self.bits > 8 or self.floating

    @property
    def without_range(self) -> bool:
        """Whether nothing tells which values are black and white: more than 16 bits, or floating point."""
        return self.bits > 16 or self.floating


def read_tiff_tags(content: bytes) -> Mapping[int, Any]:
    """Return the tags of a TIFF's first image; none where they cannot be read.

    Args:
        content: the whole file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = content[:16] if b"+" in content[2:4] else content[:8]  # BigTIFF has the longer one
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            file = io.BytesIO(content)
            file.seek(tags.next)
            tags.load(file)
            return dict(tags)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return {}


def find_samples(content: bytes, image_format: str, mode: str, tags: Mapping[int, Any]) -> Samples:
    """Return what the samples of an image file are.

    Args:
        content: the whole file.
        image_format: Pillow's name of the format.
        mode: Pillow's mode; "" where Pillow does not open it.
        tags: of a TIFF.
    """
    channels = 1 if mode in _FLAT_MODES else 3
    if image_format == "TIFF":
        widest = max(_all(tags.get(_BITS, 1)))
        floating = _FLOATING in _all(tags.get(_SAMPLE_FORMAT, 1))
        return Samples(widest, floating, int(tags.get(_CHANNELS, 1)) if widest > 8 or not mode else channels)
    if image_format == "PNG":
        return Samples(content[24], channels=channels)  # PNG specification, 11.2.2 IHDR
    if image_format == "JPEG2000":
        # ISO/IEC 15444-1, A.5.1: Ssiz of the first component.
        at = content.find(_SIZ_MARKER) + 42
        bits = (content[at] & 0x7F) + 1 if 42 <= at < len(content) else 8
        return Samples(16 if bits == 16 else 8, channels=channels)
    if image_format == "PPM":
        head = _PNM_HEAD.match(content)
        return Samples(16 if head and int(head[1]) > 255 else 8, mode == "F", channels)
    return Samples(channels=channels)


def _all(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)
