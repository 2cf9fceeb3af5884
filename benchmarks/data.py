"""Generated datasets for the benchmarks: many labelme files quickly, with keypoints, equal for equal seeds."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

SIZE_WH = (640, 480)
KEYPOINTS = [f"k{index}" for index in range(10)]
_PICTURES = 40


def write_dataset(folder: Path, n_images: int, *, embed: bool, seed: int = 0, start: int = 0) -> None:
    """Write images of 640x480 with 1-3 objects of 10 keypoints each, and their labelme files.

    Every picture is put together from parts of three drawn ones, so that no two are near duplicates.

    Args:
        folder: where to write.
        n_images: how many.
        embed: keep the image inside the JSON as well, as labelme can.
        seed: of everything.
        start: number of the first image, to add to a dataset that is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw_pictures(seed)
    for index in range(start, start + n_images):
        rng = np.random.default_rng([seed, index])
        content = encode(combine(pictures, rng))
        name = f"{index:06d}"
        (folder / f"{name}.jpg").write_bytes(content)
        document = labelme_document(f"{name}.jpg", rng)
        if embed:
            document["imageData"] = base64.b64encode(content).decode()
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2), encoding="utf-8")


def draw_pictures(seed: int) -> list[NDArray[np.uint8]]:
    """Draw some pictures, uint8 (480, 640, 3), whose JPEGs have the size of a photograph's, some 60 kB."""
    pictures: list[NDArray[np.uint8]] = []
    for index in range(_PICTURES):
        rng = np.random.default_rng([seed, 1_000_000 + index])
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(SIZE_WH, Image.Resampling.BICUBIC)
        noise = rng.normal(0, 6, (SIZE_WH[1], SIZE_WH[0], 3))
        pictures.append(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    return pictures


def combine(pictures: Sequence[NDArray[np.uint8]], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Put a picture together from three: one left, one right, one below."""
    left, right, below = (pictures[number] for number in rng.choice(len(pictures), 3, replace=False))
    x, y = rng.integers(160, 480), rng.integers(240, 400)
    picture = left.copy()
    picture[:, x:] = right[:, x:]
    picture[y:] = below[y:]
    return picture


def encode(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture as JPEG."""
    return bytes(simplejpeg.encode_jpeg(picture, quality=80, colorspace="RGB", colorsubsampling="420"))


def labelme_document(image_name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return a labelme document with 1-3 objects beside each other."""
    shapes: list[dict[str, Any]] = []
    n_objects = int(rng.integers(1, 4))
    for number in range(n_objects):
        width = SIZE_WH[0] / n_objects
        left, top = number * width + 5, rng.uniform(5, 100)
        right, bottom = left + width - 10, top + rng.uniform(150, 350)
        shapes.append(_shape("object", [[left, top], [right, bottom]], "rectangle"))
        for name in KEYPOINTS:
            shapes.append(_shape(name, [[rng.uniform(left, right), rng.uniform(top, bottom)]], "point"))
    return {
        "version": "6.3.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image_name,
        "imageData": None,
        "imageHeight": SIZE_WH[1],
        "imageWidth": SIZE_WH[0],
    }


def _shape(label: str, points: list[list[float]], kind: str) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


SCHEMA = {"classes": {"object": {"keypoints": KEYPOINTS, "skeleton": [], "pairs": "auto"}}}
