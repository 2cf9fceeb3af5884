"""Images of the demo's kind, and what can become of them: darker, blurred, farther away, before another background."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keypipe.demo.animal import AnimalPainter
from keypipe.demo.canvas import Canvas
from keypipe.demo.places import PLACES, draw_backdrop, strew
from keypipe.demo.scene import JPEG_QUALITY, NEGATIVE_EVERY, Animal, _place_animals, _to_animal, draw_scene
from keypipe.drift.closeness import Truth

SIZE_WH = (320, 240)
Rgb = NDArray[np.uint8]
Drawn = tuple[Rgb, Truth]

STRENGTHS: dict[str, tuple[float, ...]] = {
    "darkened": (0.7, 0.45, 0.25),
    "blurred": (1.0, 2.0, 4.0),
    "rescaled": (0.8, 0.6, 0.4),
    "new background": (0.3, 0.6, 1.0),
}
MEANING = {
    "darkened": "of the brightness",
    "blurred": "px of 320",
    "rescaled": "of the size",
    "new background": "of the background",
}


def draw(kind: str, strength: float, seed: int, index: int) -> Drawn:
    """Draw an image and what is on it.

    Args:
        kind: ``same``, or a key of ``STRENGTHS``.
        strength: how much.
        seed: of the images.
        index: number of the image.

    Returns:
        uint8 (height, width, 3), RGB, as it comes out of a JPEG file; and the objects.
    """
    rng = np.random.default_rng([seed, index])
    place = PLACES[1] if index % 3 == 1 else PLACES[0]
    n_animals = 0 if index % NEGATIVE_EVERY == NEGATIVE_EVERY // 2 else None  # as the demo has it
    if kind == "new background":
        image, animals = _before_texture(rng, place, strength, n_animals)
    else:
        scene = draw_scene(rng, SIZE_WH, n_animals, place)
        image, animals = scene.image, scene.animals
    truth = [
        (animal.class_name, animal.box_xyxy_px, {point.name: point.xy_px for point in animal.keypoints})
        for animal in animals
    ]
    if kind not in {"same", "new background"}:
        image, truth = _SHIFTS[kind](image, truth, strength)
    return _through_jpeg(image), truth


def _darken(image: Rgb, truth: Truth, share: float) -> Drawn:
    return (image * share).astype(np.uint8), truth


def _blur(image: Rgb, truth: Truth, sigma_px: float) -> Drawn:
    return cv2.GaussianBlur(image, (0, 0), sigma_px), truth


def _shrink(image: Rgb, truth: Truth, scale: float) -> Drawn:
    """Show the same from farther away: what comes into view is the mirrored surroundings, blurred."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    wide = cv2.resize(image, (width, height))
    canvas = cv2.GaussianBlur(wide, (0, 0), 25.0)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small

    def move(x: float, y: float) -> tuple[float, float]:
        return left + scale * x, top + scale * y

    moved = [
        (name, (*move(*box[:2]), *move(*box[2:])), {key: move(*point) for key, point in points.items()})
        for name, box, points in truth
    ]
    return canvas, moved


_SHIFTS: dict[str, Callable[[Rgb, Truth, float], Drawn]] = {"darkened": _darken, "blurred": _blur, "rescaled": _shrink}


def _before_texture(
    rng: np.random.Generator, place: str, strength: float, n_animals: int | None
) -> tuple[Rgb, list[Animal]]:
    """Draw animals as ``draw_scene`` does, and mix what is behind them with a texture that the demo has not."""
    count = int(rng.choice(3, p=(0.45, 0.37, 0.18))) + 1 if n_animals is None else n_animals
    canvas = Canvas(SIZE_WH)
    ground = draw_backdrop(canvas, rng, place)
    strew(canvas, rng, place, ground, int(rng.integers(1, 5)))
    behind = canvas.finished()
    painters = [AnimalPainter(canvas, rng, view) for view in _place_animals(rng, SIZE_WH, ground, count)]
    for painter in painters:
        painter.paint()
    image = canvas.finished()
    of_animals = (np.abs(image.astype(int) - behind).max(axis=2) > 0).astype(np.float32)
    mask = cv2.GaussianBlur(of_animals, (0, 0), 0.6)[..., None]
    width, height = SIZE_WH
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    fine = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    texture = 0.6 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST) + 0.4 * cv2.resize(
        fine, (width, height), interpolation=cv2.INTER_NEAREST
    )
    mixed = (1 - strength) * behind + strength * texture
    whole = mask * image + (1 - mask) * mixed
    return whole.clip(0, 255).astype(np.uint8), [_to_animal(canvas, painter) for painter in painters]


def _through_jpeg(image: Rgb) -> Rgb:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(written)).copy()
