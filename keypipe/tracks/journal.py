"""Predictions of a video, line by line on the disk: what a killed run goes on from, and what identities are made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from keypipe.tracks.similarity import Objects


class SeenObject(msgspec.Struct, frozen=True, array_like=True):
    """An object without names: its class's and its keypoints' are their places in the schema."""

    class_id: int
    score: float
    box_xyxy: tuple[float, float, float, float]
    points: list[tuple[float, float, float]]


class SeenFrame(msgspec.Struct, frozen=True, array_like=True):
    """A frame: its number from 0, its time in seconds, what was found."""

    number: int
    seconds: float
    objects: list[SeenObject]


KeypointNames = dict[str, tuple[str, ...]]
"""For each class, in schema order, its keypoints in order."""

_FRAME = msgspec.json.Decoder(SeenFrame)


class Journal:
    """Takes frames, each of them safe once it was taken; a line that a kill left unfinished is taken back."""

    def __init__(self, path: Path) -> None:
        """Open a file, or begin it.

        Args:
            path: the file; its folder exists.
        """
        self.n_frames, self.seconds, whole = 0, 0.0, 0
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    frame = _read_line(line, self.n_frames)
                    if frame is None:
                        break
                    whole += len(line)
                    self.n_frames, self.seconds = frame.number + 1, frame.seconds
        self._file: IO[bytes] = path.open("ab")
        self._file.truncate(whole)

    def write(self, frame: SeenFrame) -> None:
        """Add the next frame."""
        self._file.write(msgspec.json.encode(frame) + b"\n")
        self._file.flush()
        self.n_frames, self.seconds = frame.number + 1, frame.seconds

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _read_line(line: bytes, number: int) -> SeenFrame | None:
    """Return the frame of a line; None where it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        frame = _FRAME.decode(line)
    except msgspec.DecodeError:
        return None
    return frame if frame.number == number else None


def read_journal(path: Path) -> Iterator[SeenFrame]:
    """Yield the frames of a file that is whole."""
    with path.open("rb") as file:
        for line in file:
            yield _FRAME.decode(line)


def to_seen(number: int, seconds: float, predictions: list[Prediction], names: KeypointNames) -> SeenFrame:
    """Leave the names away."""
    classes = {name: index for index, name in enumerate(names)}
    return SeenFrame(
        number,
        seconds,
        [
            SeenObject(
                classes[found.class_name],
                found.score,
                found.box_xyxy,
                [(point.x, point.y, point.confidence) for point in found.keypoints],
            )
            for found in predictions
        ],
    )


def to_keypoints(seen: SeenObject, names: tuple[str, ...]) -> list[PredictedKeypoint]:
    """Give an object's keypoints their names back."""
    return [PredictedKeypoint(name, *point) for name, point in zip(names, seen.points, strict=True)]


def to_objects(frame: SeenFrame, n_keypoints: int) -> Objects:
    """Return a frame's objects as arrays.

    Args:
        frame: of a journal.
        n_keypoints: the most that a class has.
    """
    count = len(frame.objects)
    points = np.zeros((count, n_keypoints, 3))
    for row, seen in enumerate(frame.objects):
        points[row, : len(seen.points)] = seen.points
    return Objects(
        np.array([seen.class_id for seen in frame.objects], np.int64),
        np.array([seen.score for seen in frame.objects], np.float64),
        np.array([seen.box_xyxy for seen in frame.objects], np.float64).reshape(count, 4),
        points,
    )
