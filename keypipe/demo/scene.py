"""The demo dataset: cows on a pasture and in a barn, drawn by a seeded program.

The animal is a small 3D skeleton that is posed, turned and projected, so left and right in the
picture are what they are in reality: an animal that faces left shows its left side, and its right
legs are drawn behind and darker. What is written is what labelme 6.3.1 itself writes.

The drawing uses Pillow and integer seeds only; coordinates are rounded before they are drawn, so the
same seed gives the same bytes on every machine with the same Pillow.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keypipe.annotations.labelme import LabelmeShape, to_document
from keypipe.demo.animal import KEYPOINT_NAMES, AnimalPainter, View
from keypipe.demo.canvas import Canvas, Points, Rng
from keypipe.demo.places import PLACES, draw_backdrop, screen, strew
from keypipe.errors import PoseError
from keypipe.keypoints.boxes import Box

CLASS_NAME: Final = "cow"
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
"""The demo's schema, as the section ``schema`` of params.yaml has it."""

JPEG_QUALITY: Final = 90
NEGATIVE_EVERY: Final = 11  # one image in so many shows no animal; no multiple of 3, so every place has some
GROUPED_SHARE: Final = 0.25  # of the images that would do without; those with overlaps always are


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


# ----------------------------------------------------------------------------------------- scene


def _expected_box(view: View) -> Box:
    """Return the box that an animal of middling pose fills, pixels."""
    (x, y), unit = view.feet_px, view.unit_px
    back, front = 0.75 * unit, 1.05 * unit
    left, right = (back, front) if view.facing > 0 else (front, back)
    return x - left, y - 1.3 * unit, x + right, y + 0.08 * unit


def _covered_share(first: Box, second: Box) -> float:
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


def _to_animal(canvas: Canvas, painter: AnimalPainter) -> Animal:
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
    ground = draw_backdrop(canvas, rng, place)
    strew(canvas, rng, place, ground, int(rng.integers(1, 5)) + (2 if count == 0 else 0))
    painters = [AnimalPainter(canvas, rng, view) for view in _place_animals(rng, size_wh, ground, count)]
    for painter in painters:
        painter.paint()
    screen(canvas, rng, place, [painter.view for painter in painters])
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


def write_demo(
    folder: Path,
    n_images: int = 240,
    seed: int = 0,
    size_wh: tuple[int, int] = (320, 240),
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write the demo dataset: JPEG images and labelme JSON files, in one subfolder for each place.

    The folder appears whole or not at all. Image k is the same whatever `n_images` is.

    Args:
        folder: where to write; must not exist or be empty.
        n_images: one in `NEGATIVE_EVERY` shows no animal.
        seed: of the whole dataset.
        size_wh: image (width, height), pixels.
        progress: is told the number of images drawn, and to draw.

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
        names: list[Path] = []
        for index in range(n_images):
            names.append(_write_image(whole, index, seed, size_wh))
            if progress:
                progress(len(names), n_images)
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
