"""Predictions of the engine as detections for keypipe's evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keypipe.dataset.coco import CocoFile
from keypipe.dataset.yolo import view_names
from keypipe.evaluation.evaluation import Detection
from keypipe.keypoints.rows import Row
from keypipe.keypoints.skeleton import Schema


def to_detections(predictions: Sequence[Row], truth: CocoFile, schema: Schema) -> list[Detection]:
    """Give predictions their COCO ids, and each only the keypoints that its class has.

    Args:
        predictions: as the engine gives them.
        truth: the split's COCO file.
        schema: classes and slots.
    """
    names = view_names(image.file_name for image in truth.images)
    image_ids = {names[image.file_name]: image.id for image in truth.images}
    slots = {index: schema.slot_indices(name) for index, name in enumerate(schema.class_names)}
    detections: list[Detection] = []
    for name, class_id, score, (left, top, right, bottom), keypoints in predictions:
        own = np.array(keypoints)[slots[class_id]]
        box = (left, top, right - left, bottom - top)
        detections.append(Detection(image_ids[name], class_id + 1, score, box, own.ravel().tolist()))
    return sorted(detections, key=lambda item: (item.image_id, -item.score))
