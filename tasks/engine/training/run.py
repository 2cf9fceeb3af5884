"""Training by Ultralytics."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import yaml

from keypipe.errors import ConfigError, DatasetError, ModelError
from keypipe.keypoints.rows import Row
from tasks.engine.settings import CHECKPOINT_KEY, first_line, use_font_in_plots
from tasks.grading.loss_sigma import SigmaCourse
from tasks.grading.preflight import Preflight

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


STATE_FILE = "state.pt"
FITNESS = "fitness"
"""Ultralytics' own figure of how good an epoch is."""


class Epoch(msgspec.Struct):
    """What one epoch gave.

    Attributes:
        number: from 1.
        total: planned epochs.
        metrics: ``train/…_loss``, ``train/loss_sigma`` (mean over the slots), ``val/…_loss``, ``lr/…``,
            ``metrics/…(B|P)`` as Ultralytics names them, and ``val_epoch/…`` for what ``TrainJob.judge`` says.
        best: number of the best epoch so far.
        seconds: wall time of the epoch, validation included.
        state_seconds: what keeping the exact state of the epoch before took.
    """

    number: int
    total: int
    metrics: dict[str, float]
    best: int
    seconds: float
    state_seconds: float


class TrainJob(msgspec.Struct):
    """One training.

    Attributes:
        model: model YAML, weights, or a published name.
        data: ``data.yaml`` of the YOLO folder.
        arguments: Ultralytics' train arguments.
        device: such as ``cpu`` or ``0``; None for what is there.
        workers: loader processes; None for 2 on a GPU and none on the CPU.
        cache: whether decoded images are kept: ``auto``, ``ram``, ``disk`` or False.
        scratch: folder that keeps the state between a killed run and the next.
        instances: for each of ``train`` and ``val``, image file name below ``images/<side>`` -> number of objects.
        loss_sigma: sigmas of the pose loss in every epoch.
        best_by: the figure of an epoch that decides which is the best; ``fitness`` or one that ``judge`` gives.
        judge: gets the predictions for the validation side, gives figures by name.
        on_epoch: called after every epoch.
        new_head: weights for another number of keypoints may be used, with a fresh keypoint head.
        on_preflight: gets what the first batches of a training that starts showed, or None where a batch does not fit
            into the device's memory; may raise to stop. Without it they are not looked at.
    """

    model: str
    data: Path
    arguments: dict[str, Any]
    device: str | int | None
    workers: int | None
    cache: str | bool
    scratch: Path
    instances: dict[str, dict[str, int]]
    loss_sigma: SigmaCourse
    best_by: str
    judge: Callable[[Sequence[Row]], Mapping[str, float]]
    on_epoch: Callable[[Epoch], None]
    new_head: bool = False
    on_preflight: Callable[[Preflight | None], None] | None = None


class Trained(msgspec.Struct):
    """What a training left in its scratch folder.

    Attributes:
        best: weights of the best epoch.
        last: weights of the last epoch.
        best_epoch: number of the best epoch, from 1.
        folder: where the curves and plots are.
        not_repeatable: why another run with the same data, code and parameters may differ; None where it does not.
    """

    best: Path
    last: Path
    best_epoch: int
    folder: Path
    not_repeatable: str | None


