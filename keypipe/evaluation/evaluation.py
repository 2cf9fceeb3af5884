"""Keypoint evaluation on original pixels: COCO's AP and AR by OKS, and plain errors of every keypoint."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from keypipe.dataset.coco import CocoCategory, CocoFile
from keypipe.evaluation.average_precision import count_detections
from keypipe.evaluation.keypoint_errors import (
    CLOSE_SHARE,
    PCK_SHARES,
    Errors,
    GroupError,
    KeypointError,
    KeypointTable,
    Pairs,
    Reliability,
    measure_reliability,
    pck_name,
    summarise_all,
    summarise_groups,
    summarise_keypoints,
    tabulate_keypoints,
)
from keypipe.evaluation.matching import MATCH_IOU, Detection, confuse_classes, match_instances
from keypipe.evaluation.oks import AREA_FACTOR, AreaRule, object_areas
from keypipe.keypoints.boxes import Array
from keypipe.keypoints.predictions import DEFAULT_KEYPOINT_CONF

__all__ = [
    "CLOSE_SHARE",
    "MATCH_IOU",
    "Detection",
    "Errors",
    "Evaluation",
    "KeypointError",
    "evaluate",
    "evaluate_in_full",
    "flatten_figures",
    "flatten_rule",
    "match_instances",
]

_STATS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


class Evaluation(msgspec.Struct):
    """The figures of one split.

    Attributes:
        images: number of images.
        instances: number of true objects.
        sigmas: evaluation sigmas per class, in the order of its keypoints.
        area_factor: share of the box's area that stands for the object's in OKS, under the rule ``box``.
        max_detections: detections per image that count for AP and AR.
        conf: detections at or above this score count for the keypoint errors.
        oks: COCO's ten figures, mean over the classes; None where nothing could be measured.
        oks_by_class: the same for each class.
        within: share of all labelled keypoints within ``CLOSE_SHARE`` diagonals of the true box.
        median_diagonals: median error of all found keypoints in diagonals.
        keypoints: errors per class and keypoint.
        detected: share of the true objects that a detection covers with IoU >= ``MATCH_IOU``.
        area_rule: what the object's area is in OKS.
        keypoint_conf: confidence from which a keypoint counts as shown.
        all_keypoints: errors of all keypoints together.
        groups: errors by class, size and visibility.
        reliability: how well the keypoint confidence keeps its word.
        confusion: a row for each true class and one for no object; a column for each predicted class and one for not
            found.
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
    area_rule: AreaRule
    keypoint_conf: float
    all_keypoints: Errors
    groups: list[GroupError]
    reliability: Reliability
    confusion: list[list[int]]


def evaluate(
    truth: CocoFile,
    detections: Sequence[Detection],
    sigmas: Mapping[str, Array],
    area_factor: float = AREA_FACTOR,
    conf: float = 0.25,
    *,
    area_rule: AreaRule = "box",
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF,
    pairs: Pairs | None = None,
) -> Evaluation:
    """Evaluate detections against the truth.

    Args:
        truth: COCO file of one split.
        detections: all detections, low scores included.
        sigmas: per class name, one value per keypoint.
        area_factor: share of the box's area that stands for the object's in OKS, under the rule ``box``.
        conf: score from which a detection counts for the keypoint errors.
        area_rule: ``box``, or ``coco`` for the areas that the file has.
        keypoint_conf: confidence from which a keypoint counts as shown.
        pairs: by class name the left/right pairs; None: those that the names tell.

    Returns:
        COCO's figures and the keypoint errors.
    """
    return evaluate_in_full(
        truth,
        detections,
        sigmas,
        area_factor,
        conf,
        area_rule=area_rule,
        keypoint_conf=keypoint_conf,
        pairs=pairs,
    )[0]


