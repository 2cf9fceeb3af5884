"""Where objects will be: a Kalman filter of their centres, with constant velocity, for all identities at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keypipe.keypoints.boxes import Array

# In sizes of the object (the root of its box's area) and seconds; both axes share one variance.
_NOISE = 0.05  # of a box's centre, sizes: DeepSORT's 1/20 (Wojke et al., ICIP 2017)
_FIRST_SPEED = 2.0  # sizes a second that an object may have when it is first seen
_JOLT = 2.0  # how fast the speed wanders, sizes² a second³; DeepSORT's 1/160 a frame makes 1.05 at 30 frames a second
_CALM_S = 1.0  # an object that is not seen loses two thirds of its supposed speed in this time


class Motion:
    """Centres and speeds of identities, in pixels and seconds; the rows are in the order in which they were added."""

    def __init__(self) -> None:
        self.centres: Array = np.empty((0, 2))
        self.speeds: Array = np.empty((0, 2))
        self._variance: Array = np.empty((0, 3))  # of the centre, of both together, of the speed
        self._sizes: Array = np.empty(0)

    def add(self, centres: Array, sizes: Array) -> None:
        """Begin identities.

        Args:
            centres: float64 (n, 2), pixels.
            sizes: float64 (n,), roots of the boxes' areas, pixels.
        """
        squares = np.maximum(sizes, 1.0) ** 2
        fresh = np.stack([_NOISE**2 * squares, np.zeros(len(sizes)), _FIRST_SPEED**2 * squares], axis=1)
        self.centres = np.concatenate([self.centres, centres])
        self.speeds = np.concatenate([self.speeds, np.zeros_like(centres)])
        self._variance = np.concatenate([self._variance, fresh])
        self._sizes = np.concatenate([self._sizes, np.maximum(sizes, 1.0)])

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Forget all other rows."""
        self.centres, self.speeds = self.centres[rows], self.speeds[rows]
        self._variance, self._sizes = self._variance[rows], self._sizes[rows]

    def spreads(self) -> Array:
        """Return how sure each centre is, float64 (n,): a variance in square pixels along each axis."""
        return self._variance[:, 0]

    def predict(self, seconds: float, unseen: NDArray[np.bool_]) -> None:
        """Move everything on.

        Args:
            seconds: since the last frame, > 0.
            unseen: bool (n,), what was not seen on it, and comes to rest by and by.
        """
        step = seconds
        self.centres = self.centres + step * self.speeds
        place, both, speed = self._variance.T
        jolt = _JOLT * self._sizes**2
        self._variance = np.stack(
            [
                place + 2 * step * both + step**2 * speed + jolt * step**3 / 3,
                both + step * speed + jolt * step**2 / 2,
                speed + jolt * step,
            ],
            axis=1,
        )
        self.speeds[unseen] *= np.exp(-step / _CALM_S)

    def update(self, rows: NDArray[np.intp], centres: Array, sizes: Array) -> None:
        """Take in where objects were seen.

        Args:
            rows: int (m,), of the identities.
            centres: float64 (m, 2), pixels.
            sizes: float64 (m,), pixels.
        """
        sizes = np.maximum(sizes, 1.0)
        place, both, speed = self._variance[rows].T
        total = place + (_NOISE * sizes) ** 2
        gain, speed_gain = place / total, both / total
        off = centres - self.centres[rows]
        self.centres[rows] += gain[:, None] * off
        self.speeds[rows] += speed_gain[:, None] * off
        self._variance[rows] = np.stack(
            [(1 - gain) * place, (1 - gain) * both, speed - speed_gain * both],
            axis=1,
        )
        self._sizes[rows] = sizes
