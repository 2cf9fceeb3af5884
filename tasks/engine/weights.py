"""What a checkpoint's weights are, whatever else the file says."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from keypipe.errors import ModelError


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
