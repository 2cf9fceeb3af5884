"""Training by Ultralytics: the engine behind ``tasks.engine.door.training``."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import ConfigError, ModelError
from keypipe.keypoints.skeleton import Schema
from tasks.engine.settings import configure, first_line, use_font_in_plots
from tasks.engine.training import memory
from tasks.engine.training.arguments import RESERVED, read_train_arguments
from tasks.engine.training.job import STATE_FILE, Start, Trained, TrainJob
from tasks.engine.training.transfer import Transfer, match_keypoints, read_known_schema
from tasks.engine.weights import explain_refusal, has_second_head, hash_weights, write_checkpoint
from tasks.workspace.access import is_memory_end

__all__ = ["RESERVED", "configure", "read_reached_epoch", "read_train_arguments", "train", "write_checkpoint"]


def train(job: TrainJob) -> Trained:
    """Train, or go on with a killed training from the end of its last whole epoch.

    Args:
        job: what to train.

    Returns:
        Where the results are.

    Raises:
        ConfigError: Ultralytics refuses an argument, or several devices are asked for.
        DatasetError: its loader holds other objects than were converted.
        ModelError: the weights cannot be loaded, or are for another number of keypoints, or the loss diverges, or
            memory ends though the batch was halved.
    """
    from ultralytics.cfg import get_cfg

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
    memory.check_batches(job.batches)
    if killed := memory.find_killed(job.scratch):
        _shrink(job, killed)
    elif batches := memory.read_batches(job.scratch, job.batches):
        job.on_batches(batches, "")
    while True:
        try:
            return _train(job, dict(arguments), folder)
        except memory.RebatchError:
            pass  # the state of the last epoch is kept: from there
        except memory.MemoryEndError as ended:
            _shrink(job, ended)
        memory.release()


def _shrink(job: TrainJob, ended: memory.MemoryEndError) -> None:
    """Let the training go on with half the batch from its last whole epoch."""
    why = memory.shrink(job.scratch, job.batches, read_reached_epoch(job.scratch) + 1, ended)
    job.on_batches(memory.read_batches(job.scratch, job.batches), why)


def _train(job: TrainJob, arguments: dict[str, Any], folder: Path) -> Trained:
    """Train, or go on, with the batch that is due.

    Raises:
        MemoryEndError: there is not enough memory for it.
        RebatchError: another one is due.
    """
    from tasks.engine.training.trainer import Trainer

    model, transfer = load_start(job.model, job.schema, new_head=job.new_head)
    if arguments.get("nms") is False and not has_second_head(model.model):
        raise ConfigError(f"train.nms: {job.model} has no head that finds an object once; yolo26n-pose.yaml has")
    start = _describe_start(model, transfer, len(job.schema.slots))
    if arguments.get("distill_model"):
        arguments["distill_model"] = _place_of(arguments["distill_model"])
        start = msgspec.structs.replace(start, teacher=_hash_teacher(Path(arguments["distill_model"])))
    job.on_start(start)
    _replace_amp_check()
    if arguments.get("plots"):
        use_font_in_plots()
    started: list[bool] = []
    model.add_callback("on_pretrain_routine_end", lambda _: started.append(True))
    try:
        model.train(trainer=partial(Trainer, job, transfer), **arguments)
    except memory.RebatchError:
        raise memory.RebatchError from None
    except Exception as error:
        if is_memory_end(error) or memory.is_loader_killed(error, job.scratch):
            batch = int(getattr(model.trainer, "batch_size", 0) or arguments.get("batch") or 1)
            why = first_line(error)
            _forget_frames(error)  # which hold what the memory was taken by
            raise memory.MemoryEndError(batch, why) from None
        # Some values, such as an optimizer's name, are looked at only while the training is set up.
        if isinstance(error, NotImplementedError | ValueError) and not started:
            raise ConfigError(f"train: Ultralytics refuses an argument: {first_line(error)}") from error
        raise
    trainer = model.trainer
    reason = why_not_repeatable(trainer.device.type, vars(trainer.args))
    batches = tuple(memory.read_batches(job.scratch, job.batches))
    return Trained(trainer.best, trainer.last, trainer.best_number, folder, reason, batches, trainer.averaged)


def _forget_frames(error: BaseException) -> None:
    """Let go of all that the frames of an error, and of those before it, hold."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__context__


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


def load_start(model: str, schema: Schema, *, new_head: bool) -> tuple[Any, Transfer | None]:
    """Load what training starts from.

    Args:
        model: model YAML, weights file, or a published name that Ultralytics fetches.
        schema: of the dataset.
        new_head: accept weights for another number of keypoints, and take none of these over.

    Returns:
        An Ultralytics model, and which keypoints are taken over by name; None where the weights do not say what
        their keypoints are: these are taken for the dataset's, in its order.

    Raises:
        ModelError: it is not there and cannot be fetched, is no pose model, or has another number of keypoints without
            saying which, or none of the dataset's.
    """
    from ultralytics import YOLO

    is_file = Path(model).exists()
    fetched = model if model.endswith((".yaml", ".yml")) else _place_of(model)
    try:
        loaded = YOLO(fetched, task="pose")
    except Exception as error:  # Ultralytics raises whatever its downloader or torch did
        if is_file or model.endswith((".yaml", ".yml")):
            raise ModelError(f"train.model: {model}: {explain_refusal(error)}") from error
        raise ModelError(
            f"train.model: {model} is not a file here and could not be fetched ({first_line(error)});"
            " give the path of weights, or a model YAML such as yolov8n-pose.yaml to train from scratch"
        ) from error
    if getattr(loaded.model, "task", loaded.task) != "pose" or not hasattr(loaded.model, "kpt_shape"):
        raise ModelError(f"train.model: {model} is not a pose model; use a -pose model")
    wanted, got = [len(schema.slots), 3], list(loaded.model.kpt_shape)
    known = read_known_schema(loaded.ckpt, got[0]) if loaded.ckpt else None
    if known is not None and got[1] == wanted[1] and not new_head:
        transfer = match_keypoints(known.slots, schema.slots)
        if not transfer.kept:
            raise ModelError(
                f"train.model: {model} knows none of the dataset's keypoints (it has {', '.join(known.slots)});"
                " set train.new_head: true to keep its other layers alone, or choose other weights"
            )
        return loaded, transfer
    if is_file and model.endswith(".pt") and got != wanted and not new_head:
        raise ModelError(
            f"train.model: {model} is for {got[0]} keypoints, the dataset has {wanted[0]}, and it does not say which;"
            " set train.new_head: true to keep its other layers and train a new keypoint head, or choose other weights"
        )
    return loaded, None


def _describe_start(model: Any, transfer: Transfer | None, n_slots: int) -> Start:
    if not model.ckpt:
        return Start()
    untold = "taken for the dataset's, in its order" if model.model.kpt_shape[0] == n_slots else "none; a new head"
    return Start(hash_weights(Path(model.ckpt_path)), str(transfer) if transfer else untold)


def _hash_teacher(weights: Path) -> str:
    try:
        return hash_weights(weights)
    except ModelError as error:
        raise ModelError(f"train.distill_model: {error}") from error


def _place_of(name: str) -> str:
    """Return where weights are, or are fetched to: Ultralytics would put a published name into the workspace."""
    return name if Path(name).exists() else str(Path(os.environ["YOLO_CONFIG_DIR"]) / name)


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
