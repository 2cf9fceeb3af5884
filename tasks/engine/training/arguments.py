"""Which train arguments Ultralytics has, and which of them are keypipe's to set."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import yaml

from keypipe.errors import ModelError

RESERVED = {
    "cfg": "give the arguments themselves",
    "data": "the dataset is the one that split made",
    "device": "a setting of the machine: put it into local.yaml",
    "workers": "a setting of the machine: put it into local.yaml",
    "cache": "a setting of the machine: put it into local.yaml",
    "exist_ok": "keypipe decides where results go",
    "mode": "the train stage trains",
    "name": "keypipe decides where results go",
    "pretrained": "give the weights as train.model",
    "project": "keypipe decides where results go",
    "resume": "a killed run of the same data and parameters is resumed anyway",
    "save": "checkpoints are always kept",
    "save_period": "the weights of the best and of the last epoch are kept",
    "save_dir": "keypipe decides where results go",
    "seed": "the seed at the top of params.yaml is used",
    "task": "the task is pose",
    "val": "the best checkpoint is chosen by validating",
}
"""Train arguments of Ultralytics that keypipe sets, and why they are refused under ``train:``."""

_NOT_FOR_TRAINING = {
    "source", "vid_stride", "stream_buffer", "visualize", "augment", "agnostic_nms", "classes", "retina_masks", "embed",
    "show", "save_frames", "save_txt", "save_conf", "save_crop", "show_labels", "show_conf", "show_boxes", "line_width",
    "format", "optimize", "dynamic", "simplify", "opset", "workspace", "tracker", "split", "save_json", "dnn",
}  # fmt: skip


def read_train_arguments() -> dict[str, Any]:
    """Return the train arguments that Ultralytics knows with their defaults, without importing it."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise ModelError("ultralytics is not installed; run `make install`")
    defaults = yaml.safe_load((Path(spec.origin).parent / "cfg" / "default.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in defaults.items() if key not in _NOT_FOR_TRAINING}
