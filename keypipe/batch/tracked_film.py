"""The drawn video of identities, in pieces that a later run goes on from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.batch.workers import FRAMES_AHEAD, InOrder
from keypipe.files.atomic import replacing_file
from keypipe.images.media import BgrImage, Video, VideoWriter, open_timed_video
from keypipe.images.opencv import import_cv2
from keypipe.keypoints.skeleton import Schema
from keypipe.tracks.following import TrackedFrame
from keypipe.tracks.pictures import TrackPainter, Ways
from keypipe.videos.h264 import NO_H264, H264Writer, has_h264, join_pieces

PIECE = 1000
"""Frames of a piece: so many are drawn again at most."""


class Drawing(msgspec.Struct, frozen=True):
    """What is drawn.

    Attributes:
        path: the video.
        facts: of it.
        fps: frames a second on the average.
        n_frames: of the video.
        frames: makes an iterator over all of them, with their identities.
        schema: the model's classes and skeletons.
        keypoint_conf: keypoints with less confidence are not drawn.
        workers: threads that draw.
        progress: is told the number of frames drawn.
    """

    path: Path
    facts: Video
    fps: float
    n_frames: int
    frames: Callable[[], Iterator[TrackedFrame]]
    schema: Schema
    keypoint_conf: float
    workers: int
    progress: Callable[[int], None]


def draw_film(drawing: Drawing, pieces: Path, target: Path) -> str:
    """Draw a video.

    Args:
        drawing: what.
        pieces: folder of those that are there already, and of the new ones.
        target: the file, ending in ``.mp4``.

    Returns:
        Why browsers do not play it; empty if they do.
    """
    if has_h264():
        join_pieces(_draw_pieces(drawing, pieces), target)
        return ""
    with VideoWriter(target, drawing.facts.size_wh, drawing.fps) as writer:
        for _, drawn in _draw_frames(drawing, drawing.frames(), TrackPainter(drawing.schema, drawing.keypoint_conf), 0):
            writer.write(drawn)
    return NO_H264


def _draw_pieces(drawing: Drawing, folder: Path) -> list[tuple[Path, float]]:
    """Draw the pieces that are not there yet; return all, with the seconds at which they begin."""
    files = [folder / f"{start:09}.mp4" for start in range(0, drawing.n_frames, PIECE)]
    done = next((index for index, file in enumerate(files) if not file.exists()), len(files))
    painter = TrackPainter(drawing.schema, drawing.keypoint_conf)
    frames, starts = drawing.frames(), []
    for number, frame in enumerate(islice(frames, done * PIECE)):
        painter.see(frame)
        if number % PIECE == 0:
            starts.append(frame.seconds)
    with closing(_draw_frames(drawing, frames, painter, done * PIECE)) as drawn:
        for file in files[done:]:
            with replacing_file(file) as temporary, H264Writer(temporary, drawing.facts.size_wh, drawing.fps) as writer:
                for number, (seconds, picture) in enumerate(islice(drawn, PIECE)):
                    if number == 0:
                        starts.append(seconds)
                    writer.write(picture, seconds - starts[-1])
    return list(zip(files, starts, strict=True))


def _draw_frames(
    drawing: Drawing, frames: Iterator[TrackedFrame], painter: TrackPainter, start: int
) -> Generator[tuple[float, BgrImage]]:
    """Yield frames from ``start`` on, where ``frames`` stands: their times, and the pictures, BGR."""
    cv2 = import_cv2()

    def work(job: tuple[TrackedFrame, Ways, NDArray[np.uint8]]) -> tuple[TrackedFrame, BgrImage]:
        frame, ways, image = job
        drawn = painter.draw(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), frame, ways)
        return frame, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)

    with open_timed_video(drawing.path, start) as (_, images):
        jobs = ((frame, painter.see(frame), image) for frame, (_, image) in zip(frames, images, strict=False))
        with closing(iter(InOrder(work, jobs, drawing.workers, FRAMES_AHEAD))) as results:
            for frame, drawn in results:
                yield frame.seconds, drawn
                drawing.progress(frame.frame + 1)
