"""The JSON files that a prediction leaves."""

from __future__ import annotations

from typing import IO, Any

import msgspec

from keypipe.errors import Fault
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction


class ModelStamp(msgspec.Struct, frozen=True):
    """Which model made a result.

    Attributes:
        path: the file, as it was named.
        sha256: hash of its bytes.
        license: license of the weights, where it is stated.
        version: version of the program that wrote it, where it is stated.
    """

    path: str
    sha256: str
    license: str = ""
    version: str = ""


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """What every file begins with.

    Attributes:
        model: which model.
        thresholds: what was kept and drawn.
        keypoint_names: for each class its keypoints in order.
    """

    model: ModelStamp
    thresholds: Thresholds
    keypoint_names: dict[str, tuple[str, ...]]

    def fields(self) -> dict[str, Any]:
        """Return the fields by name, to build a file with."""
        return {name: getattr(self, name) for name in Heading.__struct_fields__}


class ImageResult(Heading, frozen=True, kw_only=True):
    """What was found on an image.

    Attributes:
        file: the image, as it was named.
        size_wh: width and height of the upright image, pixels.
        drawn: the drawn picture, relative to the output folder.
        predictions: in pixels of the upright image, best score first.
    """

    file: str
    size_wh: tuple[int, int]
    drawn: str
    predictions: list[Prediction]


class Frame(msgspec.Struct, frozen=True):
    """What was found on one frame of a video: its number from 0, its time in seconds, the objects."""

    frame: int
    seconds: float
    predictions: list[Prediction]


class VideoResult(Heading, frozen=True, kw_only=True):
    """What was found in a video.

    Attributes:
        file: the video, as it was named.
        size_wh: width and height of the upright frames, pixels.
        drawn: the drawn video, relative to the output folder.
        fps: frames a second.
        frames: one entry a frame; the last field, so that it can be written as it grows.
    """

    file: str
    size_wh: tuple[int, int]
    drawn: str
    fps: float
    frames: list[Frame]


class FileEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the index: the file, its results relative to the output folder, and the number of objects.

    Of a video whose objects were followed also the number of identities, and the tables.
    """

    file: str
    drawn: str
    json: str
    objects: int
    tracks: int | None = None
    tables: list[str] = []


class Index(Heading, frozen=True, kw_only=True):
    """The list of what an output folder holds.

    Attributes:
        complete: False while the prediction runs, and for good when it was interrupted.
        files: the files that were read.
        faults: the files that could not be read.
        skipped: the files that are no image and no video that is read.
        results: the one file of all that was found on images; empty where each image has its own.
    """

    complete: bool
    files: list[FileEntry]
    faults: list[Fault]
    skipped: list[str] = []
    results: str = ""


def format_result(result: Heading) -> bytes:
    """Format a file's content as indented JSON, UTF-8."""
    return msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"


class FrameFile:
    """Writes a ``VideoResult``, or whatever ends in ``frames``, frame by frame: a long video fits no memory."""

    def __init__(self, file: IO[bytes], head: Heading) -> None:
        """Write what stands before the frames; those of ``head`` are left out."""
        self._file = file
        self._separator = b"\n"
        opened = msgspec.json.encode(msgspec.structs.replace(head, frames=[])).removesuffix(b"]}")
        file.write(opened)

    def write(self, frame: msgspec.Struct) -> None:
        """Add a frame, on a line of its own."""
        self._file.write(self._separator + msgspec.json.encode(frame))
        self._separator = b",\n"

    def close(self) -> None:
        """Write what stands after the frames; the file itself stays open."""
        self._file.write(b"\n]}\n")


def round_prediction(found: Prediction) -> Prediction:
    """Round coordinates to hundredths of a pixel and confidences to four digits, as they are written."""
    left, top, right, bottom = (round(value, 2) for value in found.box_xyxy)
    points = [
        PredictedKeypoint(point.name, round(point.x, 2), round(point.y, 2), round(point.confidence, 4))
        for point in found.keypoints
    ]
    return Prediction(found.class_name, round(found.score, 4), (left, top, right, bottom), points)
