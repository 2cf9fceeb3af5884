"""DeepLabCut's tables of predictions of several animals: a row a frame, x, y and likelihood of every part of each one.

Header rows ``scorer``, ``individuals``, ``bodyparts``, ``coords``, then the number of the frame and the values; empty
where an animal is not seen. The HDF5 file is pandas' table under the key ``df_with_missing``, as DeepLabCut's
``analyze_videos`` and ``stitch_tracklets`` leave it.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from keypipe.errors import PoseError, needs_extra
from keypipe.tracks.following import TrackedFrame
from keypipe.tracks.tables.head import TableHead

LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_KEY = "df_with_missing"
_VALUES_AT_ONCE = 1_000_000  # that are held until they are written


def deeplabcut_columns(head: TableHead) -> list[tuple[str, str, str, str]]:
    """Return the columns in order, each with a name on every level."""
    individuals, scorer = head.individuals, head.model
    return [
        (scorer, individuals[track.track], part, coord)
        for track in head.tracks
        for part in head.schema.classes[track.class_name].keypoints
        for coord in ("x", "y", "likelihood")
    ]


def to_values(frame: TrackedFrame, head: TableHead) -> list[float]:
    """Return a frame's row; NaN for who is not seen."""
    seen = {item.track: item for item in frame.predictions}
    values: list[float] = []
    for track in head.tracks:
        item = seen.get(track.track)
        if item is None:
            values += [math.nan] * (3 * len(head.schema.classes[track.class_name].keypoints))
        else:
            values += [value for point in item.keypoints for value in (point.x, point.y, point.confidence)]
    return values


class DeepLabCutCsv:
    """The CSV file."""

    def __init__(self, path: Path, head: TableHead) -> None:
        self._head = head
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        columns = deeplabcut_columns(head)
        for place, level in enumerate(LEVELS):
            self._writer.writerow([level, *(names[place] for names in columns)])

    def write(self, frame: TrackedFrame) -> None:
        """Add the next frame."""
        values = ["" if math.isnan(value) else value for value in to_values(frame, self._head)]
        self._writer.writerow([frame.frame, *values])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class DeepLabCutH5:
    """The HDF5 file, written in pieces."""

    def __init__(self, path: Path, head: TableHead) -> None:
        with needs_extra("PyTables", "dlc"):
            import pandas
            import tables  # noqa: F401 - pandas needs it, and would say so only at the first frame
        self._head, self._path = head, path
        self._pandas: Any = pandas
        self._columns = pandas.MultiIndex.from_tuples(deeplabcut_columns(head), names=LEVELS)
        self._store = pandas.HDFStore(path, mode="w", complevel=4, complib="zlib")
        self._rows: list[list[float]] = []
        self._numbers: list[int] = []

    def write(self, frame: TrackedFrame) -> None:
        """Add the next frame."""
        self._rows.append(to_values(frame, self._head))
        self._numbers.append(frame.frame)
        if len(self._rows) * len(self._columns) >= _VALUES_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        try:
            self._flush()
        finally:
            self._store.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        piece = self._pandas.DataFrame(self._rows, index=self._numbers, columns=self._columns, dtype=float)
        try:
            if len(self._columns):
                self._store.append(_KEY, piece, format="table")
            else:  # a table without columns pandas would leave out
                self._store.put(_KEY, piece, format="fixed", track_times=False)
        except OSError:  # a full disk, above all
            raise
        except Exception as error:  # PyTables has errors of its own for a header that is too long
            raise PoseError(
                f"{self._path}: pandas could not write {len(self._head.tracks)} individuals beside each other"
                f" ({len(self._columns)} columns; {error or type(error).__name__}); where these are too many,"
                " the tables csv, parquet and sleap hold them"
            ) from error
        self._rows, self._numbers = [], []
