"""Hashes of nested values."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def hash_nested(value: Any, digest: Any = None) -> str:
    """Hash tensors, arrays and plain values, in full precision and in order of their names."""
    import torch

    digest = digest or hashlib.sha256()
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        digest.update(str((value.dtype, value.shape)).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            hash_nested(value[key], digest)
    elif isinstance(value, list | tuple):
        for item in value:
            hash_nested(item, digest)
    else:
        digest.update(repr(value).encode())
    return str(digest.hexdigest())
