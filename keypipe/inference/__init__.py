"""Predictions by exported models, without torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.inference.model_info import ModelInfo
    from keypipe.inference.onnx_model import OnnxModel, load_onnx_model
    from keypipe.inference.parity import Comparison, compare_models
    from keypipe.inference.postprocess import Detections
    from keypipe.inference.predictor import Predictor, RawModel, Thresholds
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        model_info=("ModelInfo",),
        onnx_model=(
            "OnnxModel",
            "load_onnx_model",
        ),
        parity=(
            "Comparison",
            "compare_models",
        ),
        postprocess=("Detections",),
        predictor=(
            "Predictor",
            "RawModel",
            "Thresholds",
        ),
    )

__all__ = [
    "Comparison",
    "Detections",
    "ModelInfo",
    "OnnxModel",
    "Predictor",
    "RawModel",
    "Thresholds",
    "compare_models",
    "load_onnx_model",
]
