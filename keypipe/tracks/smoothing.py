"""The One Euro filter: steady at rest, prompt in motion (Casiez, Roussel, Vogel, CHI 2012, https://gery.casiez.net/1euro)."""

from __future__ import annotations

import math

import numpy as np

from keypipe.keypoints.boxes import Array
from keypipe.tracks.options import SmoothOptions

_RESTART_S = 0.5  # values that were away for so long are taken anew


class OneEuro:
    """Smooths the values of one identity, each by itself."""

    def __init__(self, options: SmoothOptions, n_values: int) -> None:
        self._options = options
        self._values: Array = np.full(n_values, math.nan)
        self._speeds: Array = np.zeros(n_values)
        self._times: Array = np.full(n_values, -math.inf)

    def __call__(self, seconds: float, values: Array, size: float) -> Array:
        """Smooth the values of a frame.

        Args:
            seconds: its time, later than that of the last call.
            values: float64 (n_values,), pixels; NaN: not known, which stays so.
            size: of the object, pixels; speeds are measured in it.

        Returns:
            float64 (n_values,); the first values, and those after half a second without any, are as they came.
        """
        known = np.isfinite(values)
        step = seconds - self._times
        fresh = known & ~((step > 0) & (step <= _RESTART_S))
        going = known & ~fresh
        self._values[fresh], self._speeds[fresh] = values[fresh], 0.0
        dt = step[going]
        before = self._values[going]
        speed = (values[going] - before) / dt
        share = _share(dt, np.full(len(dt), self._options.speed_cutoff_hz))
        self._speeds[going] += share * (speed - self._speeds[going])
        cutoff = self._options.min_cutoff_hz + self._options.beta * np.abs(self._speeds[going]) / max(size, 1.0)
        self._values[going] = before + _share(dt, cutoff) * (values[going] - before)
        self._times[known] = seconds
        return np.where(known, self._values, values)


def _share(dt: Array, cutoff_hz: Array) -> Array:
    """Return the weight of a new value in an exponential filter."""
    angle = 2 * math.pi * cutoff_hz * dt
    return angle / (angle + 1)
