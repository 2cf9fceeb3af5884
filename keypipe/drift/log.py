"""A log of predictions: sampled, bounded on disk, and never in the way of the predictions themselves."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keypipe.drift.observation import compare_views, look_at_pixels, to_objects
from keypipe.drift.rows import Row
from keypipe.drift.segments import LONGEST_S, PICTURES, SUFFIX, begun_at, import_arrow, write_segment
from keypipe.errors import ConfigError
from keypipe.files.atomic import replacing_file
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.results import ModelStamp
from keypipe.keypoints.predictions import Prediction

MEGA = 1_000_000
_DAY_S = 86400.0
_ROWS = 1000  # of a segment at most
_WRITE_S = 30.0  # what a process that is killed takes with it is not older
_LEFT_OVER_S = 3600.0  # a temporary file of that age is a killed process's
_PRIVATE = 0o700


class LogSettings(msgspec.Struct, frozen=True):
    """Where and how much is logged.

    Attributes:
        folder: takes the segments; several processes may log into one.
        share: of the images that is logged, above 0 to 1.
        mb: what the segments take on the disk at most, megabytes; the oldest go first.
        days: how long rows and pictures are kept.
        picture_mb: what small pictures take at most; 0: there are none.
        picture_px: their longest side.
        views: whether the model looks at the mirrored and at a smaller image as well, which takes three times as long.
    """

    folder: Path
    share: float = 1.0
    mb: float = 256.0
    days: float = 90.0
    picture_mb: float = 0.0
    picture_px: int = 320
    views: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"log-share should be above 0 and at most 1, got {self.share:g}")
        for name in ("mb", "days"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"log-{name} should be above 0, got {getattr(self, name):g}")
        if self.picture_mb < 0:
            raise ConfigError(f"log-picture-mb should be 0 or more, got {self.picture_mb:g}")
        if self.picture_px < 16:
            raise ConfigError(f"log-picture-px should be at least 16, got {self.picture_px}")


class PredictionLog:
    """Writes rows as they come; a failure of the disk is told once and stops no prediction.

    The rows of the segment that is being filled are written anew every half minute, by a temporary file that takes its
    place, so that a process that is killed loses no more than that, and no reader ever sees half a file.

    Attributes:
        logged: rows that this process has added.
        problem: why rows could not be written; empty if they could.
    """

    def __init__(self, settings: LogSettings) -> None:
        """Take the folder, which is made for its owner alone.

        Raises:
            ConfigError: it cannot be made.
            PoseError: pyarrow is not installed.
        """
        import_arrow()
        self.settings = settings
        self.logged = 0
        self.problem = ""
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._unwritten = False
        self._next_write = 0.0
        self._segment = Path()
        self._writer = f"{socket.gethostname().split('.')[0]}-{os.getpid()}-{secrets.token_hex(3)}"
        try:
            for folder in (settings.folder, settings.folder / PICTURES)[: 2 if settings.picture_mb else 1]:
                if not folder.exists():
                    folder.mkdir(parents=True, mode=_PRIVATE)
            if not os.access(settings.folder, os.W_OK | os.X_OK):
                raise PermissionError(13, os.strerror(13))
        except OSError as error:
            raise ConfigError(f"{settings.folder}: predictions cannot be logged there ({error.strerror})") from error

    def wants(self) -> bool:
        """Draw whether the next image is logged."""
        return self.settings.share >= 1 or random.random() < self.settings.share

    def look(
        self,
        predictor: Predictor,
        image_bgr: NDArray[np.uint8],
        predictions: list[Prediction],
        *,
        model: ModelStamp,
        thresholds: Thresholds,
        source: str,
        group: str,
        image: str,
        at: float | None = None,
    ) -> Row | None:
        """Make the row of an image, which ``keep`` adds; several threads may do so at the same time.

        Args:
            predictor: the model.
            image_bgr: uint8 (height, width, 3), BGR, upright.
            predictions: what it found, in pixels of the image.
            model: which model it is.
            thresholds: which objects were kept.
            source: ``serve`` or ``predict``.
            group: what belongs together; "" where nobody said.
            image: what it is called.
            at: seconds since the epoch; None: now.

        Returns:
            The row; None where its picture could not be written, see ``problem``.
        """
        row = to_row(
            predictor,
            image_bgr,
            predictions,
            views=self.settings.views,
            model=model,
            thresholds=thresholds,
            source=source,
            group=group,
            image=image,
            at=time.time() if at is None else at,
        )
        try:
            picture = self._keep_picture(row, image_bgr) if self.settings.picture_mb else ""
        except OSError as error:
            self.problem = f"{self.settings.folder}: {error.strerror or error}"
            return None
        return msgspec.structs.replace(row, picture=picture)

    def keep(self, row: Row) -> None:
        """Add a row; a failure of the disk is kept in ``problem``."""
        try:
            self.add(row)
        except OSError as error:
            self.problem = f"{self.settings.folder}: {error.strerror or error}"

    def add(self, row: Row) -> None:
        """Add a row.

        Raises:
            OSError: the segment cannot be written.
        """
        with self._lock:
            if self._rows and (len(self._rows) >= _ROWS or row.at - self._rows[0].at > LONGEST_S):
                self._write()
                self._rows = []
            if not self._rows:
                self._segment = self.settings.folder / f"{round(row.at * 1000):013d}-{self._writer}{SUFFIX}"
                self._next_write = time.monotonic() + _WRITE_S
            self._rows.append(row)
            self._unwritten = True
            self.logged += 1
            if time.monotonic() >= self._next_write:
                self._write()

    def flush(self) -> None:
        """Write what has come; a failure of the disk is kept in ``problem``."""
        with self._lock:
            try:
                self._write()
            except OSError as error:
                self.problem = f"{self.settings.folder}: {error.strerror or error}"

    def close(self) -> None:
        """Write the rest."""
        self.flush()

    def _write(self) -> None:
        if not self._unwritten:
            return
        self._next_write = time.monotonic() + _WRITE_S
        write_segment(self._segment, self._rows)
        self._unwritten = False
        self.problem = ""
        self._make_room()

    def _make_room(self) -> None:
        """Drop what is too old, then the oldest, until the rest fits."""
        folder = self.settings.folder
        drop(find_too_much(self.settings))
        for path in [*folder.glob(f".*{SUFFIX}"), *(folder / PICTURES).glob(".*.jpg")]:
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _LEFT_OVER_S:
                    path.unlink()

    def _keep_picture(self, row: Row, image_bgr: NDArray[np.uint8]) -> str:
        picture = Image.fromarray(np.ascontiguousarray(image_bgr[..., ::-1]))
        picture.thumbnail((self.settings.picture_px, self.settings.picture_px), Image.Resampling.BILINEAR)
        name = f"{round(row.at * 1000):013d}-{self._writer}-{secrets.token_hex(3)}.jpg"
        with replacing_file(self.settings.folder / PICTURES / name) as temporary:
            picture.save(temporary, "JPEG", quality=82)
        return name


def to_row(
    predictor: Predictor,
    image_bgr: NDArray[np.uint8],
    predictions: list[Prediction],
    *,
    views: bool,
    model: ModelStamp,
    thresholds: Thresholds,
    source: str,
    group: str,
    image: str,
    at: float,
) -> Row:
    """Make the row of an image; see ``PredictionLog.look``."""
    size_wh = (image_bgr.shape[1], image_bgr.shape[0])
    compared = compare_views(predictor, image_bgr, predictions, thresholds) if views else ()
    return Row(
        at=at,
        source=source,
        model=model.path,
        sha256=model.sha256,
        group=group,
        image=image,
        size_wh=size_wh,
        thresholds=thresholds,
        pixels=look_at_pixels(image_bgr),
        views=views,
        objects=to_objects(predictions, size_wh, compared),
    )


def find_too_much(settings: LogSettings) -> dict[Path, int]:
    """Return the segments and pictures of a log that its limits leave no room for, with their sizes in bytes."""
    oldest = time.time() - settings.days * _DAY_S
    return {
        **find_oldest(settings.folder.glob(f"[!.]*{SUFFIX}"), int(settings.mb * MEGA), oldest),
        **find_oldest((settings.folder / PICTURES).glob("[!.]*.jpg"), int(settings.picture_mb * MEGA), oldest),
    }


def find_oldest(files: Iterable[Path], most_bytes: int, oldest: float) -> dict[Path, int]:
    """Return files that are too old, then the oldest ones until the rest fits; their names say how old they are.

    Args:
        files: named as segments are.
        most_bytes: what they may take together.
        oldest: those that began before are too old, seconds since the epoch.

    Returns:
        Their sizes in bytes. One that another process deletes at the same time is passed over.
    """
    sizes: dict[Path, int] = {}
    for path in sorted(files):
        with contextlib.suppress(OSError):
            if begun_at(path) is not None:
                sizes[path] = path.stat().st_size
    total = sum(sizes.values())
    found: dict[Path, int] = {}
    for path, size in sizes.items():
        if (begun_at(path) or 0.0) >= oldest and total <= most_bytes:
            break
        found[path] = size
        total -= size
    return found


def drop(files: Iterable[Path]) -> int:
    """Delete files, and return how many went; one that another process deletes at the same time is passed over."""
    dropped = 0
    for path in files:
        with contextlib.suppress(OSError):
            path.unlink()
            dropped += 1
    return dropped
