"""How objects are followed through a video, and how their paths are smoothed."""

from __future__ import annotations

import msgspec

from keypipe.errors import ConfigError

WEAK_SHARE = 0.4
"""Objects down to this share of the smallest score go on with an identity, but begin none; ByteTrack's 0.1 at 0.25."""


class TrackOptions(msgspec.Struct, frozen=True):
    """What makes an identity; lengths of time are seconds, so that they hold at every rate of frames.

    Attributes:
        new_score: smallest score of an object that begins an identity.
        max_gap_s: so long an identity waits for its object to be seen again.
        min_frames: identities that are seen on fewer frames are left out.
        min_similarity: of a prediction and an object that are taken for the same; 0 to 1.
        sigma: of every keypoint in the similarity, as in OKS.
    """

    new_score: float = 0.25
    max_gap_s: float = 2.0
    min_frames: int = 3
    min_similarity: float = 0.2
    sigma: float = 0.1


class SmoothOptions(msgspec.Struct, frozen=True):
    """Constants of the One Euro filter (Casiez, Roussel, Vogel, CHI 2012); speeds are object sizes a second.

    Attributes:
        min_cutoff_hz: of an object at rest; smaller is smoother, and lags more.
        beta: by how many hertz the cutoff rises with every object size a second.
        speed_cutoff_hz: of the speed itself.
    """

    min_cutoff_hz: float
    beta: float = 6.0
    speed_cutoff_hz: float = 1.0

    def __post_init__(self) -> None:
        if not self.min_cutoff_hz > 0:
            raise ConfigError(
                f"smoothing needs a cutoff above 0 Hz, got {self.min_cutoff_hz:g}; 1 smooths well, 5 a little"
            )
