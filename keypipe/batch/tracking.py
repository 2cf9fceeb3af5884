"""Identities through one video: predicted, followed, written as tables, drawn; killed at any point, it goes on there.

Predictions take nearly all of the time, and go to the disk frame by frame. All the rest is made of them anew, but for
finished pieces of the drawn video, so that a run that was killed ends with the same files as one that was not. A few
frames of the video are in memory at a time, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from keypipe import __version__
from keypipe.batch.sources import Source
from keypipe.batch.tracked_film import Drawing, draw_film
from keypipe.batch.unfinished import WORK, Workbench
from keypipe.batch.workers import FRAMES_AHEAD, InOrder
from keypipe.drift.rows import Row
from keypipe.errors import ConfigError
from keypipe.images.media import VIDEO_SUFFIXES, BgrImage, Video, open_timed_video
from keypipe.inference.results import FrameFile, Heading
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema
from keypipe.tracks.following import Following, Track, TrackedFrame, follow, read_frames
from keypipe.tracks.journal import Journal, to_seen
from keypipe.tracks.options import WEAK_SHARE, SmoothOptions, TrackOptions
from keypipe.tracks.tables.head import TableHead
from keypipe.tracks.tables.writing import FORMATS, check_formats, open_tables

_NEAR_END = 0.98  # of a video's stated length; containers are a little off, and what is damaged lacks more

Finder = Callable[[BgrImage, int], tuple[list[Prediction], Row | None]]


class Tracking(msgspec.Struct, frozen=True):
    """What is wished of identities.

    Attributes:
        smooth: how places are smoothed; None: not at all.
        tables: formats of ``keypipe.tracks.tables.FORMATS``.
    """

    smooth: SmoothOptions | None = None
    tables: tuple[str, ...] = ("csv",)


def to_tracking(track: bool, smooth_hz: float | None, tables: Sequence[str]) -> Tracking | None:
    """Read the options of a command.

    Args:
        track: whether objects are followed.
        smooth_hz: the smoothing's smallest cutoff; None: places stay as they were predicted.
        tables: formats beside CSV.

    Returns:
        What is wished; None for no identities.

    Raises:
        ConfigError: the others stand without the first, or make no sense.
    """
    if track:
        smooth = None if smooth_hz is None else SmoothOptions(smooth_hz)
        return Tracking(smooth, tuple(dict.fromkeys(("csv", *tables))))
    if tables or smooth_hz is not None:
        raise ConfigError("--smooth and --table are of objects that are tracked: add --track")
    return None


def check_tracking(tracking: Tracking, source: str, sources: Sequence[Source]) -> None:
    """Check that objects can be followed, before hours of work.

    Raises:
        ConfigError: there is no video, or it is a stream.
        PoseError: a table cannot be written.
    """
    if any(item.stream for item in sources):
        raise ConfigError(f"{source}: a stream cannot be tracked, for it is read twice; record it to a file first")
    if not any(item.is_video for item in sources):
        raise ConfigError(f"{source}: no video to track objects through ({' '.join(VIDEO_SUFFIXES)})")
    check_formats(tracking.tables)


def lowered(conf: float) -> float:
    """Return the score from which objects may go on with an identity, where ``conf`` is needed to begin one."""
    return round(WEAK_SHARE * conf, 4)


class TrackedResult(Heading, frozen=True, kw_only=True):
    """What was found in a video, with identities.

    Attributes:
        file: the video, as it was named.
        size_wh: width and height of the upright frames, pixels.
        drawn: the drawn video, relative to the output folder; empty if there is none.
        fps: frames a second on the average.
        tables: the tables, relative to the output folder.
        tracking: how identities were found.
        smoothing: the constants of the filter; None: places are as they were predicted.
        tracks: the identities.
        frames: one entry a frame; the last field, so that it can be written as it grows.
    """

    file: str
    size_wh: tuple[int, int]
    drawn: str
    fps: float
    tables: list[str]
    tracking: TrackOptions
    smoothing: SmoothOptions | None
    tracks: list[Track]
    frames: list[TrackedFrame]


class TrackedVideo(msgspec.Struct, frozen=True):
    """What became of a video.

    Attributes:
        n_objects: objects with an identity, on all frames together.
        n_tracks: identities.
        tables: the tables, relative to the output folder.
        missing: what of the video could not be read; empty if nothing.
        unplayable: why browsers do not play the drawn video; empty if they do.
    """

    n_objects: int
    n_tracks: int
    tables: list[str]
    missing: str = ""
    unplayable: str = ""


class VideoTracker:
    """Tracks one video into an output folder."""

    def __init__(
        self,
        path: Path,
        output: Path,
        places: tuple[Path | None, Path],
        tracking: Tracking,
        heading: Heading,
        schema: Schema,
        workers: int,
        progress: Callable[[str, int, int], None],
    ) -> None:
        """Take what is needed.

        Args:
            path: the video.
            output: folder of the results.
            places: of the drawn video, or None, and of the JSON, relative to it; tables are called after the latter.
            tracking: what is wished.
            heading: what the JSON begins with.
            schema: the model's classes and skeletons.
            workers: threads that predict, and draw.
            progress: is told how far it is.
        """
        self._path, self._output, self._progress = path, output, progress
        self._drawn, self._json = places
        self._tracking, self._heading, self._schema, self._workers = tracking, heading, schema, workers
        self._options = TrackOptions(new_score=heading.thresholds.conf)
        self._bench = Workbench(output / WORK / self._json.with_suffix(""))
        self._tables = {name: self._json.with_name(self._json.stem + FORMATS[name].ending) for name in tracking.tables}

    def run(self, find: Finder, keep: Callable[[Row], None]) -> TrackedVideo:
        """Do it all.

        Args:
            find: finds the objects of a frame, BGR, and makes a row for the log, in any thread; is told its number.
            keep: takes the rows, in order.

        Returns:
            What became of it.

        Raises:
            AnnotationError: the video cannot be read at all.
            ConfigError: another process is at it.
        """
        bench = self._bench
        with open_timed_video(self._path) as (facts, _), bench.held():
            wished = (self._options, self._tracking, str(self._drawn))
            bench.take_up((__version__, str(self._path.resolve()), *self._stamp(), self._heading), wished)
            before = bench.read_outcome(TrackedVideo)
            if before is not None:
                return before
            n_frames, last_s = self._read_all(find, keep)
            names, tell = self._heading.keypoint_names, self._teller(2, "followed", n_frames)
            following = follow(bench.journal, bench.ids, names, self._options, tell)
            fps = (n_frames - 1) / last_s if n_frames > 1 and last_s > 0 else facts.fps
            n_objects = self._write(following, facts, fps, n_frames)
            unplayable = self._draw(following, facts, fps, n_frames)
            tables = [place.as_posix() for place in self._tables.values()]
            outcome = TrackedVideo(n_objects, len(following.tracks), tables, _missing(facts, last_s), unplayable)
            drawn = [self._drawn] if self._drawn else []
            bench.hand_over(self._output, [*drawn, self._json, *self._tables.values()], outcome)
        return outcome

    def _stamp(self) -> tuple[int, int]:
        """Return what tells a video from another one of its name: size and time."""
        facts = self._path.stat()
        return facts.st_size, facts.st_mtime_ns

    def _teller(self, step: int, what: str, total: int) -> Callable[[int], None]:
        text = f"{self._path.name}, step {step} of {4 if self._drawn else 3}: frames {what}"
        return lambda done: self._progress(text, done, total)

    def _read_all(self, find: Finder, keep: Callable[[Row], None]) -> tuple[int, float]:
        """Predict on the frames that nobody has predicted on; return the number of all, and the time of the last."""
        journal = Journal(self._bench.journal)

        def work(job: tuple[int, tuple[float, BgrImage]]) -> tuple[int, float, list[Prediction], Row | None]:
            number, (seconds, image) = job
            return number, seconds, *find(image, number)

        try:
            with open_timed_video(self._path, journal.n_frames) as (facts, frames):
                tell, jobs = self._teller(1, "predicted", facts.n_frames), enumerate(frames, start=journal.n_frames)
                with closing(iter(InOrder(work, jobs, self._workers, FRAMES_AHEAD))) as results:
                    for number, seconds, found, row in results:
                        journal.write(to_seen(number, seconds, found, self._heading.keypoint_names))
                        if row:
                            keep(row)
                        tell(number + 1)
        finally:
            journal.close()
        return journal.n_frames, journal.seconds

    def _frames(self, following: Following) -> Iterator[TrackedFrame]:
        return read_frames(following, self._tracking.smooth, self._heading.thresholds.keypoint_conf)

    def _write(self, following: Following, facts: Video, fps: float, n_frames: int) -> int:
        """Write JSON and tables; return the number of objects."""
        tracks = list(following.tracks.values())
        result = TrackedResult(
            file=str(self._path),
            size_wh=facts.size_wh,
            drawn=self._drawn.as_posix() if self._drawn else "",
            fps=round(fps, 4),
            tables=[place.as_posix() for place in self._tables.values()],
            tracking=self._options,
            smoothing=self._tracking.smooth,
            tracks=tracks,
            frames=[],
            **self._heading.fields(),
        )
        told = ("model", "thresholds", "file", "fps", "tracking", "smoothing")
        about = msgspec.json.encode({name: getattr(result, name) for name in told}).decode()
        head = TableHead(self._schema, tracks, n_frames, str(self._path), about)
        tell, n_objects = self._teller(3, "written", n_frames), 0
        tables = {name: self._bench.results / place.name for name, place in self._tables.items()}
        with (self._bench.results / self._json.name).open("wb") as file, open_tables(tables, head) as write:
            frame_file = FrameFile(file, result)
            for frame in self._frames(following):
                frame_file.write(frame)
                write(frame)
                n_objects += len(frame.predictions)
                tell(frame.frame + 1)
            frame_file.close()
        return n_objects

    def _draw(self, following: Following, facts: Video, fps: float, n_frames: int) -> str:
        """Draw the video, if it is wanted; return why browsers do not play it, or nothing."""
        if not self._drawn:
            return ""
        drawing = Drawing(
            self._path,
            facts,
            fps,
            n_frames,
            lambda: self._frames(following),
            self._schema,
            self._heading.thresholds.keypoint_conf,
            self._workers,
            self._teller(4, "drawn", n_frames),
        )
        return draw_film(drawing, self._bench.pieces, self._bench.results / self._drawn.name)


def _missing(facts: Video, last_s: float) -> str:
    """Say what could not be read of a video that states its length, and is shorter."""
    stated, read = facts.n_frames / facts.fps, last_s + 1 / facts.fps
    if read >= _NEAR_END * stated or stated - read < 1:
        return ""
    return f"damaged or cut off: {read:.1f} s of {stated:.1f} s could be read, and are done"