def read_train_arguments() -> dict[str, Any]:
    """Return the train arguments that Ultralytics knows with their defaults, without importing it."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise ModelError("ultralytics is not installed; run `make install`")
    defaults = yaml.safe_load((Path(spec.origin).parent / "cfg" / "default.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in defaults.items() if key not in _NOT_FOR_TRAINING}


def train(job: TrainJob) -> Trained:
    """Train, or go on with a killed training from the end of its last whole epoch.

    Args:
        job: what to train.

    Returns:
        Where the results are.

    Raises:
        ConfigError: Ultralytics refuses an argument, or several devices are asked for.
        DatasetError: its loader holds other objects than were converted.
        ModelError: the weights cannot be loaded, or are for another number of keypoints, or the loss diverges.
    """
    from ultralytics.cfg import get_cfg

    from tasks.engine.training.trainer import Trainer

    if isinstance(job.device, str) and "," in job.device:
        raise ConfigError(f"local.yaml: device: {job.device!r}: a training uses one device")
    folder = job.scratch / "run"
    arguments = {
        **job.arguments,
        "data": str(job.data),
        "device": job.device,
        "workers": 2 if job.workers is None else job.workers,
        "project": str(job.scratch),
        "name": folder.name,
        "exist_ok": True,
        "verbose": False,
    }
    try:
        get_cfg(overrides=arguments)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ConfigError(f"train: Ultralytics refuses an argument: {error}") from error
    model = load_start(job.model, job.data, new_head=job.new_head)
    _replace_amp_check()
    if arguments.get("plots"):
        use_font_in_plots()
    started: list[bool] = []
    model.add_callback("on_pretrain_routine_end", lambda _: started.append(True))
    try:
        model.train(trainer=partial(Trainer, job), **arguments)
    except (NotImplementedError, ValueError) as error:
        if started:
            raise
        # Some values, such as an optimizer's name, are looked at only while the training is set up.
        raise ConfigError(f"train: Ultralytics refuses an argument: {first_line(error)}") from error
    trainer = model.trainer
    reason = why_not_repeatable(trainer.device.type, vars(trainer.args))
    return Trained(trainer.best, trainer.last, trainer.best_number, folder, reason)


def read_reached_epoch(scratch: Path) -> int:
    """Return the number of whole epochs that a killed training in this folder goes on from; 0 without one."""
    if not (scratch / STATE_FILE).exists():
        return 0
    from tasks.engine.training.repeat import load_state

    state = load_state(scratch / STATE_FILE)
    return state["epoch"] + 1 if state else 0


def why_not_repeatable(device: str, arguments: Mapping[str, Any]) -> str | None:
    """Tell why the same data, code and parameters may give other weights next time.

    Args:
        device: kind of the device, such as ``cpu`` or ``cuda``.
        arguments: Ultralytics' train arguments.

    Returns:
        The reason; None where every bit repeats on the same kind of machine with the same number of threads.
    """
    if device != "cpu":
        return f"some kernels on {device} add up in no fixed order"
    if not arguments.get("deterministic", True):
        return "train.deterministic is false"
    if arguments.get("time"):
        return "train.time ends the training by the clock"
    if arguments.get("augmentations"):
        return "train.augmentations draws from generators of its own"
    if arguments.get("compile"):
        return "train.compile chooses kernels by their speed"
    return None


def load_start(model: str, data: Path, *, new_head: bool) -> Any:
    """Load what training starts from.

    Args:
        model: model YAML, weights file, or a published name that Ultralytics fetches.
        data: ``data.yaml``, for the number of keypoints.
        new_head: accept weights for another number of keypoints.

    Returns:
        An Ultralytics model.

    Raises:
        ModelError: it is not there and cannot be fetched, is no pose model, or has another number of keypoints.
    """
    from ultralytics import YOLO

    is_file = Path(model).exists()
    # A published name is fetched to the path that it is given; a bare one would land in the workspace.
    fetched = (
        model if is_file or model.endswith((".yaml", ".yml")) else str(Path(os.environ["YOLO_CONFIG_DIR"]) / model)
    )
    try:
        loaded = YOLO(fetched, task="pose")
    except Exception as error:  # Ultralytics raises whatever its downloader or torch did
        if is_file or model.endswith((".yaml", ".yml")):
            raise ModelError(f"train.model: {model} cannot be loaded: {first_line(error)}") from error
        raise ModelError(
            f"train.model: {model} is not a file here and could not be fetched ({first_line(error)});"
            " give the path of weights, or a model YAML such as yolov8n-pose.yaml to train from scratch"
        ) from error
    if getattr(loaded.model, "task", loaded.task) != "pose" or not hasattr(loaded.model, "kpt_shape"):
        raise ModelError(f"train.model: {model} is not a pose model; use a -pose model")
    wanted = yaml.safe_load(data.read_text(encoding="utf-8"))["kpt_shape"]
    got = list(loaded.model.kpt_shape)
    if is_file and model.endswith(".pt") and got != wanted and not new_head:
        raise ModelError(
            f"train.model: {model} is for {got[0]} keypoints, the dataset has {wanted[0]};"
            " set train.new_head: true to keep its other layers and train a new keypoint head, or choose other weights"
        )
    return loaded


def _replace_amp_check() -> None:
    """Check mixed precision without the model that Ultralytics would download for it.

    A GPU whose half-precision arithmetic is broken gives NaN for any model, so a convolution will do.
    """
    from ultralytics.engine import trainer as module

    original = module.check_amp

    def check_amp(model: Any) -> bool:
        import torch

        device = next(model.parameters()).device
        if device.type != "cuda":
            return bool(original(model))  # returns before any download
        layer = torch.nn.Conv2d(3, 16, 3).to(device)
        image = torch.rand(8, 3, 256, 256, device=device)
        with torch.no_grad(), torch.autocast("cuda"):
            half = layer(image).float()
        with torch.no_grad():
            return bool(torch.isfinite(half).all() and torch.allclose(half, layer(image), atol=0.05))

    module.check_amp = check_amp


def check_loaded(side: str, labels: Sequence[Mapping[str, Any]], expected: Mapping[str, int]) -> None:
    """Compare what Ultralytics' loader holds with what was converted.

    Ultralytics drops an image for one bad label row, and removes equal rows, with a warning only.

    Args:
        side: ``train`` or ``val``.
        labels: the loader's labels, one mapping an image with ``im_file`` and ``cls``.
        expected: image file name below ``images/<side>`` -> number of objects.

    Raises:
        DatasetError: an image or an object is missing; names the first few.
    """
    marker = f"/images/{side}/"
    held = {str(label["im_file"]).rpartition(marker)[2]: len(label["cls"]) for label in labels}
    differing = [name for name in expected if held.get(name) != expected[name]]
    if differing:
        shown = "; ".join(
            f"{name}: {expected[name]} converted, " + ("image dropped" if name not in held else f"{held[name]} held")
            for name in differing[:5]
        )
        raise DatasetError(
            f"the loader holds fewer {side} objects than were converted, in {len(differing)} images: {shown};"
            " two equal boxes on one image, or an image that Ultralytics cannot read, are the usual reasons"
        )


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
