"""How good an epoch of a training is, by the evaluation that the stage validate makes of its best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keypipe.dataset.coco import CocoFile
from keypipe.evaluation.evaluation import Detection, evaluate, flatten_figures
from keypipe.keypoints.rows import Row
from keypipe.keypoints.skeleton import Schema
from tasks.grading.detections import to_detections
from tasks.grading.rules import Grading

FIGURES = ("oks_AP", "oks_AP50", "oks_AP75", "oks_AR", "within_0.1_diagonals")
"""Figures that an epoch can be chosen by, as ``metrics/validate.json`` names them."""
MEAN = "val_mean"
"""Under which the figures of the mean of the last epochs' weights stand, in the last epoch's record."""

_COCO_MAX_DETECTIONS = 20  # an image, of COCO's keypoint evaluation


def make_scorer(
    grading: Grading, conf: float, truth: CocoFile, schema: Schema
) -> Callable[[Sequence[Row]], dict[str, float]]:
    """Return what turns predictions for the validation split into ``FIGURES``.

    Args:
        grading: sigmas and area rule of the evaluation.
        conf: score from which a detection counts for the keypoint errors.
        truth: the split's COCO file.
        schema: classes and slots.
    """
    objects: dict[int, int] = {}
    for annotation in truth.annotations:
        objects[annotation.image_id] = objects.get(annotation.image_id, 0) + 1
    limit = max(_COCO_MAX_DETECTIONS, *objects.values(), 0)

    def score(predictions: Sequence[Row]) -> dict[str, float]:
        detections = keep_counting(to_detections(predictions, truth, schema), limit, conf)
        evaluation = evaluate(truth, detections, grading.sigmas, grading.area_factor, conf, area_rule=grading.area_rule)
        figures = flatten_figures(evaluation)
        return {name: float(figures[name]) for name in FIGURES if name in figures}

    return score


def keep_counting(detections: Sequence[Detection], limit: int, conf: float) -> list[Detection]:
    """Drop detections that no figure looks at: a young network makes hundreds an image.

    Args:
        detections: best score first within an image.
        limit: detections of a class in an image that count for AP and AR.
        conf: score from which all count.
    """
    seen: dict[tuple[int, int], int] = {}
    kept: list[Detection] = []
    for detection in detections:
        key = detection.image_id, detection.category_id
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= limit or detection.score >= conf:
            kept.append(detection)
    return kept
