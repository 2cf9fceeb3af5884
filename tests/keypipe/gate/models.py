"""Truths and models that see them with a known error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile, CocoImage
from keypipe.evaluation.matching import Detection
from keypipe.gate.comparison import Scored, Units, number_units, score

SIGMA = 0.1
COW = {"cow": ["nose", "left_ear", "right_ear", "tail"]}
CONF = 0.25


def draw_truth(n_images: int, classes: Mapping[str, Sequence[str]] = COW, seed: int = 0) -> CocoFile:
    """Draw one or two objects an image, of the classes in turn; some keypoints have no label."""
    rng = np.random.default_rng(seed)
    categories = [CocoCategory(index, name, list(names)) for index, (name, names) in enumerate(classes.items(), 1)]
    truth = CocoFile([], [], categories)
    for image_id in range(1, n_images + 1):
        truth.images.append(CocoImage(image_id, f"raw/{image_id:04d}.jpg", 640, 480))
        for number in range(1 + image_id % 2):
            category = categories[(image_id + number) % len(categories)]
            n_keypoints = len(category.keypoints)
            left = 10.0 + 320 * number
            points = np.column_stack(
                [rng.uniform(left, left + 200, n_keypoints), rng.uniform(50, 250, n_keypoints), [2] * n_keypoints]
            )
            points[1:][rng.random(n_keypoints - 1) < 0.1] = 0
            labelled = int((points[:, 2] > 0).sum())
            truth.annotations.append(
                CocoAnnotation(
                    len(truth.annotations) + 1,
                    image_id,
                    category.id,
                    (left, 50.0, 200.0, 200.0),
                    40_000.0,
                    points.ravel().tolist(),
                    labelled,
                )
            )
    return truth


def see(
    truth: CocoFile,
    error_px: float = 15.0,
    *,
    seed: int,
    thrown: Mapping[str, float] | None = None,
    confidence: float = 0.9,
) -> list[Detection]:
    """Return what a model sees: every object, its keypoints off by a random distance, and false objects.

    Args:
        truth: COCO file.
        error_px: standard deviation of x and y; it differs from object to object.
        seed: of the error.
        thrown: by keypoint the share of objects on which it is far off.
        confidence: of all keypoints.
    """
    rng = np.random.default_rng(seed)
    names = {category.id: category.keypoints for category in truth.categories}
    seen: list[Detection] = []
    for item in truth.annotations:
        points = np.reshape(np.array(item.keypoints, dtype=float), (-1, 3))
        points[:, :2] += rng.normal(0, error_px * rng.gamma(2, 0.5), (len(points), 2))
        for index, name in enumerate(names[item.category_id]):
            if rng.random() < (thrown or {}).get(name, 0.0):
                points[index, :2] += 150
        points[:, 2] = confidence
        flat = points.ravel().tolist()
        seen.append(Detection(item.image_id, item.category_id, float(rng.uniform(0.5, 1)), item.bbox, flat))
        if rng.random() < 0.3:
            box = (400.0, 300.0, 100.0, 100.0)
            seen.append(
                Detection(item.image_id, item.category_id, float(rng.uniform(0.2, 0.7)), box, [450.0] * len(flat))
            )
    return seen


def sigmas_of(truth: CocoFile) -> dict[str, np.ndarray]:
    """Return equal sigmas for all keypoints."""
    return {category.name: np.full(len(category.keypoints), SIGMA) for category in truth.categories}


def scored(truth: CocoFile, error_px: float = 15.0, **options: object) -> Scored:
    """Return what a model's predictions came to."""
    return score(truth, see(truth, error_px, **options), sigmas_of(truth), CONF)  # type: ignore[arg-type]


def images_of(truth: CocoFile) -> Units:
    """Return every image as a unit of its own."""
    return number_units([image.file_name for image in truth.images])
