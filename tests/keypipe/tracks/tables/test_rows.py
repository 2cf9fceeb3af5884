from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from keypipe.tracks.tables.rows import table_columns
from tests.keypipe.tracks.frames import SCHEMA
from tests.keypipe.tracks.tables.films import ABOUT, written


@pytest.mark.parametrize(("name", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_pandas_reads_what_was_found(tmp_path: Path, name: str, read: object) -> None:
    with written(tmp_path, name) as (path, frames):
        table = read(path)  # type: ignore[operator]
        assert tuple(table.columns) == table_columns(SCHEMA)
        assert len(table) == sum(len(frame.predictions) + len(frame.gaps) for frame in frames)
        for frame in frames:
            for item in frame.predictions:
                (row,) = table[(table.frame == frame.frame) & (table.track == item.track)].to_dict("records")
                assert (row["class"], row["state"], row["score"]) == (item.class_name, "seen", item.score)
                assert (row["left"], row["top"], row["right"], row["bottom"]) == item.box_xyxy
                assert row["seconds"] == frame.seconds
                for point in item.keypoints:
                    found = tuple(row[f"{point.name}_{what}"] for what in ("x", "y", "confidence"))
                    assert found == (point.x, point.y, point.confidence)


@pytest.mark.parametrize(("name", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_a_gap_has_a_row_without_places_and_a_class_no_values_for_others_keypoints(
    tmp_path: Path, name: str, read: object
) -> None:
    with written(tmp_path, name) as (path, _):
        table = read(path)  # type: ignore[operator]
        (gap,) = table[table.state == "gap"].to_dict("records")
        assert (gap["frame"], gap["track"], gap["class"]) == (5, 2, "cow")
        assert pd.isna([gap[column] for column in table_columns(SCHEMA)[5:]]).all()
        assert table[table["class"] == "dog"].tail_x.isna().all()


def test_parquet_says_how_it_came_about_and_comes_in_pieces(tmp_path: Path) -> None:
    with written(tmp_path, "parquet", n_frames=6000) as (path, _):
        file = pq.ParquetFile(path)
        assert file.schema_arrow.metadata[b"keypipe"] == ABOUT.encode()
        assert file.metadata.num_row_groups == 2
        assert json.loads(ABOUT)["smoothing"] is None
