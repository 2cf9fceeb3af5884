"""A row for every object on every frame: CSV and Parquet.

Columns: ``frame``, ``seconds``, ``track``, ``class``, ``state``, ``score``, ``left``, ``top``, ``right``, ``bottom``,
and ``<keypoint>_x``, ``<keypoint>_y``, ``<keypoint>_confidence`` for every keypoint of any class; pixels from the upper
left corner. The state is ``seen``; or ``gap``, between two frames on which the object was seen: such a row has no
places, for nobody knows them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keypipe.errors import needs_extra
from keypipe.keypoints.skeleton import Schema
from keypipe.tracks.following import TrackedFrame
from keypipe.tracks.tables.head import TableHead

_FIRST = ("frame", "seconds", "track", "class", "state", "score", "left", "top", "right", "bottom")
_ROWS_AT_ONCE = 8192


def table_columns(schema: Schema) -> tuple[str, ...]:
    """Return the names of the columns, in order."""
    return (*_FIRST, *(f"{slot}_{what}" for slot in schema.slots for what in ("x", "y", "confidence")))


def to_rows(frame: TrackedFrame, head: TableHead, class_of: dict[int, str]) -> Iterator[list[Any]]:
    """Yield the rows of a frame; None for what is not known.

    Args:
        frame: the frame.
        head: of the table.
        class_of: class by identity.
    """
    slots = head.schema.slots
    seen = {item.track: item for item in frame.predictions}
    for track in sorted([*seen, *frame.gaps]):
        start = [frame.frame, round(frame.seconds, 6), track, class_of[track]]
        if track not in seen:
            yield [*start, "gap", *[None] * (5 + 3 * len(slots))]
            continue
        item = seen[track]
        places = {point.name: (point.x, point.y, point.confidence) for point in item.keypoints}
        values = [value for slot in slots for value in places.get(slot, (None, None, None))]
        yield [*start, "seen", item.score, *item.box_xyxy, *values]


class CsvTable:
    """CSV in UTF-8, with one row of names; what is not known is empty."""

    def __init__(self, path: Path, head: TableHead) -> None:
        self._head = head
        self._class_of = {track.track: track.class_name for track in head.tracks}
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(table_columns(head.schema))

    def write(self, frame: TrackedFrame) -> None:
        """Add the next frame."""
        self._writer.writerows(to_rows(frame, self._head, self._class_of))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetTable:
    """Parquet; how it came about is in the file's metadata under ``keypipe``, as JSON."""

    def __init__(self, path: Path, head: TableHead) -> None:
        with needs_extra("pyarrow", "log"):
            import pyarrow
            import pyarrow.parquet
        kinds = {
            "frame": pyarrow.int64(),
            "track": pyarrow.int32(),
            "class": pyarrow.string(),
            "state": pyarrow.string(),
        }
        fields = [(name, kinds.get(name, pyarrow.float64())) for name in table_columns(head.schema)]
        self._schema = pyarrow.schema(fields, metadata={"keypipe": head.about})
        self._batch = pyarrow.RecordBatch
        self._head = head
        self._class_of = {track.track: track.class_name for track in head.tracks}
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[list[Any]] = []

    def write(self, frame: TrackedFrame) -> None:
        """Add the next frame."""
        self._rows += to_rows(frame, self._head, self._class_of)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        if columns:
            self._writer.write_batch(
                self._batch.from_pydict(dict(zip(self._schema.names, columns, strict=True)), self._schema)
            )
        self._rows = []
