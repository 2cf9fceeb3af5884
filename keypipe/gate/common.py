"""What models of different schemas have in common: the classes and keypoints, by name, that all of them know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from keypipe.dataset.coco import CocoAnnotation, CocoCategory, CocoFile
from keypipe.errors import DatasetError
from keypipe.evaluation.matching import Detection
from keypipe.keypoints.boxes import Array


class Predictions(msgspec.Struct, frozen=True):
    """What a model found on the test images.

    Attributes:
        model: what it is called in messages, such as ``champion``.
        categories: its classes, with the ids and keypoints that its detections have (``coco.to_categories``).
        detections: all of them, low scores included; image ids as in the truth.
    """

    model: str
    categories: Sequence[CocoCategory]
    detections: Sequence[Detection]


class Common(msgspec.Struct, frozen=True):
    """Truth and detections, reduced to what all models know.

    Attributes:
        truth: every image, and the objects of common classes with their common keypoints.
        detections: by model, with the truth's ids and keypoints.
        sigmas: by class name, one value per common keypoint.
        left_out: classes and keypoints that some model does not know, a sentence each.
    """

    truth: CocoFile
    detections: dict[str, list[Detection]]
    sigmas: dict[str, Array]
    left_out: list[str]


def reduce_to_common(truth: CocoFile, models: Sequence[Predictions], sigmas: Mapping[str, Array]) -> Common:
    """Keep what all models know, in the order of the truth.

    Args:
        truth: COCO file of the test images.
        models: those that are compared.
        sigmas: per class name of the truth, one value per keypoint.

    Returns:
        The common part; with equal schemas that is everything.

    Raises:
        DatasetError: the models have no keypoint in common.
    """
    known = {model.model: {item.name: item for item in model.categories} for model in models}
    kept: dict[str, list[str]] = {}
    left_out: list[str] = []
    for category in truth.categories:
        without = [name for name, classes in known.items() if category.name not in classes]
        if without:
            left_out.append(f"class {category.name}: unknown to the {' and the '.join(without)}")
            continue
        kept[category.name] = []
        for keypoint in category.keypoints:
            without = [name for name, classes in known.items() if keypoint not in classes[category.name].keypoints]
            if without:
                left_out.append(f"{category.name} {keypoint}: unknown to the {' and the '.join(without)}")
            else:
                kept[category.name].append(keypoint)
    kept = {name: keypoints for name, keypoints in kept.items() if keypoints}
    if not kept:
        raise DatasetError(
            f"{' and '.join(known)} have no class with a common keypoint, so they cannot be compared;"
            " promote a model of the new schema by hand: keypipe promote VERSION --why"
        )
    ids = {category.name: category.id for category in truth.categories}
    return Common(
        _reduce_truth(truth, kept),
        {model.model: _reduce_detections(model, kept, ids) for model in models},
        {
            item.name: np.asarray(sigmas[item.name])[[item.keypoints.index(name) for name in kept[item.name]]]
            for item in truth.categories
            if item.name in kept
        },
        left_out,
    )


def _reduce_truth(truth: CocoFile, kept: Mapping[str, Sequence[str]]) -> CocoFile:
    places = {
        item.id: [item.keypoints.index(name) for name in kept[item.name]]
        for item in truth.categories
        if item.name in kept
    }
    annotations: list[CocoAnnotation] = []
    for item in truth.annotations:
        if item.category_id in places:
            rows = np.reshape(np.array(item.keypoints, dtype=np.float64), (-1, 3))[places[item.category_id]]
            labelled = int((rows[:, 2] > 0).sum())
            annotations.append(msgspec.structs.replace(item, keypoints=rows.ravel().tolist(), num_keypoints=labelled))
    categories = [
        CocoCategory(item.id, item.name, list(kept[item.name])) for item in truth.categories if item.name in kept
    ]
    return CocoFile(truth.images, annotations, categories, truth.info)


def _reduce_detections(
    model: Predictions, kept: Mapping[str, Sequence[str]], ids: Mapping[str, int]
) -> list[Detection]:
    places = {
        item.id: (ids[item.name], [item.keypoints.index(name) for name in kept[item.name]])
        for item in model.categories
        if item.name in kept
    }
    reduced: list[Detection] = []
    for item in model.detections:
        if item.category_id in places:
            category_id, rows = places[item.category_id]
            points = np.reshape(item.keypoints, (-1, 3))[rows].ravel().tolist()
            reduced.append(msgspec.structs.replace(item, category_id=category_id, keypoints=points))
    return reduced
