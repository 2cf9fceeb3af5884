"""Keypoint evaluation on original pixels: COCO's AP and AR by OKS, and plain errors of every keypoint."""

from __future__ import annotations

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.coco import CocoAnnotation, CocoCategory, CocoFile
from keypipe.oks import AREA_FACTOR, Array, keypoint_distances

MATCH_IOU = 0.5
CLOSE_SHARE = 0.1
_COCO_MAX_DETS = 20  # COCO's limit for keypoints; raised where an image holds more objects
_STATS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


class Detection(msgspec.Struct, frozen=True):
    """A predicted object in original pixels.

    Attributes:
        image_id: COCO image id.
        category_id: COCO category id.
        score: confidence in [0, 1].
        bbox: left, top, width, height.
        keypoints: x, y, confidence for each of the category's keypoints.
    """

    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float]
    keypoints: list[float]


class KeypointError(msgspec.Struct):
    """How far one keypoint of one class is off.

    Attributes:
        class_name: the class.
        keypoint: its name.
        labelled: labelled keypoints in the truth.
        found: those whose object was detected.
        median_px: median distance over the found ones, pixels; None when none was found.
        median_diagonals: the same in diagonals of the true box.
        within: share of the labelled ones within ``CLOSE_SHARE`` diagonals; those of missed objects count as not.
    """

    class_name: str
    keypoint: str
    labelled: int
    found: int
    median_px: float | None
    median_diagonals: float | None
    within: float | None


class Evaluation(msgspec.Struct):
    """The figures of one side of the split.

    Attributes:
        images: number of images.
        instances: number of true objects.
        sigmas: evaluation sigmas per class, in the order of its keypoints.
        area_factor: share of the box's area that stands for the object's in OKS.
        max_detections: detections per image that count for AP and AR.
        conf: detections at or above this score count for the keypoint errors.
        oks: COCO's ten figures, mean over the classes; None where nothing could be measured.
        oks_by_class: the same for each class.
        within: share of all labelled keypoints within ``CLOSE_SHARE`` diagonals of the true box.
        median_diagonals: median error of all found keypoints in diagonals.
        keypoints: errors per class and keypoint.
        detected: share of the true objects that a detection covers with IoU >= ``MATCH_IOU``.
    """

    images: int
    instances: int
    sigmas: dict[str, list[float]]
    area_factor: float
    max_detections: int
    conf: float
    oks: dict[str, float | None]
    oks_by_class: dict[str, dict[str, float | None]]
    within: float | None
    median_diagonals: float | None
    keypoints: list[KeypointError]
    detected: float | None


def evaluate(
    truth: CocoFile,
    detections: Sequence[Detection],
    sigmas: Mapping[str, Array],
    area_factor: float = AREA_FACTOR,
    conf: float = 0.25,
) -> Evaluation:
    """Evaluate detections against the truth.

    Args:
        truth: COCO file of one side; areas are those of the boxes.
        detections: all detections, low scores included.
        sigmas: per class name, one value per keypoint.
        area_factor: share of the box's area that stands for the object's in OKS.
        conf: score from which a detection counts for the keypoint errors.

    Returns:
        COCO's figures and the keypoint errors.
    """
    by_image: dict[int, int] = defaultdict(int)
    for annotation in truth.annotations:
        by_image[annotation.image_id] += 1
    max_detections = max(_COCO_MAX_DETS, *by_image.values(), 0)
    by_class = {
        category.name: _coco_figures(truth, detections, category, sigmas[category.name], area_factor, max_detections)
        for category in truth.categories
    }
    matches = match_instances(truth, [item for item in detections if item.score >= conf])
    errors = [error for category in truth.categories for error in _errors(truth, matches, category)]
    labelled, close, relative = _pooled(truth, matches)
    return Evaluation(
        images=len(truth.images),
        instances=len(truth.annotations),
        sigmas={name: [float(value) for value in values] for name, values in sigmas.items()},
        area_factor=area_factor,
        max_detections=max_detections,
        conf=conf,
        oks={key: _mean(figures[key] for figures in by_class.values()) for key in _STATS},
        oks_by_class=by_class,
        within=close / labelled if labelled else None,
        median_diagonals=_median(relative),
        keypoints=errors,
        detected=len(matches) / len(truth.annotations) if truth.annotations else None,
    )


