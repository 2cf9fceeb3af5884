"""Checkpoints: how they are loaded and written, and what their weights are, whatever else the file says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keypipe.errors import ModelError
from tasks.engine.settings import first_line

CHECKPOINT_KEY = "keypipe"
"""Entry of a checkpoint under which keypipe keeps the schema, the license and its version."""


def load_weights(weights: Path) -> Any:
    """Load a checkpoint as an Ultralytics model.

    Raises:
        ModelError: it is not there, damaged, or no pose model.
    """
    from ultralytics import YOLO

    if not weights.exists():
        raise ModelError(f"{weights}: no such weights; train first with `keypipe run`")
    try:
        model = YOLO(str(weights), task="pose")
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ModelError(f"{weights}: not weights that Ultralytics can load ({first_line(error)})") from error
    if not hasattr(model.model, "kpt_shape"):
        raise ModelError(f"{weights}: not a pose model")
    return model


def write_checkpoint(source: Path, target: Path, description: Mapping[str, Any]) -> None:
    """Copy a checkpoint and let it carry what keypipe knows of it.

    Args:
        source: as the training left it.
        target: where to write it.
        description: plain values, kept under ``CHECKPOINT_KEY``: the schema, license and version.
    """
    import torch
    from ultralytics.utils.patches import torch_load

    checkpoint = torch_load(source, map_location="cpu", weights_only=False)
    torch.save({**checkpoint, CHECKPOINT_KEY: dict(description)}, target)


def hash_weights(path: Path) -> str:
    """Return the sha256 over the state dict of a checkpoint.

    Two equal trainings leave different files, with other dates and paths in them; their weights hash equally. Name,
    type, shape and bytes of every tensor count, in the order of the names.

    Args:
        path: a checkpoint of Ultralytics' make; its averaged weights where it has them.

    Raises:
        ModelError: it is not there, damaged, or no such checkpoint.
    """
    import torch
    from ultralytics.utils.patches import torch_load

    try:
        checkpoint: Any = torch_load(path, map_location="cpu", weights_only=False)
        state = (checkpoint.get("ema") or checkpoint["model"]).state_dict()
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ModelError(f"{path}: not a checkpoint whose weights can be read: {error}") from error
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