def evaluate_in_full(
    truth: CocoFile,
    detections: Sequence[Detection],
    sigmas: Mapping[str, Array],
    area_factor: float = AREA_FACTOR,
    conf: float = 0.25,
    *,
    area_rule: AreaRule = "box",
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF,
    pairs: Pairs | None = None,
) -> tuple[Evaluation, list[KeypointTable]]:
    """Evaluate detections against the truth, and keep what each keypoint was measured to be; see ``evaluate``.

    Returns:
        The figures, and the tables of the keypoint errors that they sum up, by class.
    """
    max_detections = count_detections(truth)
    by_class = {
        category.name: _coco_figures(
            truth, detections, category, sigmas[category.name], area_rule, area_factor, max_detections
        )
        for category in truth.categories
    }
    counted = [item for item in detections if item.score >= conf]
    matches = match_instances(truth, counted)
    tables = tabulate_keypoints(truth, matches, sigmas, area_factor, area_rule=area_rule, pairs=pairs)
    together = summarise_all(tables, keypoint_conf)
    evaluation = Evaluation(
        images=len(truth.images),
        instances=len(truth.annotations),
        sigmas={name: [float(value) for value in values] for name, values in sigmas.items()},
        area_factor=area_factor,
        max_detections=max_detections,
        conf=conf,
        oks={key: _mean(figures[key] for figures in by_class.values()) for key in _STATS},
        oks_by_class=by_class,
        within=together.within,
        median_diagonals=together.median_diagonals,
        keypoints=summarise_keypoints(tables, keypoint_conf),
        detected=len(matches) / len(truth.annotations) if truth.annotations else None,
        area_rule=area_rule,
        keypoint_conf=keypoint_conf,
        all_keypoints=together,
        groups=summarise_groups(tables, keypoint_conf),
        reliability=measure_reliability(tables),
        confusion=confuse_classes(truth, counted).tolist(),
    )
    return evaluation, tables


def _coco_figures(
    truth: CocoFile,
    detections: Sequence[Detection],
    category: CocoCategory,
    sigmas: Array,
    area_rule: AreaRule,
    area_factor: float,
    max_detections: int,
) -> dict[str, float | None]:
    """COCO's figures for one class alone, since COCO's evaluation knows one list of sigmas."""
    from faster_coco_eval import COCO, COCOeval_faster

    objects = [item for item in truth.annotations if item.category_id == category.id]
    areas = object_areas(objects, area_rule, area_factor)
    annotations = [
        {**msgspec.structs.asdict(item), "area": float(area)} for item, area in zip(objects, areas, strict=True)
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


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def describe_rule(evaluation: Evaluation) -> str:
    """Return how OKS was measured, to stand beside its figures."""
    values = sorted({value for values in evaluation.sigmas.values() for value in values})
    sigmas = f"{values[0]:g}" if len(values) == 1 else f"{values[0]:.3g} to {values[-1]:.3g} by keypoint"
    area = f"{evaluation.area_factor:g} of the box" if evaluation.area_rule == "box" else "as annotated"
    return f"sigma {sigmas}, area {area}"


def flatten_rule(evaluation: Evaluation) -> dict[str, float]:
    """Return as numbers how the figures were measured, to be kept beside them."""
    values = [value for values in evaluation.sigmas.values() for value in values]
    box = evaluation.area_rule == "box"
    return {
        "sigma_min": min(values),
        "sigma_max": max(values),
        **({"area_share_of_box": evaluation.area_factor} if box else {"area_as_annotated": 1.0}),
        "max_detections": float(evaluation.max_detections),
        "conf": evaluation.conf,
    }


def flatten_figures(evaluation: Evaluation) -> dict[str, Any]:
    """Return the headline figures by their metric names, without those that could not be measured."""
    together = evaluation.all_keypoints
    figures = {f"oks_{key}": value for key, value in evaluation.oks.items()}
    figures |= {pck_name(share): together.pck[f"{share:g}"] for share in PCK_SHARES}
    figures["median_error_diagonals"] = evaluation.median_diagonals
    figures["p95_error_diagonals"] = together.p95_diagonals
    figures["median_error_px"] = together.median_px
    figures["p95_error_px"] = together.p95_px
    figures["keypoints_missed"] = together.missed
    figures["keypoints_swapped"] = together.swapped
    figures["keypoint_confidence_ece"] = evaluation.reliability.ece_labelled
    figures["detected"] = evaluation.detected
    return {key: value for key, value in figures.items() if value is not None}