def _coco_figures(
    truth: CocoFile,
    detections: Sequence[Detection],
    category: CocoCategory,
    sigmas: Array,
    area_factor: float,
    max_detections: int,
) -> dict[str, float | None]:
    """COCO's figures for one class alone, since COCO's evaluation knows one list of sigmas."""
    from faster_coco_eval import COCO, COCOeval_faster

    annotations = [
        {**msgspec.structs.asdict(item), "area": item.area * area_factor}
        for item in truth.annotations
        if item.category_id == category.id
    ]
    results = [msgspec.structs.asdict(item) for item in detections if item.category_id == category.id]
    if not annotations:
        return dict.fromkeys(_STATS)
    if not results:
        return dict.fromkeys(_STATS, 0.0)
    images = [{"id": image.id, "width": image.width, "height": image.height} for image in truth.images]
    with contextlib.redirect_stdout(io.StringIO()):
        coco_truth = COCO(
            {"images": images, "annotations": annotations, "categories": [msgspec.to_builtins(category)], "info": {}}
        )
        # COCO takes a keypoint result's third value as visibility, which evaluation does not look at.
        coco_results = coco_truth.loadRes(results)
        run = COCOeval_faster(coco_truth, coco_results, iouType="keypoints", kpt_oks_sigmas=list(sigmas))
        run.params.maxDets = [max_detections]
        run.evaluate()
        run.accumulate()
        run.summarize()
    # COCO writes -1 where there is nothing to measure, such as no object of medium size.
    return {key: None if value < 0 else float(value) for key, value in zip(_STATS, run.stats, strict=False)}


def match_instances(truth: CocoFile, detections: Iterable[Detection]) -> list[tuple[CocoAnnotation, Detection]]:
    """Match true objects with detections of their class by box.

    Detections choose in order of their score, each the free object that it covers best with IoU >= ``MATCH_IOU``.

    Args:
        truth: COCO file.
        detections: those that count.

    Returns:
        Pairs; an object or a detection is in one at most.
    """
    objects: dict[tuple[int, int], list[CocoAnnotation]] = defaultdict(list)
    for annotation in truth.annotations:
        objects[annotation.image_id, annotation.category_id].append(annotation)
    pairs: list[tuple[CocoAnnotation, Detection]] = []
    for detection in sorted(detections, key=lambda item: -item.score):
        free = objects[detection.image_id, detection.category_id]
        if not free:
            continue
        overlap = box_iou(np.array([detection.bbox]), np.array([item.bbox for item in free]))[0]
        best = int(overlap.argmax())
        if overlap[best] >= MATCH_IOU:
            pairs.append((free.pop(best), detection))
    return pairs


def box_iou(first_xywh: Array, second_xywh: Array) -> Array:
    """Intersection over union of boxes.

    Args:
        first_xywh: float64 (n, 4), left, top, width, height.
        second_xywh: float64 (m, 4).

    Returns:
        float64 (n, m) in [0, 1].
    """
    first, second = first_xywh[:, None], second_xywh[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0.0)


def _distances(pair: tuple[CocoAnnotation, Detection]) -> tuple[Array, float]:
    annotation, detection = pair
    truth = np.array(annotation.keypoints, dtype=float).reshape(-1, 3)
    predicted = np.array(detection.keypoints, dtype=float).reshape(-1, 3)
    return keypoint_distances(truth, predicted), math.hypot(annotation.bbox[2], annotation.bbox[3])


def _errors(
    truth: CocoFile, matches: Sequence[tuple[CocoAnnotation, Detection]], category: CocoCategory
) -> list[KeypointError]:
    n_keypoints = len(category.keypoints)
    labelled = np.zeros(n_keypoints, dtype=int)
    for annotation in truth.annotations:
        if annotation.category_id == category.id:
            labelled += np.array(annotation.keypoints[2::3]) > 0
    measured = [_distances(pair) for pair in matches if pair[0].category_id == category.id]
    pixels = np.array([distance for distance, _ in measured]).reshape(-1, n_keypoints)
    diagonals = pixels / np.array([diagonal for _, diagonal in measured]).reshape(-1, 1)
    return [
        KeypointError(
            category.name,
            name,
            int(labelled[index]),
            int(np.isfinite(pixels[:, index]).sum()),
            _median(pixels[:, index]),
            _median(diagonals[:, index]),
            float((diagonals[:, index] <= CLOSE_SHARE).sum() / labelled[index]) if labelled[index] else None,
        )
        for index, name in enumerate(category.keypoints)
    ]


def _pooled(
    truth: CocoFile, matches: Sequence[tuple[CocoAnnotation, Detection]]
) -> tuple[int, int, NDArray[np.float64]]:
    labelled = sum(annotation.num_keypoints for annotation in truth.annotations)
    relative = [distance / diagonal for distance, diagonal in map(_distances, matches)]
    pooled = np.concatenate(relative) if relative else np.empty(0)
    return labelled, int((pooled <= CLOSE_SHARE).sum()), pooled


def _median(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def flatten_figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return the headline figures by their metric names, without those that could not be measured."""
    figures = {f"oks_{key}": value for key, value in evaluation.oks.items()}
    figures["within_0.1_diagonals"] = evaluation.within
    figures["median_error_diagonals"] = evaluation.median_diagonals
    figures["detected"] = evaluation.detected
    return {key: value for key, value in figures.items() if value is not None}
