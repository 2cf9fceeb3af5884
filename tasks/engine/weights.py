"""Checkpoints: how they are loaded and written, and what their weights are, whatever else the file says."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keypipe.errors import ModelError
from tasks.engine.settings import first_line

CHECKPOINT_KEY = "keypipe"
"""Entry of a checkpoint under which keypipe keeps the schema, the license and its version."""


def load_weights(weights: Path) -> Any:
    """Load a checkpoint as an Ultralytics model; nothing that is in it is run.

    Raises:
        ModelError: it is not there, damaged, no pose model, or asks for more than a model is made of.
    """
    from ultralytics import YOLO

    if not weights.exists():
        raise ModelError(f"{weights}: no such weights; train first with `keypipe run`")
    try:
        model = YOLO(str(weights), task="pose")
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ModelError(f"{weights}: {_tell_content(weights) or explain_refusal(error)}") from error
    if not hasattr(model.model, "kpt_shape"):
        raise ModelError(f"{weights}: not a pose model")
    return model


def has_second_head(network: Any) -> bool:
    """Tell whether a network of Ultralytics has a second head, which gives each object once (YOLO26)."""
    return getattr(network.model[-1], "one2one_cv2", None) is not None


def finds_once(model: Any) -> bool:
    """Tell whether an object is found once by these weights, so that no overlaps are to be suppressed.

    They were trained with ``nms: false``, and their best epoch was chosen by what their second head finds.

    Args:
        model: as ``load_weights`` gives it.
    """
    arguments = (model.ckpt or {}).get("train_args") or {}
    return arguments.get("nms") is False and has_second_head(model.model)


def count_keypoints(path: Path) -> int:
    """Return for how many keypoints weights, or a model YAML, are.

    Raises:
        ModelError: it is not there, damaged, no pose model, or asks for more than a model is made of.
    """
    return int(load_weights(path).model.kpt_shape[0])


def explain_refusal(error: BaseException) -> str:
    """Return in one line why a checkpoint was not loaded.

    A checkpoint is a pickle, which can name any function to be called. ``configure`` has Ultralytics and torch build
    nothing but tensors, plain values and the classes of their own networks.

    Args:
        error: what loading it raised.
    """
    asked = re.search(r"(?:GLOBAL |unsafe )([^\s(]+(?:\([^)]*\))?)", f"{error.__cause__}\n{error}")
    if asked is None and isinstance(error.__cause__, pickle.UnpicklingError):  # Ultralytics' own words are misleading
        return "not weights that Ultralytics can load: damaged, or of another make"
    if asked is None and "outside the supported Ultralytics checkpoint format" in str(error):
        return "no network of Ultralytics in it; use weights that Ultralytics or keypipe saved"
    if asked is None:
        return f"not weights that Ultralytics can load ({first_line(error).removeprefix('ERROR ❌️ ')[:300]})"
    return (
        f"not loaded, since it could run any program: it asks for {asked[1]}, which no model of Ultralytics has;"
        " use weights that Ultralytics or keypipe saved"
    )


def _tell_content(path: Path) -> str | None:
    """Say what a file is that is plainly neither weights nor a model YAML; None if that cannot be told."""
    if not path.is_file():
        return "a folder, not weights" if path.is_dir() else None
    if path.suffix in {".yaml", ".yml"}:
        keys = {*re.findall(rb"^(\w+)\s*:", path.read_bytes(), re.MULTILINE)}
        what = "the YAML of a dataset, not of a model" if keys & _OF_A_DATASET else "not the YAML of a model"
        return None if {b"backbone", b"head"} <= keys else f"{what}: a model's has `backbone` and `head`"
    with path.open("rb") as file:
        start = file.read(_START)
    return next((told for pattern, told in _NO_WEIGHTS if re.match(pattern, start)), None)


_OF_A_DATASET = {b"names", b"kpt_shape", b"train", b"val"}
_NO_WEIGHTS = (
    (rb"\Z", "an empty file, not weights"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the weights themselves; `git lfs pull` brings them"),
    (rb"(?i)\s*<(!doctype|html|\?xml)", "a web page, not weights, as a failed download leaves it; download it again"),
    (rb"[\t\n\r\x20-\x7e]+\Z", "a text, not weights"),
)
_START = 512  # bytes


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what is in a checkpoint of Ultralytics' make; nothing that is in it is run.

    Raises:
        ModelError: it is not there, damaged, no such checkpoint, or asks for more than a model is made of.
    """
    from ultralytics.nn.tasks import torch_safe_load

    try:
        checkpoint, _ = torch_safe_load(str(path), safe_only=True)
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ModelError(f"{path}: {_tell_content(path) or explain_refusal(error)}") from error
    return dict(checkpoint)


def write_checkpoint(source: Path, target: Path, description: Mapping[str, Any]) -> None:
    """Copy a checkpoint and let it carry what keypipe knows of it.

    Args:
        source: as the training left it.
        target: where to write it.
        description: plain values, kept under ``CHECKPOINT_KEY``: the schema, license and version.
    """
    import torch

    torch.save({**read_checkpoint(source), CHECKPOINT_KEY: dict(description)}, target)


def hash_weights(path: Path) -> str:
    """Return the sha256 over the state dict of a checkpoint.

    Two equal trainings leave different files, with other dates and paths in them; their weights hash equally. Name,
    type, shape and bytes of every tensor count, in the order of the names.

    Args:
        path: a checkpoint of Ultralytics' make; its averaged weights where it has them.

    Raises:
        ModelError: it is not there, damaged, no such checkpoint, or asks for more than a model is made of.
    """
    import torch

    checkpoint = read_checkpoint(path)
    network = checkpoint.get("ema") or checkpoint.get("model")
    if not isinstance(network, torch.nn.Module):
        raise ModelError(f"{path}: not a checkpoint of Ultralytics: no network in it")
    state = network.state_dict()
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
