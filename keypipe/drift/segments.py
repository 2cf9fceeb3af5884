"""The files of a prediction log: Parquet segments, each whole or not there, and small pictures beside them.

A segment's name begins with the time of its first row, in milliseconds, so that names sort by age, and ends with what
tells its writer from all others: many processes may write into one folder, also of several machines.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from keypipe.drift.rows import LoggedKeypoint, LoggedObject, PixelStatistics, Row
from keypipe.errors import needs_extra
from keypipe.files.atomic import replacing_file
from keypipe.inference.predictor import Thresholds

SUFFIX = ".parquet"
PICTURES = "pictures"
LONGEST_S = 3600.0
"""Time that a segment covers at most."""

_SLACK_S = 600.0  # clocks of several machines differ


def import_arrow() -> Any:
    """Return pyarrow's module, with its Parquet.

    Raises:
        PoseError: it is not installed.
    """
    with needs_extra("pyarrow", "log"):
        import pyarrow
        import pyarrow.parquet
    return pyarrow


def write_segment(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a Parquet file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    arrow = import_arrow()
    table = arrow.Table.from_pylist([_flatten(row) for row in rows], schema=_schema(arrow))
    with replacing_file(path) as temporary:
        arrow.parquet.write_table(table, temporary, compression="zstd")


def read_segment(path: Path) -> list[Row]:
    """Read all rows of a segment.

    Raises:
        OSError: it is not there, or is none.
    """
    return _to_rows(_read_table(path))


class Window(msgspec.Struct, frozen=True):
    """The rows of a stretch of time.

    Attributes:
        rows: in order of time; some of them, by chance, where there are too many.
        found: rows of the model, as many as there are.
        others: rows that were left out: why -> how many.
        unreadable: segments that are damaged.
    """

    rows: list[Row]
    found: int
    others: dict[str, int]
    unreadable: list[str]


def read_window(folder: Path, since: float, until: float, sha256: str, most: int, seed: int) -> Window:
    """Read what a model saw in a stretch of time.

    Rows of the thresholds that are most frequent are kept, since other thresholds give other numbers of objects.

    Args:
        folder: of the log.
        since: seconds since the epoch.
        until: the same; this moment is not part of it.
        sha256: hash of the model's file.
        most: rows that are returned at most.
        seed: of the draw among more.
    """
    places: list[tuple[Path, int, float, str]] = []
    others: Counter[str] = Counter()
    unreadable: list[str] = []
    kinds: Counter[str] = Counter()
    for path in _list_segments(folder, since, until):
        try:
            table = _read_table(path, ["at", "sha256", "thresholds"]).to_pylist()
        except FileNotFoundError:  # dropped by its writer since
            continue
        except OSError:
            unreadable.append(path.name)
            continue
        for index, row in enumerate(table):
            at = row["at"].timestamp()
            if not since <= at < until:
                continue
            if row["sha256"] != sha256:
                others["of another model"] += 1
                continue
            places.append((path, index, at, row["thresholds"]))
            kinds[row["thresholds"]] += 1
    if not places:
        return Window([], 0, dict(others), unreadable)
    usual = kinds.most_common(1)[0][0]
    if strange := len(places) - kinds[usual]:
        others["predicted with other thresholds than most"] += strange
    kept = [place for place in places if place[3] == usual]
    if len(kept) > most:
        chosen = np.random.default_rng(seed).choice(len(kept), most, replace=False)
        kept = [kept[index] for index in sorted(chosen)]
    rows: list[Row] = []
    for path in dict.fromkeys(place[0] for place in kept):
        with contextlib.suppress(OSError):
            table = _read_table(path)
            wanted = [place[1] for place in kept if place[0] == path and place[1] < table.num_rows]
            rows += _to_rows(table.take(wanted))
    return Window(sorted(rows, key=lambda row: row.at), kinds[usual], dict(others), unreadable)


def count_segments(folder: Path) -> int:
    """Return how many segments a folder holds."""
    return sum(1 for _ in folder.glob(f"[!.]*{SUFFIX}"))


def _list_segments(folder: Path, since: float, until: float) -> list[Path]:
    found: list[Path] = []
    for path in sorted(folder.glob(f"[!.]*{SUFFIX}")):
        begun = begun_at(path)
        if begun is None or since - LONGEST_S - _SLACK_S <= begun < until + _SLACK_S:
            found.append(path)
    return found


def begun_at(path: Path) -> float | None:
    """Return when a segment begins by its name, seconds since the epoch; None for another file."""
    number = path.name.partition("-")[0]
    return int(number) / 1000 if number.isdecimal() else None


def _read_table(path: Path, columns: list[str] | None = None) -> Any:
    arrow = import_arrow()
    try:
        # The file alone: by its path pyarrow would take names of folders for columns.
        with path.open("rb") as file:
            return arrow.parquet.read_table(file, columns=columns)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, KeyError) as error:
        raise OSError(f"{path}: not a segment of a prediction log ({error})") from error


def _schema(arrow: Any) -> Any:
    # Of twice the width that they need: rounded values have to come back as they were, or ties would be none.
    number, text = arrow.float64(), arrow.string()
    keypoint = arrow.struct(
        [("name", text), *((name, number) for name in ("x", "y", "confidence", "mirrored", "smaller"))]
    )
    found = arrow.struct(
        [
            ("class_name", text),
            ("score", number),
            ("box_xyxy", arrow.list_(number)),
            ("size", number),
            ("aspect", number),
            ("keypoints", arrow.list_(keypoint)),
        ]
    )
    return arrow.schema(
        [
            ("at", arrow.timestamp("ms", tz="UTC")),
            *((name, text) for name in ("source", "model", "sha256", "group", "image")),
            ("width", arrow.int32()),
            ("height", arrow.int32()),
            ("thresholds", text),
            *((name, number) for name in PixelStatistics.__struct_fields__),
            ("views", arrow.bool_()),
            ("objects", arrow.list_(found)),
            ("picture", text),
        ]
    )


def _flatten(row: Row) -> dict[str, Any]:
    return {
        "at": round(row.at * 1000),
        **{name: getattr(row, name) for name in ("source", "model", "sha256", "group", "image", "views", "picture")},
        "width": row.size_wh[0],
        "height": row.size_wh[1],
        "thresholds": msgspec.json.encode(row.thresholds).decode(),
        **msgspec.structs.asdict(row.pixels),
        "objects": [_flatten_object(found) for found in row.objects],
    }


def _flatten_object(found: LoggedObject) -> dict[str, Any]:
    points = [msgspec.structs.asdict(point) for point in found.keypoints]
    return msgspec.structs.asdict(found) | {"keypoints": points, "box_xyxy": list(found.box_xyxy)}


def _to_rows(table: Any) -> list[Row]:
    return [_to_row(values) for values in table.to_pylist()]


def _to_row(values: dict[str, Any]) -> Row:
    return Row(
        at=values["at"].timestamp(),
        size_wh=(values["width"], values["height"]),
        thresholds=msgspec.json.decode(values["thresholds"], type=Thresholds),
        pixels=PixelStatistics(**{name: values[name] for name in PixelStatistics.__struct_fields__}),
        objects=[
            LoggedObject(
                found["class_name"],
                found["score"],
                tuple(found["box_xyxy"]),
                found["size"],
                found["aspect"],
                [LoggedKeypoint(**point) for point in found["keypoints"]],
            )
            for found in values["objects"]
        ],
        **{name: values[name] for name in ("source", "model", "sha256", "group", "image", "views", "picture")},
    )
