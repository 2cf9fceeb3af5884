"""How good an epoch of a training is, by the evaluation that the stage validate makes of its best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ConfigDict, Field

from keypipe.coco import CocoFile
from keypipe.evaluation import Detection, evaluate, flatten_figures
from keypipe.oks import AREA_FACTOR
from keypipe.skeleton import Schema
from keypipe.yolo import expand_sigmas
from tasks.detections import to_detections
from tasks.engine.rows import Row
from tasks.params import Section

FIGURES = ("oks_AP", "oks_AP50", "oks_AP75", "oks_AR", "within_0.1_diagonals")
"""Figures that an epoch can be chosen by, as ``metrics/validate.json`` names them."""

_COCO_MAX_DETECTIONS = 20  # an image, of COCO's keypoint evaluation


class JudgeParams(Section):
    """What the section ``validate`` says of figures; its other keys are not the training's business."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    sigma: float | list[float] = 0.1
    area_factor: float = Field(default=AREA_FACTOR, gt=0, le=1)
    conf: float = Field(default=0.25, gt=0, lt=1)


def make_judge(params: JudgeParams, truth: CocoFile, schema: Schema) -> Callable[[Sequence[Row]], dict[str, float]]:
    """Return what turns predictions for the validation side into ``FIGURES``.

    Args:
        params: sigma, area rule and score of the evaluation.
        truth: the side's COCO file.
        schema: classes and slots.

    Raises:
        ConfigError: ``validate.sigma`` does not fit the keypoints.
    """
    sigmas = expand_sigmas(params.sigma, len(schema.slots), "validate.sigma")
    by_class = {name: sigmas[schema.slot_indices(name)] for name in schema.class_names}
    objects: dict[int, int] = {}
    for annotation in truth.annotations:
        objects[annotation.image_id] = objects.get(annotation.image_id, 0) + 1
    limit = max(_COCO_MAX_DETECTIONS, *objects.values(), 0)

    def judge(predictions: Sequence[Row]) -> dict[str, float]:
        detections = keep_counting(to_detections(predictions, truth, schema), limit, params.conf)
        figures = flatten_figures(evaluate(truth, detections, by_class, params.area_factor, params.conf))
        return {name: float(figures[name]) for name in FIGURES if name in figures}

    return judge


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
