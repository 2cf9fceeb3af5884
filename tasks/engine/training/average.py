"""The mean of the weights of the last epochs, which may be better than any one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch


class LastEpochs:
    """Keeps the weights of the last epochs, a file for each, until the training ends.

    Files, so that a killed training goes on to the same mean; in full precision.
    """

    def __init__(self, folder: Path, wanted: int) -> None:
        """Keep nothing yet.

        Args:
            folder: where the files go.
            wanted: how many epochs; below two nothing is kept.
        """
        self._folder = folder
        self._wanted = wanted

    def keep(self, number: int, state: Mapping[str, torch.Tensor]) -> None:
        """Keep the state dict of an epoch, and no longer that of the one that is too old now."""
        if self._wanted < 2:
            return
        partial = self._folder / "ended.partial"
        torch.save(dict(state), partial)
        partial.replace(self._path(number))
        self._path(number - self._wanted).unlink(missing_ok=True)

    def mean(self, last: int) -> tuple[int, dict[str, torch.Tensor]]:
        """Average the last epochs.

        Args:
            last: number of the epoch that the training ended with, from 1.

        Returns:
            Of how many epochs it is the mean, and the state dict; what is counted and not measured, such as batches,
            is the last epoch's. Nothing is averaged where there are fewer than two: 0, and an empty one.
        """
        numbers = range(max(1, last - self._wanted + 1), last + 1)
        if self._wanted < 2 or len(numbers) < 2:
            return 0, {}
        sums: dict[str, torch.Tensor] = {}
        for number in numbers:
            state = torch.load(self._path(number), map_location="cpu", weights_only=True)
            for name, value in state.items():
                known = sums.get(name)
                sums[name] = value.double() if known is None else known + value.double()
        means = {name: sums[name] / len(numbers) for name in sums}
        return len(numbers), {
            name: means[name].to(value.dtype) if value.is_floating_point() else value for name, value in state.items()
        }

    def _path(self, number: int) -> Path:
        return self._folder / f"ended-{number}.pt"
