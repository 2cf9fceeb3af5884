"""Objects through a video: which is which from frame to frame, smoothed paths, tables of them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.tracks.following import Track, TrackedFrame, TrackedObject, follow, read_frames
    from keypipe.tracks.options import SmoothOptions, TrackOptions
    from keypipe.tracks.smoothing import OneEuro
    from keypipe.tracks.tracker import Tracker
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        following=("Track", "TrackedFrame", "TrackedObject", "follow", "read_frames"),
        options=("SmoothOptions", "TrackOptions"),
        smoothing=("OneEuro",),
        tracker=("Tracker",),
    )

__all__ = [
    "OneEuro",
    "SmoothOptions",
    "Track",
    "TrackOptions",
    "TrackedFrame",
    "TrackedObject",
    "Tracker",
    "follow",
    "read_frames",
]
