"""A validator that looks at mirrored images as well finds the same in an image and in its mirror image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.engine.settings import configure
from tests.pose_checkpoint import write_random_checkpoint

FLIP_IDX = (0, 2, 1)


@pytest.mark.parametrize(("family", "nms"), [("yolov8n-pose.yaml", None), ("yolo26n-pose.yaml", False)])
def test_found_in_an_image_is_what_is_found_in_its_mirror_image(tmp_path: Path, family: str, nms: bool | None) -> None:
    configure(tmp_path, 1)
    import torch

    from keypipe.inference.postprocess import mirror_back
    from tasks.engine.inference import TorchForward
    from tasks.engine.mirroring import MirroringValidator, _to_detections
    from tasks.engine.recording import RecordingValidator

    model = TorchForward(write_random_checkpoint(tmp_path / "random.pt", family=family, nms=nms)).module
    images = torch.from_numpy(np.random.default_rng(0).random((2, 3, 96, 160), dtype=np.float32))

    def look(images: Any, kind: Any, **options: Any) -> list[Any]:
        validator = kind(args={"task": "pose", "conf": 0.01, "imgsz": 160}, save_dir=tmp_path, **options)
        validator.nc, validator.kpt_shape, validator.end2end = 2, [3, 3], nms is False
        if "flip_idx" in options:
            validator._model, validator._images = model, images
        with torch.inference_mode():
            return [_to_detections(found) for found in validator.postprocess(model(images))]

    options = {"flip_idx": FLIP_IDX}
    straight = look(images, MirroringValidator, **options)
    mirrored = [mirror_back(found, 160, FLIP_IDX) for found in look(images.flip(3), MirroringValidator, **options)]
    alone = look(images, RecordingValidator)
    for one, other, plain in zip(straight, mirrored, alone, strict=True):
        assert len(one) == len(other) > 20
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        best = slice(0, 20)
        np.testing.assert_allclose(one.keypoints[best], other.keypoints[best], atol=0.01)
        assert np.abs(one.scores[best] - plain.scores[best]).max() > 1e-3, "it is not what one view shows"
