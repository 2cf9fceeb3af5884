"""What every format of tables is told: before the first frame, and with each."""

from __future__ import annotations

from typing import Protocol

import msgspec

from keypipe.keypoints.skeleton import Schema
from keypipe.tracks.following import Track, TrackedFrame


class TableHead(msgspec.Struct, frozen=True):
    """What is known before the first frame.

    Attributes:
        schema: the model's classes and skeletons.
        tracks: all identities, in their order.
        n_frames: of the video.
        video: the file, as it was named.
        about: how the table came about, as JSON: model, thresholds, constants.
    """

    schema: Schema
    tracks: list[Track]
    n_frames: int
    video: str
    about: str

    @property
    def individuals(self) -> dict[int, str]:
        """What each identity is called in tools that know individuals by names, by number."""
        return {track.track: f"{track.class_name}{track.track}" for track in self.tracks}

    @property
    def model(self) -> str:
        """A name for who found all this, as DeepLabCut's scorer."""
        return f"keypipe_{msgspec.json.decode(self.about)['model']['sha256'][:8]}"


class TableWriter(Protocol):
    """Writes one file, frame by frame."""

    def write(self, frame: TrackedFrame, /) -> None:
        """Add the next frame."""
        ...

    def close(self) -> None:
        """Write what is left, and close the file."""
        ...
