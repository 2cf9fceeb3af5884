"""Predictions by exported models, without torch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.inference.batch import predict
    from keypipe.inference.parity import Comparison, compare_models
    from keypipe.inference.postprocess import Detections
    from keypipe.inference.predictor import ModelInfo, OnnxModel, Predictor, RawModel, load_onnx_model
    from keypipe.inference.results import Thresholds
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        batch=("predict",),
        parity=("Comparison", "compare_models"),
        postprocess=("Detections",),
        predictor=("ModelInfo", "OnnxModel", "Predictor", "RawModel", "load_onnx_model"),
        results=("Thresholds",),
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
    "predict",
]
