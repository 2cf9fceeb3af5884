"""Predictions of a workspace's exports beside those of Ultralytics."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keypipe.dataset.coco import to_images
from keypipe.images.media import read_image
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from tasks.workspace.dataset import read_split


def assert_as_ultralytics_on_every_validation_image(root: Path, conf: float, tolerance_px: float = 0.5) -> int:
    """Compare what keypipe finds with the ONNX file with what Ultralytics finds with it, and with the weights.

    Args:
        root: a workspace with an export.
        conf: smallest score of an object.
        tolerance_px: largest difference of a coordinate, pixels of the image.

    Returns:
        The number of objects.
    """
    from ultralytics import YOLO

    onnx = root / "exports/model.onnx"
    model, info = load_onnx_model(onnx)
    predictor = Predictor(model, info)
    references = [YOLO(str(path), task="pose") for path in (onnx, root / "models/best.pt")]
    images = to_images(read_split(root, "val"))
    assert images
    n_found = 0
    for image in images:
        pixels = read_image(root / "data" / image.path)
        found = predictor.detect(pixels, Thresholds(conf))
        n_found += len(found)
        for reference in references:
            # rect=False: a checkpoint would otherwise get an input as narrow as the image.
            options = {"imgsz": info.imgsz, "conf": conf, "rect": False, "save": False, "verbose": False}
            expected = reference.predict(pixels, **options)[0]
            assert len(found) == len(expected), image.path
            if len(found):
                keypoints, boxes = expected.keypoints.xy.numpy(), expected.boxes.xyxy.numpy()
                np.testing.assert_allclose(found.keypoints[..., :2], keypoints, rtol=0, atol=tolerance_px)
                np.testing.assert_allclose(found.boxes_xyxy, boxes, rtol=0, atol=tolerance_px)
    return n_found
