"""Images whose samples have more than 8 bits, brought to the 8 that a model is given."""

from __future__ import annotations

import io
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keypipe.errors import AnnotationError
from keypipe.images.header import ImageHeader
from keypipe.images.opencv import import_cv2
from keypipe.images.samples import Samples

Depth = Literal["cut", "scale"]
"""``cut``: of 16 bits the upper 8 count, as with Ultralytics; ``scale``: the range that an image uses is spread."""

DEPTHS: tuple[Depth, ...] = get_args(Depth)

_EXTREME = 1e-4
"""Share of an image's values that may lie below and above its range: a hot pixel must not make the rest dark, and the
few pixels of a small bright marker are more than that."""


class NoRangeError(AnnotationError):
    """Nothing tells which of an image's values are black and which are white."""


def scale_to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Bring the range that an image uses to 0 to 255, all channels alike.

    The range goes from the smallest to the largest value when a ten-thousandth of all has been left out at either end.

    Args:
        values: (height, width) or (height, width, channels), any kind of number. NaN counts as the smallest.

    Returns:
        uint8 of the same shape; all 0 where the values are all the same.
    """
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    left_out = int(finite.size * _EXTREME)
    ends = [left_out, finite.size - 1 - left_out]
    low, high = np.partition(finite, ends)[ends].astype(np.float64)
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    inside = np.clip(np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low), low, high)
    scaled: NDArray[np.uint8] = np.rint((inside - low) / (high - low) * 255).astype(np.uint8)
    return scaled


def decode_deep(content: bytes, header: ImageHeader) -> NDArray[Any]:
    """Decode an image with all the bits that it has, upright.

    Args:
        content: the whole file.
        header: of it, with samples of more than 8 bits.

    Returns:
        (height, width), or (height, width, 3) in the order blue, green, red; an alpha channel is left out.

    Raises:
        AnnotationError: it cannot be decoded.
    """
    flat = header.samples.channels < 3
    if header.format == "PPM" and flat:
        return np.asarray(Image.open(io.BytesIO(content)))  # OpenCV gives floats another number of channels
    cv2 = import_cv2()
    flags = cv2.IMREAD_ANYDEPTH | (cv2.IMREAD_GRAYSCALE if flat else cv2.IMREAD_COLOR)
    values: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if values is None:
        raise AnnotationError(f"the {header.format} image, {_describe(header.samples)}, cannot be decoded")
    return values


def check_range(header: ImageHeader) -> None:
    """Check that an image can be read without scaling.

    Raises:
        NoRangeError: nothing tells which of its values are black and white.
    """
    if header.samples.without_range:
        found = f"the {header.format} image holds {_describe(header.samples)}"
        raise NoRangeError(f"{found}, and nothing tells which are black and which are white")


def _describe(samples: Samples) -> str:
    return f"{samples.bits}-bit {'floating point numbers' if samples.floating else 'numbers'}"


def encode_bmp(image: NDArray[np.uint8]) -> bytes:
    """Encode an image such that equal pixels give equal bytes with any version of any library.

    Args:
        image: uint8 (height, width), or (height, width, 3) in the order blue, green, red.
    """
    buffer = io.BytesIO()
    pixels = image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()
