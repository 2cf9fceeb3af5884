"""A pose model of random weights that finds many objects, made in seconds and without a download."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIDE_PX = 160
CLASS_NAMES = ("奶牛", "dog")
KEYPOINT_NAMES = ("nose", "左耳", "右耳")


def write_random_checkpoint(
    path: Path,
    class_names: Sequence[str] = CLASS_NAMES,
    keypoint_names: Sequence[str] = KEYPOINT_NAMES,
    side_px: int = SIDE_PX,
    family: str = "yolov8n-pose.yaml",
    **arguments: Any,
) -> Path:
    """Write a checkpoint that Ultralytics loads; its classes and keypoints are those of this module by default.

    Args:
        path: where.
        class_names: of its classes.
        keypoint_names: of its keypoints.
        side_px: of its input.
        family: its model YAML.
        arguments: what it says that it was trained with.
    """
    import torch
    from ultralytics.nn.tasks import PoseModel, yaml_model_load

    torch.manual_seed(0)
    kpt_shape = (len(keypoint_names), 3)
    config = yaml_model_load(family) | {"kpt_shape": list(kpt_shape)}
    network = PoseModel(config, ch=3, nc=len(class_names), data_kpt_shape=kpt_shape, verbose=False)
    _let_signals_through(network)
    head = network.model[-1]
    for branch in ("", "one2one_") if hasattr(head, "one2one_cv2") else ("",):
        points = getattr(head, f"{branch}cv4_kpts", None) or [layers[-1] for layers in getattr(head, f"{branch}cv4")]
        layers = zip(getattr(head, f"{branch}cv3"), getattr(head, f"{branch}cv2"), points, strict=True)
        for scores, boxes, keypoints in layers:
            torch.nn.init.normal_(scores[-1].weight, std=0.4)
            torch.nn.init.constant_(scores[-1].bias, -1.5 if branch else -3.0)
            torch.nn.init.normal_(boxes[-1].weight, std=0.3)
            torch.nn.init.normal_(keypoints.weight, std=0.3)
    network.names = dict(enumerate(class_names))
    network.kpt_names = {index: list(keypoint_names) for index in range(len(class_names))}
    network.args, network.task = {"imgsz": side_px, "task": "pose", **arguments}, "pose"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": network, "train_args": network.args, "epoch": -1}, path)
    return path


def _let_signals_through(network: Any) -> None:
    """Adapt the batch norms to noise: with their first statistics random layers would end in a constant."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    network.train()
    with torch.no_grad():
        for _ in range(6):
            network(torch.nn.functional.interpolate(torch.rand(4, 3, 20, 20), (SIDE_PX, SIDE_PX)))
    network.eval()
