"""A validator that looks at every image mirrored as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from keypipe.inference.postprocess import Detections, merge_views, mirror_back
from tasks.engine.recording import RecordingValidator


class MirroringValidator(RecordingValidator):
    """Keeps what is found in both views of an image, merged as ``keypipe.inference.postprocess.merge_views`` does."""

    def __init__(self, *arguments: Any, flip_idx: Sequence[int], **options: Any) -> None:
        """Take over which slot each becomes in a mirror; all else is Ultralytics'."""
        super().__init__(*arguments, **options)
        self._flip_idx = flip_idx
        self._model: Any = None
        self._images: Any = None

    def init_metrics(self, model: Any) -> None:
        """Start anew, and keep the model."""
        super().init_metrics(model)
        self._model = model

    def preprocess(self, batch: Any) -> Any:
        """Prepare a batch, and keep its images."""
        prepared = super().preprocess(batch)
        self._images = prepared["img"]
        return prepared

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """Find objects in the images as they are and mirrored, and merge them."""
        plain = super().postprocess(preds)
        mirrored = super().postprocess(self._model(self._images.flip(3)))
        width_px = self._images.shape[3]
        return [
            _to_tensors(
                merge_views(_to_detections(one), mirror_back(_to_detections(other), width_px, self._flip_idx)),
                self.args.max_det,
                one["conf"].device,
            )
            for one, other in zip(plain, mirrored, strict=True)
        ]


def _to_detections(found: dict[str, torch.Tensor]) -> Detections:
    boxes, scores, classes, keypoints = (
        found[name].float().cpu().numpy() for name in ("bboxes", "conf", "cls", "keypoints")
    )
    return Detections(boxes, scores, classes.astype("int64"), keypoints)


def _to_tensors(found: Detections, max_det: int, device: torch.device) -> dict[str, torch.Tensor]:
    values = {
        "bboxes": found.boxes_xyxy,
        "conf": found.scores,
        "cls": found.class_ids.astype("float32"),
        "keypoints": found.keypoints,
    }
    return {name: torch.from_numpy(value[:max_det]).to(device) for name, value in values.items()}
