"""Validation and the bare forward pass of trained weights: the engine behind ``tasks.engine.door.inference``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.inference.model_info import METADATA_KEY, ModelInfo, parse_model_info
from keypipe.inference.predictor import RawModel
from keypipe.keypoints.rows import Row
from tasks.engine.settings import configure
from tasks.engine.weights import CHECKPOINT_KEY, count_keypoints, finds_once, hash_weights, load_weights

__all__ = [
    "TorchForward",
    "ValidationResult",
    "configure",
    "count_keypoints",
    "hash_weights",
    "load_torch_model",
    "validate",
]


class ValidationResult(msgspec.Struct):
    """What validating one split gave.

    Attributes:
        metrics: Ultralytics' own figures, ``box/…`` and ``pose/…``.
        predictions: rows of image file name below ``images/<split>``, class id, score, box (left, top, right, bottom)
            and keypoints (slots x 3), all in original pixels.
    """

    metrics: dict[str, float]
    predictions: list[Row]


def validate(
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
    """Validate weights on one split, keeping every prediction in original pixels.

    Args:
        weights: a checkpoint.
        data: ``data.yaml`` of the YOLO folder.
        split: ``train``, ``val`` or ``test``.
        machine: device and workers.
        batch: images a batch.
        imgsz: input size in pixels; None for the one it was trained with.
        scratch: folder for what Ultralytics writes.
        mirror: look at every image mirrored as well: for every slot the slot that it becomes; None: do not.
    """
    from tasks.engine.mirroring import MirroringValidator
    from tasks.engine.recording import RecordingValidator

    rows: list[Row] = []
    model = load_weights(weights)
    model.add_callback("on_val_end", lambda validator: rows.extend(validator.rows))
    arguments = {
        **machine,
        "data": str(data),
        "split": split,
        "batch": batch,
        "nms": False if finds_once(model) else None,
        "plots": False,
        "verbose": False,
        "project": str(scratch),
        "name": split,
        "exist_ok": True,
    }
    if imgsz:
        arguments["imgsz"] = imgsz
    validator = RecordingValidator if mirror is None else partial(MirroringValidator, flip_idx=mirror)
    result = model.val(validator=validator, **arguments)
    return ValidationResult(rename_metrics(result.results_dict), rows)


def rename_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Rename Ultralytics' figures: ``metrics/mAP50(P)`` -> ``pose/mAP50``, ``metrics/recall(B)`` -> ``box/recall``."""
    kinds = {"(B)": "box", "(P)": "pose"}
    renamed: dict[str, float] = {}
    for key, value in metrics.items():
        name = key.removeprefix("metrics/")
        kind = kinds.get(name[-3:])
        renamed[f"{kind}/{name[:-3]}" if kind else name] = float(value)
    return renamed


class TorchForward:
    """The raw forward pass of a checkpoint, for comparing exports with it and for predicting.

    Calling it maps float32 (batch, 3, height, width) in [0, 1], RGB, to what ``keypipe.inference.predictor.RawModel``
    gives: of weights that find an object once, as an end-to-end model.
    """

    def __init__(self, weights: Path, device: str = "cpu", threads: int | None = None) -> None:
        """Load a checkpoint.

        Args:
            weights: the checkpoint.
            device: such as ``cpu`` or ``cuda:0``.
            threads: CPU threads to compute with; None leaves torch's setting alone.
        """
        import torch

        model = load_weights(weights)
        network = model.model
        network.end2end = finds_once(model)
        # Convolutions are faster with channels last; Ultralytics' own predictor sets it on the same devices.
        fast = device == "cpu" or device.startswith("cuda")
        layout = torch.channels_last if fast else torch.contiguous_format
        self.module = network.float().fuse(verbose=False).eval().to(device, memory_format=layout)
        self.device = device
        self._threads = threads
        self._torch = torch

    def __call__(self, images: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Run the network."""
        if self._threads and self._torch.get_num_threads() != self._threads:
            self._torch.set_num_threads(self._threads)
        with self._torch.inference_mode():
            out = self.module(self._torch.from_numpy(images).to(self.device))
        raw = out[0] if isinstance(out, list | tuple) else out
        return np.ascontiguousarray(raw.cpu().numpy(), dtype=np.float32)


def load_torch_model(weights: Path, device: str | None = None) -> tuple[RawModel, ModelInfo]:
    """Load a checkpoint for ``keypipe.inference.predictor.Predictor``.

    Args:
        weights: the checkpoint.
        device: such as ``cpu`` or ``0``; None for a GPU where there is one.

    Returns:
        The forward pass and what the checkpoint says of itself.

    Raises:
        ModelError: it is not there, damaged, or no pose model.
    """
    import torch

    chosen = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(weights)
    network = model.model
    size = model.overrides.get("imgsz", 640)
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    metadata = {
        "task": "pose",
        "names": str(dict(model.names)),
        "kpt_shape": str(list(network.kpt_shape)),
        "kpt_names": str(getattr(network, "kpt_names", None)),
        "imgsz": str([height, width]),
        "end2end": str(finds_once(model)),
    }
    own = (model.ckpt or {}).get(CHECKPOINT_KEY)
    if own:
        metadata[METADATA_KEY] = json.dumps(own, ensure_ascii=False)
    return TorchForward(weights, f"cuda:{chosen}" if chosen.isdigit() else chosen), parse_model_info(metadata)
