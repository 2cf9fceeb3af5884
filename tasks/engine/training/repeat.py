"""Trainings that repeat: every sample seeded by itself, and the exact state that a killed training goes on from.

Ultralytics' own resume takes up half-precision averaged weights, and draws on from wherever the random generators
happen to be. Here nothing random is carried from one epoch to the next: each epoch, batch and sample draws from
a key of its own, so that neither a kill nor the number of loader processes changes what is drawn. What does carry
over, weights, averages, optimizer, left-over gradients, is kept in full precision.
"""

from __future__ import annotations

import pickle
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics import __version__ as ultralytics_version
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import IterableSimpleNamespace

from tasks.engine.training.paste import Paste
from tasks.grading.augmentation import weaken

_MADE_BY = {"torch": str(torch.__version__), "ultralytics": ultralytics_version}
_EPOCH, _BATCH, _SAMPLE, _POOL = range(4)


def draw_seed(*key: int) -> int:
    """Return a seed of 32 bits for a key; different keys give independent streams (numpy's ``SeedSequence``)."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def seed_everything(*key: int) -> None:
    """Seed ``random``, numpy and torch, which the augmentation and the network draw from."""
    seed = draw_seed(*key)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_sample(*key: int) -> None:
    """Seed what augmentation draws from; asking all devices, as ``torch.manual_seed`` does, takes 0.2 ms a sample."""
    seed = draw_seed(*key)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


def seed_epoch(loader: Any, *key: int, strength: float = 1.0) -> None:
    """Let an epoch's batches depend on nothing but its key and how strongly images are changed.

    Args:
        loader: the train loader, over a ``SeededDataset``.
        key: the seed of the run, the epoch from 0, and the attempt at it.
        strength: of the augmentation, 0 to 1.
    """
    seed_everything(*key, _EPOCH)
    loader.generator.manual_seed(draw_seed(*key, _EPOCH))  # the order of the images
    loader.dataset.start_epoch(key, strength)
    loader.reset()  # loader processes take the dataset as it is when they start


def seed_batch(batch: int, *key: int) -> None:
    """Seed what the main process draws for a batch: multi-scale training, dropout."""
    seed_everything(*key, _BATCH, batch)


class SeededDataset(YOLODataset):  # type: ignore[misc]
    """Ultralytics' dataset with a seed for each sample, a strength of augmentation for each epoch, and pasted objects.

    Mosaics take their other images from a pool that is drawn for each epoch, as large as Ultralytics' buffer of
    images loaded last. That buffer's content depends on which process loaded which image, and when.
    """

    cache: Any

    def __init__(self, *arguments: Any, paste: float = 0.0, **options: Any) -> None:
        self._paste = paste
        self._key: tuple[int, ...] = ()
        self._pool: frozenset[int] = frozenset()
        self._strength = 1.0
        super().__init__(*arguments, **options)
        self.start_epoch((0, 0, 0))

    def start_epoch(self, key: tuple[int, ...], strength: float = 1.0) -> None:
        """Draw the pool of an epoch, forget the images of the last one's, and set how strongly images are changed."""
        self._key = key
        if strength != self._strength:
            self._strength = strength
            self.transforms = self.build_transforms(self._full)
        chosen = np.random.default_rng([*key, _POOL]).permutation(self.ni)[: self.max_buffer_length]
        self.buffer = sorted(int(index) for index in chosen)
        self._pool = frozenset(self.buffer)
        if self.cache != "ram":
            self.ims, self.im_hw0, self.im_hw = ([None] * self.ni for _ in range(3))

    def build_transforms(self, hyp: Any) -> Any:
        """Build the transforms, at the strength of the epoch; they draw from the pool, wherever images are kept.

        Args:
            hyp: the train arguments, at full strength.
        """
        self._full = hyp
        if self._strength != 1:
            hyp = IterableSimpleNamespace(**{**vars(hyp), **weaken(vars(hyp), self._strength)})
        cache, self.cache = self.cache, None  # with "ram" the mosaic would draw from all images
        try:
            transforms = super().build_transforms(hyp)
        finally:
            self.cache = cache
        if self._paste:
            transforms.transforms[0].insert(1, Paste(self, self._strength * self._paste))  # before images are warped
        return transforms

    def close_mosaic(self, hyp: Any) -> None:
        """Put no images together any more, as the last epochs do; nor paste."""
        self._paste = 0.0
        super().close_mosaic(hyp)

    def load_unseen(self, index: int) -> dict[str, Any]:
        """Load an image and its objects without a word to who counts what goes into a sample."""
        label: dict[str, Any] = YOLODataset.get_image_and_label(self, index)
        return label

    def note_pasted(self, keypoints: Any) -> None:
        """Do nothing: the pre-flight counts here what was pasted, (n_objects, n_slots, 3)."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample, drawn from its own key."""
        seed_sample(*self._key, _SAMPLE, index)
        sample: dict[str, Any] = super().__getitem__(index)
        return sample

    def load_image(self, i: int, *arguments: Any, **options: Any) -> tuple[Any, Any, Any]:
        """Load an image; those of the pool stay in memory until the epoch ends."""
        if self.cache == "ram":
            return super().load_image(i, *arguments, **options)  # type: ignore[no-any-return]
        pool, self.buffer = self.buffer, []  # where the base class would add the image and drop another
        try:
            loaded: tuple[Any, Any, Any] = super().load_image(i, *arguments, **options)
        finally:
            self.buffer = pool
        if i not in self._pool:
            self.ims[i] = self.im_hw0[i] = self.im_hw[i] = None
        return loaded


def save_state(path: Path, state: dict[str, Any]) -> float:
    """Write a training's state, whole or not at all.

    Returns:
        The seconds it took.
    """
    started = time.perf_counter()
    partial = path.with_suffix(".partial")
    torch.save({**state, "made_by": _MADE_BY}, partial)
    partial.replace(path)
    return time.perf_counter() - started


def load_state(path: Path) -> dict[str, Any] | None:
    """Read a training's state.

    Args:
        path: where ``save_state`` wrote it.

    Returns:
        The state on the CPU, or None if there is no state to go on from: it is absent, damaged, or was made by
        other versions of the packages that compute.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        pickle.UnpicklingError,
    ):  # damaged, as when a machine goes down
        return None
    return state if state.get("made_by") == _MADE_BY else None
