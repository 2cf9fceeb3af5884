"""Which images to look at: those that went worst, and some at random; and for each the keypoint that hurt most."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from keypipe.dataset.coco import CocoAnnotation, CocoFile
from keypipe.evaluation.matching import Detection, match_instances
from keypipe.evaluation.oks import AREA_FACTOR, AreaRule, keypoint_distances, keypoint_similarities, object_areas
from keypipe.keypoints.boxes import Array

Point = tuple[float, float]


class Culprit(msgspec.Struct, frozen=True):
    """The keypoint of an image whose OKS term is lowest.

    Attributes:
        class_name: of its object.
        keypoint: its name.
        similarity: its OKS term, 0 to 1.
        distance_px: how far off it is.
        true: where it is, pixels.
        predicted: where it was predicted.
    """

    class_name: str
    keypoint: str
    similarity: float
    distance_px: float
    true: Point
    predicted: Point


class ImageScore(msgspec.Struct, frozen=True):
    """How an image went.

    Attributes:
        index: position among the images.
        score: mean OKS over the objects that can be measured, 0 for each that was missed and for each false detection;
            1 for an image without any.
        objects: true objects.
        missed_xyxy: boxes of those that were not found, pixels.
        false: detections that are no object.
        culprit: the keypoint that hurt most; None where no keypoint can be measured.
    """

    index: int
    score: float
    objects: int
    missed_xyxy: tuple[tuple[float, float, float, float], ...]
    false: int
    culprit: Culprit | None


def score_images(
    truth: CocoFile,
    detections: Sequence[Detection],
    sigmas: Mapping[str, Array],
    area_factor: float = AREA_FACTOR,
    *,
    area_rule: AreaRule = "box",
) -> list[ImageScore]:
    """Tell how each image went.

    Args:
        truth: COCO file.
        detections: those that count.
        sigmas: per class name, one value per keypoint.
        area_factor: share of the box's area that stands for the object's.
        area_rule: what the object's area is.

    Returns:
        An entry for each image, in the file's order.
    """
    names = {category.id: (category.name, category.keypoints) for category in truth.categories}
    of_image: dict[int, list[tuple[CocoAnnotation, Detection]]] = defaultdict(list)
    for annotation, detection in match_instances(truth, detections):
        of_image[annotation.image_id].append((annotation, detection))
    objects: dict[int, list[CocoAnnotation]] = defaultdict(list)
    for annotation in truth.annotations:
        objects[annotation.image_id].append(annotation)
    n_found: dict[int, int] = defaultdict(int)
    for detection in detections:
        n_found[detection.image_id] += 1
    scores: list[ImageScore] = []
    for index, image in enumerate(truth.images):
        terms: list[float] = []
        culprits: list[Culprit] = []
        for annotation, detection in of_image[image.id]:
            class_name, keypoints = names[annotation.category_id]
            area = object_areas([annotation], area_rule, area_factor)
            suspects = _compare(annotation, detection, class_name, keypoints, area, sigmas[class_name])
            if suspects:  # OKS is not defined for an object without a labelled keypoint
                terms.append(float(np.mean([suspect.similarity for suspect in suspects])))
                culprits.append(min(suspects, key=lambda suspect: suspect.similarity))
        matched = {annotation.id for annotation, _ in of_image[image.id]}
        missed = tuple(_to_xyxy(item) for item in objects[image.id] if item.id not in matched)
        false = n_found[image.id] - len(matched)
        count = len(terms) + len(missed) + false
        worst = min(culprits, key=lambda culprit: culprit.similarity, default=None)
        score = sum(terms) / count if count else 1.0
        scores.append(ImageScore(index, score, len(objects[image.id]), missed, false, worst))
    return scores


def _to_xyxy(annotation: CocoAnnotation) -> tuple[float, float, float, float]:
    left, top, width, height = annotation.bbox
    return left, top, left + width, top + height


def _compare(
    annotation: CocoAnnotation,
    detection: Detection,
    class_name: str,
    keypoints: Sequence[str],
    area: Array,
    sigmas: Array,
) -> list[Culprit]:
    """Measure every labelled keypoint of a matched object."""
    true = np.array(annotation.keypoints, dtype=np.float64).reshape(-1, 3)
    predicted = np.array(detection.keypoints, dtype=np.float64).reshape(-1, 3)
    similarity = keypoint_similarities(true[None], predicted[None], area, sigmas)[0]
    distance = keypoint_distances(true, predicted)
    return [
        Culprit(
            class_name,
            name,
            float(similarity[i]),
            float(distance[i]),
            (float(true[i, 0]), float(true[i, 1])),
            (float(predicted[i, 0]), float(predicted[i, 1])),
        )
        for i, name in enumerate(keypoints)
        if true[i, 2] > 0
    ]


def choose_worst(scores: Sequence[ImageScore], count: int) -> list[ImageScore]:
    """Return the images with the lowest scores, the worst first."""
    return sorted(scores, key=lambda score: (score.score, score.index))[:count]


def choose_random(scores: Sequence[ImageScore], count: int, seed: int) -> list[ImageScore]:
    """Draw images without regard to how they went, in file order."""
    drawn = np.random.default_rng(seed).choice(len(scores), min(count, len(scores)), replace=False)
    return [scores[index] for index in sorted(drawn.tolist())]


def describe_score(score: ImageScore) -> str:
    """Return what a person reads below the picture."""
    if not score.objects and not score.false:
        return "no object, and none found"
    parts = [f"OKS {score.score:.2f}"]
    if score.missed_xyxy:
        parts.append(f"{len(score.missed_xyxy)} of {score.objects} not found")
    if score.false:
        parts.append(f"{score.false} found where there is none")
    if score.culprit and round(score.culprit.distance_px, 1) > 0:
        where = f"{score.culprit.class_name} {score.culprit.keypoint}"
        parts.append(f"worst: {where}, {score.culprit.distance_px:.1f} px off")
    return ", ".join(parts)


class TypicalPose(msgspec.Struct, frozen=True):
    """A real object that looks like most of its class, to draw figures on.

    Attributes:
        points: keypoint -> x, y in units of its box's diagonal, from the box's upper left corner.
        size: width and height of its box, in the same unit.
    """

    points: dict[str, Point]
    size: Point


def find_typical_pose(truth: CocoFile, category_id: int, limit: int = 300) -> TypicalPose | None:
    """Find the object whose keypoints are nearest to everybody else's, of those with most keypoints labelled.

    A mean would not do: of animals that face left and right it is a heap in the middle.

    Args:
        truth: COCO file.
        category_id: the class.
        limit: of so many objects at most, evenly spread, for the time it takes.

    Returns:
        The object; None where the class has none with a keypoint.
    """
    category = next(item for item in truth.categories if item.id == category_id)
    objects = [item for item in truth.annotations if item.category_id == category_id and item.num_keypoints]
    if not objects:
        return None
    most = max(item.num_keypoints for item in objects)
    objects = [item for item in objects if item.num_keypoints == most]
    objects = [objects[index] for index in np.unique(np.linspace(0, len(objects) - 1, limit).astype(int))]
    flat = np.array([item.keypoints for item in objects], dtype=np.float64).reshape(len(objects), -1, 3)
    boxes = np.array([item.bbox for item in objects])
    diagonals = np.hypot(boxes[:, 2], boxes[:, 3])
    points = np.where(flat[..., 2:] > 0, (flat[..., :2] - boxes[:, None, :2]) / diagonals[:, None, None], np.nan)
    apart = np.hypot(*np.moveaxis(points[:, None] - points[None], -1, 0))
    common = np.isfinite(apart).sum(-1)
    total = np.where(common > 0, np.nansum(apart, -1) / np.maximum(common, 1), np.inf)
    best = int(np.median(total, 1).argmin())
    drawn = {
        name: (float(points[best, i, 0]), float(points[best, i, 1]))
        for i, name in enumerate(category.keypoints)
        if np.isfinite(points[best, i, 0])
    }
    width, height = (float(value) for value in boxes[best, 2:] / diagonals[best])
    return TypicalPose(drawn, (width, height))
