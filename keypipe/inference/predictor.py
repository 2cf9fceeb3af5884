"""Prediction without torch: an ONNX model, or any other raw model, behind shared pre- and post-processing."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.errors import ConfigError, ModelError
from keypipe.inference.letterbox import Placement, letterbox
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.postprocess import (
    Detections,
    decode_end2end_output,
    decode_output,
    merge_views,
    mirror_back,
    suppress_overlaps,
)
from keypipe.keypoints.predictions import (
    DEFAULT_CONF,
    DEFAULT_KEYPOINT_CONF,
    DEFAULT_MAX_DET,
    PredictedKeypoint,
    Prediction,
)

DEFAULT_IOU = 0.7
_FAINT = 0.2
"""Share of the smallest score of interest from which an object of one view counts where two are merged."""


class Thresholds(msgspec.Struct, frozen=True):
    """What is looked at, what is kept and what is drawn.

    Attributes:
        conf: smallest score of an object.
        iou: overlap above which the weaker of two objects of a class is dropped.
        max_det: objects kept on an image at most.
        keypoint_conf: smallest confidence of a keypoint that is drawn; all of them are in the JSON.
        mirror: whether the mirrored image is looked at as well, see ``merge_views``; unset, and so in no file: no.
    """

    conf: float = DEFAULT_CONF
    iou: float = DEFAULT_IOU
    max_det: int = DEFAULT_MAX_DET
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF
    mirror: bool | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        for name in ("conf", "iou", "keypoint_conf"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} should be between 0 and 1, got {value:g}")
        if self.max_det < 1:
            raise ConfigError(f"max_det should be 1 or more, got {self.max_det}")


DEFAULT_THRESHOLDS = Thresholds()


class RawModel(Protocol):
    """A pose model from input tensor to raw output."""

    def __call__(self, images: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Run the model.

        Args:
            images: float32 (batch, 3, height, width), RGB, 0 to 1.

        Returns:
            float32 (batch, 4 + n_classes + 3 * n_slots, n_anchors), or of an end-to-end model
            (batch, n_found, 6 + 3 * n_slots); see ``keypipe.inference.postprocess``.
        """
        ...


class Predictor:
    """A raw model with what comes before and after it."""

    def __init__(self, model: RawModel, info: ModelInfo) -> None:
        self.model = model
        self.info = info
        self._slot_indices = {name: info.schema.slot_indices(name) for name in info.class_names}

    def detect(
        self,
        image_bgr: NDArray[np.uint8],
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
    ) -> Detections:
        """Find the objects of an image, as arrays.

        Args:
            image_bgr: uint8 (height, width, 3), BGR, upright.
            thresholds: which objects are kept.

        Returns:
            The detections in pixels of the image, all slots, best score first.

        Raises:
            ModelError: the model's output does not fit its classes and keypoints.
        """
        if thresholds.mirror is True:
            return self._detect_in_both(image_bgr, thresholds)
        tensor, placement = self.prepare(image_bgr)
        return self.finish(self.model(tensor)[0], placement, thresholds)

    def _detect_in_both(self, image_bgr: NDArray[np.uint8], thresholds: Thresholds) -> Detections:
        """Find the objects of an image as it is and mirrored, and merge them.

        A merged score is the mean of two: either view is asked for fainter objects than are wanted.
        """
        faint = msgspec.structs.replace(thresholds, conf=_FAINT * thresholds.conf, mirror=False)
        mirrored = self.detect(np.ascontiguousarray(image_bgr[:, ::-1]), faint)
        back = mirror_back(mirrored, image_bgr.shape[1], self.info.schema.flip_idx)
        merged = merge_views(self.detect(image_bgr, faint), back)
        kept = merged.take(np.flatnonzero(merged.scores > thresholds.conf))
        return suppress_overlaps(kept, thresholds.iou, thresholds.max_det)

    def prepare(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Placement]:
        """Do what comes before the model.

        Args:
            image_bgr: uint8 (height, width, 3), BGR, upright.

        Returns:
            The model's input, float32 (1, 3, height, width), and where the image lies in it.
        """
        return letterbox(image_bgr, self.info.imgsz)

    def finish(
        self,
        output: NDArray[np.float32],
        placement: Placement,
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
    ) -> Detections:
        """Do what comes after the model.

        Args:
            output: the model's raw output for one image; see ``RawModel``.
            placement: as ``prepare`` gave it.
            thresholds: which objects are kept.

        Returns:
            The detections in pixels of the image, all slots, best score first.

        Raises:
            ModelError: the model's output does not fit its classes and keypoints.
        """
        self._check_output(output)
        if self.info.end2end:
            found = decode_end2end_output(output, thresholds.conf, thresholds.max_det)
        else:
            candidates = decode_output(output, len(self.info.class_names), thresholds.conf)
            found = suppress_overlaps(candidates, thresholds.iou, thresholds.max_det)
        return _to_image_pixels(found, placement)

    def predict_image(
        self,
        image_bgr: NDArray[np.uint8],
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
    ) -> list[Prediction]:
        """Find the objects of an image, by name.

        Args:
            image_bgr: uint8 (height, width, 3), BGR, upright.
            thresholds: which objects are kept.

        Returns:
            The objects, best score first; slots that a class does not have are left out.
        """
        found = self.detect(image_bgr, thresholds)
        return [self._to_prediction(found, index) for index in range(len(found))]

    def _to_prediction(self, found: Detections, index: int) -> Prediction:
        class_name = self.info.class_names[int(found.class_ids[index])]
        names = self.info.schema.classes[class_name].keypoints
        rows = found.keypoints[index, self._slot_indices[class_name]].tolist()
        left, top, right, bottom = found.boxes_xyxy[index].tolist()
        return Prediction(
            class_name=class_name,
            score=float(found.scores[index]),
            box_xyxy=(left, top, right, bottom),
            keypoints=[PredictedKeypoint(name, *row) for name, row in zip(names, rows, strict=True)],
        )

    def _check_output(self, output: NDArray[np.float32]) -> None:
        n_slots, n_classes = len(self.info.slots), len(self.info.class_names)
        n_values = 3 * n_slots + (6 if self.info.end2end else 4 + n_classes)
        got = output.shape[1 if self.info.end2end else 0]
        if got != n_values:
            raise ModelError(
                f"the model gives {got} values for each object, but {n_classes} classes and {n_slots} keypoints"
                f" make {n_values}: it was made for another skeleton"
            )


def _to_image_pixels(found: Detections, placement: Placement) -> Detections:
    corners = placement.to_image(found.boxes_xyxy.reshape(-1, 2, 2))
    points = placement.to_image(found.keypoints[..., :2])
    return Detections(
        boxes_xyxy=corners.reshape(-1, 4),
        scores=found.scores,
        class_ids=found.class_ids,
        keypoints=np.concatenate([points, found.keypoints[..., 2:]], axis=-1),
    )
