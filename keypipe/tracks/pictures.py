"""Frames with identities drawn: boxes in a colour for each, and the way that each has come."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np

from keypipe.drawing.colours import INK, Colour, oklch_to_rgb
from keypipe.drawing.layer import Layer, RgbImage
from keypipe.drawing.markings import DrawnObject, DrawnPoint, draw_objects, size_wh, unit_px
from keypipe.drawing.text import draw_tags
from keypipe.keypoints.skeleton import Schema
from keypipe.tracks.following import TrackedFrame

TRAIL_S = 2.0
"""So long the way of an object stays on the picture."""

_GOLDEN_ANGLE = 137.508  # hues of neighbours in number lie far apart


def track_colour(track: int) -> Colour:
    """Return an identity's colour, the same in every video."""
    return oklch_to_rgb(0.80, 0.15, 20 + _GOLDEN_ANGLE * track)


Ways = dict[int, tuple[tuple[float, float, float] | None, ...]]
"""Where identities have been: seconds, and the box's middle in pixels; None where the way is broken off."""


class TrackPainter:
    """Draws frame by frame, and remembers the ways."""

    def __init__(self, schema: Schema, keypoint_conf: float) -> None:
        self._schema, self._keypoint_conf = schema, keypoint_conf
        self._ways: dict[int, deque[tuple[float, float, float] | None]] = {}

    def see(self, frame: TrackedFrame) -> Ways:
        """Take in a frame, each in its turn, also those that are not drawn; return the ways until then."""
        for item in frame.predictions:
            left, top, right, bottom = item.box_xyxy
            self._ways.setdefault(item.track, deque()).append((frame.seconds, (left + right) / 2, (top + bottom) / 2))
        for track in frame.gaps:  # no line across a time in which nobody knows where it was
            if self._ways.get(track, deque([None]))[-1] is not None:
                self._ways[track].append(None)
        for track, way in list(self._ways.items()):
            while way and (way[0] is None or way[0][0] < frame.seconds - TRAIL_S):
                way.popleft()
            if not way:
                del self._ways[track]
        return {track: tuple(way) for track, way in self._ways.items()}

    def draw(self, image_rgb: RgbImage, frame: TrackedFrame, ways: Ways) -> RgbImage:
        """Draw a frame, in any thread.

        Args:
            image_rgb: uint8 (height, width, 3); stays as it is.
            frame: its objects, in pixels of the image.
            ways: as ``see`` returned them for this frame.

        Returns:
            uint8 (height, width, 3), a new picture.
        """
        picture = image_rgb.copy()
        _draw_ways(picture, frame.seconds, ways)
        objects = [
            DrawnObject(
                item.class_name,
                f"{item.class_name} {item.track}",
                item.box_xyxy,
                {
                    point.name: DrawnPoint((point.x, point.y))
                    for point in item.keypoints
                    if point.confidence >= self._keypoint_conf
                },
                track_colour(item.track),
            )
            for item in frame.predictions
        ]
        draw_objects(picture, objects, self._schema)
        draw_tags(picture, objects, self._schema)
        return picture


def _draw_ways(picture: RgbImage, now_s: float, ways: Ways) -> None:
    width = 2.6 * unit_px(size_wh(picture))
    for track, way in ways.items():
        steps = [(a, b) for a, b in pairwise(way) if a is not None and b is not None]
        if not steps:
            continue
        starts = np.array([a[1:] for a, _ in steps])
        ends = np.array([b[1:] for _, b in steps])
        fresh = [max(0.0, 1 - (now_s - b[0]) / TRAIL_S) for _, b in steps]
        low = np.minimum(starts.min(0), ends.min(0)) - 2 * width
        high = np.maximum(starts.max(0), ends.max(0)) + 2 * width
        layer = Layer(picture, (low[0], low[1], high[0], high[1]))
        layer.lines(starts, ends, width + 1.6, [(*INK, round(110 * share)) for share in fresh])
        layer.lines(starts, ends, width, [(*track_colour(track), round(230 * share)) for share in fresh])
        layer.paste()
