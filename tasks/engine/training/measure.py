"""Looks at a training before it starts: its first batches, their losses and gradients, and how long it will take.

Draws with the seeds of the first epoch, so that what is looked at is what is trained on first, and puts
everything back: the training that follows is, bit for bit, the one without it.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from ultralytics.utils.torch_utils import autocast, time_sync

from tasks.engine.training import repeat
from tasks.grading.preflight import AugmentedImage, Facts, Later, Preflight, Survivors, Times

_IMAGES = 64
"""Images to draw at least, for the counts."""

_MOST_BATCHES = 32
"""Batches to draw at most, where those before held no keypoint."""

_TRIES = 3
"""Batches to put through the network at most, until one has every loss."""

_SLOW_SECONDS = 2.0
_PASSES = 3


class _Counts:
    """What the drawn images held, and what was left of it."""

    def __init__(self) -> None:
        self.images = 0
        self.objects, self.keypoints = Survivors(), Survivors()
        self.bare_objects = 0
        self.largest_px = 0.0

    def add_source(self, label: Any) -> None:
        """Count an image as it is loaded, before augmentation."""
        instances, (height, width) = label["instances"], label["resized_shape"]
        self.objects.before += len(instances)
        self.keypoints.before += int((instances.keypoints[..., 2] > 0).sum())
        if len(instances):  # boxes are centre, width, height as shares of the image
            self.largest_px = max(self.largest_px, float((instances.bboxes[:, 2:] * (width, height)).max()))

    def add_pasted(self, keypoints: Any) -> None:
        """Count an object that was pasted, (1, n_slots, 3)."""
        self.objects.before += len(keypoints)
        self.keypoints.before += int((keypoints[..., 2] > 0).sum())

    def add_batch(self, batch: Any) -> None:
        """Count a batch of augmented images."""
        labelled = batch["keypoints"][..., 2] > 0
        self.images += len(batch["img"])
        self.objects.after += len(labelled)
        self.keypoints.after += int(labelled.sum())
        self.bare_objects += int((~labelled.any(dim=1)).sum())


def measure(trainer: Any, key: tuple[int, ...]) -> Preflight:
    """Look at the first batches of a training.

    Args:
        trainer: the trainer, set up; its model is a copy, in training mode, whose statistics and gradients may change.
        key: of the first epoch, see ``repeat``.

    Raises:
        torch.OutOfMemoryError: a batch does not fit into the device.
    """
    started = time.perf_counter()
    loader, workers = trainer.train_loader, trainer.train_loader.num_workers
    course, epochs = trainer.job.augmentation, int(trainer.epochs)
    later, later_images = None, []
    with _undisturbed(loader):
        counts = _Counts()
        tried, drawn, load_seconds = _draw(loader, counts, key, course.at(trainer.epoch, epochs))
        for number, batch in tried:
            losses, finite_gradients, step_seconds = _step(trainer, batch, number, key)
            if losses.get("kobj_loss") and losses.get("pose_loss"):
                break
        if step_seconds < _SLOW_SECONDS:  # the first pass also makes kernels and takes memory
            step_seconds = float(np.median([_step(trainer, batch, number, key)[2] for _ in range(_PASSES)]))
        validation_seconds = _time_validation(trainer) * len(trainer.test_loader)
        if course.changes:
            settled, left = course.settles(epochs), _Counts()
            strength = course.at(settled, epochs)
            again = dict(_draw(loader, left, key, strength)[0])
            later = Later(settled + 1, strength, left.objects, left.keypoints)
            note = f"strength {strength:.2g}, from epoch {later.epoch}"
            later_images = _to_images(again.get(number, batch), note)
    facts = Facts(
        batch=number + 1,
        losses=losses,
        finite_gradients=finite_gradients,
        finite_weights=all(bool(value.isfinite().all()) for value in trainer.model.parameters()),
        mixed_precision=bool(trainer.amp),
        batches=drawn,
        images=counts.images,
        objects=counts.objects,
        keypoints=counts.keypoints,
        bare_objects=counts.bare_objects,
        largest_object_px=counts.largest_px,
        imgsz=int(trainer.args.imgsz),
        later=later,
    )
    batch_seconds = max(step_seconds, load_seconds / workers) if workers else step_seconds + load_seconds
    epoch_seconds = batch_seconds * len(loader) + validation_seconds
    total_seconds = trainer.args.time * 3600 if trainer.args.time else epoch_seconds * epochs
    times = Times(
        seconds=time.perf_counter() - started,
        step_seconds=step_seconds,
        load_seconds=load_seconds,
        epoch_seconds=epoch_seconds,
        total_seconds=total_seconds,
        epochs=epochs,
    )
    note = f"strength {course.at(trainer.epoch, epochs):.2g}, epoch 1" if course.changes else ""
    return Preflight(facts, times, _to_images(batch, note), later_images)


@contextmanager
def _undisturbed(loader: Any) -> Iterator[None]:
    """Load in this process, and leave generators, loader and dataset as they were."""
    dataset, workers = loader.dataset, loader.num_workers
    kept = dict(vars(dataset))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state(), loader.generator.get_state()
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    loader.num_workers = 0
    try:
        yield
    finally:
        loader.reset()
        loader.num_workers = workers
        vars(dataset).clear()
        vars(dataset).update(kept)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        loader.generator.set_state(states[3])
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)


def _draw(
    loader: Any, counts: _Counts, key: tuple[int, ...], strength: float
) -> tuple[list[tuple[int, Any]], int, float]:
    """Draw batches as the first epoch will, or as it would at another strength.

    Returns:
        The batches to put through the network with their numbers from 0: the first few with a labelled keypoint, or
        the first of all; how many were drawn; and the seconds that loading one takes.
    """
    repeat.seed_epoch(loader, *key, strength=strength)
    dataset = loader.dataset
    load_label = dataset.get_image_and_label

    def load_and_count(index: int) -> Any:
        label = load_label(index)
        counts.add_source(label)
        return label

    dataset.get_image_and_label = load_and_count  # mosaics and mixtures come here for their other images as well
    dataset.note_pasted = counts.add_pasted
    wanted = max(2, math.ceil(_IMAGES / loader.batch_size))
    chosen: list[tuple[int, Any]] = []
    first: Any = None
    started, drawn = time.perf_counter(), 0
    for number, batch in enumerate(loader):
        counts.add_batch(batch)
        drawn = number + 1
        first = batch if number == 0 else first
        if len(chosen) < _TRIES and bool((batch["keypoints"][..., 2] > 0).any()):
            chosen.append((number, batch))
        if drawn >= _MOST_BATCHES or (drawn >= wanted and chosen):
            break
    del dataset.get_image_and_label, dataset.note_pasted  # this instance's own; the class has the others
    return chosen or [(0, first)], drawn, (time.perf_counter() - started) / drawn


def _step(trainer: Any, batch: Any, number: int, key: tuple[int, ...]) -> tuple[dict[str, float], bool, float]:
    """Put a batch through the network and back, without a step of the optimizer.

    Returns:
        The losses, whether all gradients are finite, and the seconds that it took.
    """
    model = trainer.model
    model.zero_grad(set_to_none=True)
    repeat.seed_batch(number, *key)
    started = time_sync()
    with _autocast(trainer):
        loss, items = model(trainer.preprocess_batch(dict(batch)))
        total = loss.sum()
    total.backward()
    losses = {name: float(value) for name, value in items.items()}
    seconds = time_sync() - started
    finite = all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    return losses, finite, seconds


def _autocast(trainer: Any) -> Any:
    return autocast(torch.bfloat16 if trainer.args.amp == "bf16" else trainer.amp, device=trainer.device.type)


def _time_validation(trainer: Any) -> float:
    """Return the seconds that loading a batch of the validation split, predicting and its losses take.

    Sorting out what was predicted comes on top: how long that takes depends on what the network will have learnt.
    """
    loader, model = trainer.test_loader, trainer.model
    model.eval()
    started = time_sync()
    batch = loader.collate_fn([loader.dataset[index] for index in range(min(loader.batch_size, len(loader.dataset)))])
    batch = {
        key: value.to(trainer.device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()
    }
    batch["img"] = batch["img"].float() / 255
    with torch.inference_mode(), _autocast(trainer):
        model.loss(batch, model(batch["img"]))
    return float(time_sync() - started)


def _to_images(batch: Any, note: str) -> list[AugmentedImage]:
    """Take a batch apart; its boxes are centre, width, height, and all places are shares of the image."""
    images: list[AugmentedImage] = []
    height, width = batch["img"].shape[2:]
    for index, (path, pixels) in enumerate(zip(batch["im_file"], batch["img"], strict=True)):
        mine = batch["batch_idx"] == index
        centre, size = (
            (batch["bboxes"][mine].double().numpy() * (width, height, width, height)).reshape(-1, 2, 2).swapaxes(0, 1)
        )
        keypoints = batch["keypoints"][mine].double().numpy() * (width, height, 1)
        images.append(
            AugmentedImage(
                name=str(path).rpartition("/images/train/")[2],
                image_rgb=np.ascontiguousarray(pixels.numpy().transpose(1, 2, 0)),
                classes=[int(value) for value in batch["cls"][mine].flatten().tolist()],
                boxes_xyxy=np.concatenate([centre - size / 2, centre + size / 2], axis=1),
                keypoints=keypoints,
                note=note,
            )
        )
    return images
