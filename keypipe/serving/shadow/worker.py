"""The process in which the challenger runs: whatever it does there, the server's own process answers on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from keypipe.errors import AnnotationError, PoseError
from keypipe.inference.predictor import Thresholds
from keypipe.keypoints.predictions import Prediction
from keypipe.serving.following.fetching import without_folder
from keypipe.serving.model import Registered, ServedModel, open_model
from keypipe.serving.shadow.comparison import Difference, compare_predictions

_LOWEST_PRIORITY = 19
_GO_FIRST = "1000"  # of all processes, where the machine runs out of memory


class Opening(msgspec.Struct, frozen=True):
    """The challenger that a process is for.

    Attributes:
        path: the network's file.
        registered: which version it is.
        example: an image to try it on.
        max_megapixels: largest image.
    """

    path: Path
    registered: Registered
    example: bytes
    max_megapixels: float


class Sample(msgspec.Struct, frozen=True):
    """What the model in use was asked, and what it answered.

    Attributes:
        content: the image's file.
        champion: the model, such as ``models:/cows/3``.
        thresholds: what was asked for.
        predictions: what it found.
        size_wh: width and height of the upright image, pixels.
    """

    content: bytes
    champion: str
    thresholds: Thresholds
    predictions: list[Prediction]
    size_wh: tuple[int, int]


class Line(Difference, frozen=True, kw_only=True):
    """What is written of a sample: no picture, and nothing that the client said of it.

    Attributes:
        at: when, seconds since the epoch.
        image: SHA-256 of the image's file.
        size_wh: width and height of the upright image, pixels.
        champion: the model in use, such as ``models:/cows/3``.
        challenger: the other one.
        thresholds: what was asked for.
        ms: milliseconds that the challenger took, on one core that it left to all others.
    """

    at: float
    image: str
    size_wh: tuple[int, int]
    champion: str
    challenger: str
    thresholds: Thresholds
    ms: float


def run(connection: Connection, opening: Opening) -> None:
    """Open the challenger, and compare what is sent until nobody sends any more; the program of the process.

    Args:
        connection: brings ``Sample``; takes "" once the model is open, a ``Line`` for each sample, or why not.
        opening: the challenger.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends this
    os.nice(_LOWEST_PRIORITY)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_GO_FIRST)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            # The CPU alone, and one thread: on a GPU it would have the same priority as the server.
            model = open_model(
                opening.path, Thresholds(), "cpu", opening.max_megapixels, registered=opening.registered, threads=1
            )
            model.check(opening.example)
        except PoseError as error:
            connection.send(without_folder(error, opening.path))
            return
        connection.send("")
        while True:
            connection.send(_compare(model, connection.recv()))


def _compare(model: ServedModel, sample: Sample) -> Line | str:
    started = time.perf_counter()
    try:
        found = model.predict(sample.content, "", sample.thresholds)
    except (PoseError, AnnotationError) as error:
        return str(error)
    difference = compare_predictions(sample.predictions, found.predictions, sample.thresholds)
    return Line(
        at=round(time.time(), 3),
        image=hashlib.sha256(sample.content).hexdigest(),
        size_wh=sample.size_wh,
        champion=sample.champion,
        challenger=model.stamp.path,
        thresholds=sample.thresholds,
        ms=round(1000 * (time.perf_counter() - started), 1),
        **msgspec.structs.asdict(difference),
    )
