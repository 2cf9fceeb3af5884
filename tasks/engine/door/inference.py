"""What validate and predictions ask of an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from keypipe.inference.model_info import ModelInfo
from keypipe.inference.predictor import RawModel
from tasks.engine import inference
from tasks.engine.inference import ValidationResult

__all__ = ["InferenceEngine", "ValidationResult", "engine"]


class InferenceEngine(Protocol):
    """Runs trained weights."""

    def configure(self, root: Path, threads: int | None = None) -> None:
        """Set the engine up for a workspace, before anything else; ``threads`` is None for every core."""
        ...

    def load_torch_model(self, weights: Path, device: str | None = None) -> tuple[RawModel, ModelInfo]:
        """Return the forward pass of weights and what they say of themselves; no device: a GPU where there is one.

        Raises:
            ModelError: they are not there, damaged, or no pose model.
        """
        ...

    def validate(
        self,
        weights: Path,
        data: Path,
        split: str,
        machine: Mapping[str, Any],
        *,
        batch: int,
        imgsz: int | None,
        scratch: Path,
        mirror: Sequence[int] | None = None,
    ) -> ValidationResult:
        """Run weights over a split; returns every prediction, and the engine's own figures.

        With ``mirror``, for every slot the one that it becomes in a mirror, every image is looked at mirrored as well.
        """
        ...

    def count_keypoints(self, path: Path) -> int:
        """Return for how many keypoints weights, or a model YAML, are.

        Raises:
            ModelError: it is not there, cannot be read, or is no pose model.
        """
        ...

    def hash_weights(self, path: Path) -> str:
        """Return the sha256 of what weights compute, whatever else their file says.

        Raises:
            ModelError: the file is not there, or cannot be read.
        """
        ...


def engine() -> InferenceEngine:
    """Return the engine that runs weights."""
    return inference
