"""Predictions for tables: a column of encoded images in, one row for each object out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from keypipe.errors import AnnotationError
from keypipe.images.depth import Depth
from keypipe.images.media import BgrImage, decode_image
from keypipe.inference.predictor import DEFAULT_THRESHOLDS, Predictor, Thresholds
from keypipe.inference.results import round_prediction

INPUT_COLUMN = "image"
"""Column of the images, each a whole file: JPEG, PNG, WebP, BMP or TIFF, as bytes or as their base64 text."""

OUTPUT_COLUMNS = ("image", "class_name", "score", "box_xyxy", "keypoints")
"""Columns of the objects; ``image`` is the position of the image in the input, from 0."""


def predict_rows(
    predictor: Predictor, images: Iterable[Any], thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> list[dict[str, Any]]:
    """Find the objects on encoded images.

    Args:
        predictor: the model.
        images: whole image files, as bytes or as base64 text.
        thresholds: which objects are kept.

    Returns:
        A row for each object, by ``OUTPUT_COLUMNS``: images in their order, on each the best score first; an image
        without objects has none. Coordinates are pixels of the upright image, rounded as in keypipe's JSON files.

    Raises:
        AnnotationError: one of them is no image; says which.
    """
    rows: list[dict[str, Any]] = []
    for position, encoded in enumerate(images):
        try:
            pixels = decode_cell(encoded, predictor.info.depth)
        except AnnotationError as error:
            raise AnnotationError(f"{INPUT_COLUMN} {position}: {error}") from error
        for found in map(round_prediction, predictor.predict_image(pixels, thresholds)):
            rows.append({"image": position, **msgspec.to_builtins(found), "box_xyxy": list(found.box_xyxy)})
    return rows


def decode_cell(encoded: Any, depth: Depth = "cut") -> BgrImage:
    """Decode an image file that stands in a table.

    Args:
        encoded: the file's bytes, or their base64 text, also as a ``data:`` URL.
        depth: what becomes of samples of more than 8 bits.

    Returns:
        uint8 (height, width, 3), BGR, with the EXIF orientation applied.

    Raises:
        AnnotationError: neither, or no image.
    """
    if isinstance(encoded, bytes | bytearray | memoryview):
        return decode_image(bytes(encoded), depth)
    if not isinstance(encoded, str):
        raise AnnotationError(f"expected an image file as bytes or base64 text, got {type(encoded).__name__}")
    text = encoded.partition(",")[2] if encoded.startswith("data:") else encoded
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnnotationError("expected an image file as base64 text, got text that is none") from error
    return decode_image(content, depth)
