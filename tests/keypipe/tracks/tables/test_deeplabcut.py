from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from keypipe.tracks.following import TrackedFrame
from keypipe.tracks.tables.head import TableHead
from keypipe.tracks.tables.writing import FORMATS, open_tables
from tests.keypipe.tracks.frames import SCHEMA
from tests.keypipe.tracks.tables.films import ABOUT, written

HEADERS = ["scorer", "individuals", "bodyparts", "coords"]


def check(table: pd.DataFrame, frames: list[object]) -> None:
    assert list(table.columns.names) == HEADERS
    assert list(table.index) == list(range(len(frames)))
    assert set(table.columns.get_level_values("scorer")) == {"keypipe_01234567"}
    assert list(table.columns.get_level_values("individuals").unique()) == ["cow1", "cow2", "dog3"]
    animals = table["keypipe_01234567"]
    for frame in frames:
        seen = {f"{item.class_name}{item.track}": item for item in frame.predictions}  # type: ignore[attr-defined]
        for individual in ("cow1", "cow2", "dog3"):
            row = animals[individual].loc[frame.frame]  # type: ignore[attr-defined]
            if individual not in seen:
                assert row.isna().all()
                continue
            for point in seen[individual].keypoints:
                found = tuple(row[point.name, coord] for coord in ("x", "y", "likelihood"))
                assert found == (point.x, point.y, point.confidence)


def test_pandas_reads_the_csv_as_deeplabcut_does(tmp_path: Path) -> None:
    with written(tmp_path, "dlc") as (path, frames):
        check(pd.read_csv(path, header=[0, 1, 2, 3], index_col=0), frames)


def test_pandas_reads_the_h5_as_deeplabcut_does(tmp_path: Path) -> None:
    pytest.importorskip("tables", reason="needs PyTables: pip install 'keypipe[dlc]'")
    with written(tmp_path, "dlc-h5", n_frames=300) as (path, frames):
        check(pd.read_hdf(path, "df_with_missing"), frames)


def write_empty(folder: Path, name: str) -> Path:
    """Write the table of a film of five frames on which nobody was seen."""
    path = folder / f"film{FORMATS[name].ending}"
    with open_tables({name: path}, TableHead(SCHEMA, [], 5, "film.mp4", ABOUT)) as write:
        for number in range(5):
            write(TrackedFrame(number, number / 30, [], []))
    return path


def test_a_csv_of_nobody_has_its_headers(tmp_path: Path) -> None:
    lines = write_empty(tmp_path, "dlc").read_text().splitlines()
    assert lines == [*HEADERS, "0", "1", "2", "3", "4"]


def test_an_h5_of_nobody_has_its_frames(tmp_path: Path) -> None:
    pytest.importorskip("tables", reason="needs PyTables: pip install 'keypipe[dlc]'")
    table = pd.read_hdf(write_empty(tmp_path, "dlc-h5"), "df_with_missing")
    assert (table.shape, list(table.columns.names), list(table.index)) == ((5, 0), HEADERS, [0, 1, 2, 3, 4])
