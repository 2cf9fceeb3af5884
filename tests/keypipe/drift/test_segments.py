"""Windows of a log: which rows are taken, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keypipe.drift.rows import Row
from keypipe.drift.segments import count_segments, read_segment, read_window, write_segment
from keypipe.inference.predictor import Thresholds
from tests.keypipe.drift.samples import SHA, make_row


def log_rows(folder: Path, *rows: Row) -> None:
    for number, row in enumerate(rows):
        write_segment(folder / f"{round(row.at * 1000):013d}-host-{number}.parquet", [row])


def test_a_window_has_its_own_rows_of_the_model_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log_rows(
        tmp_path,
        make_row(rng, at=100.0, group="before"),
        make_row(rng, at=200.0, group="first"),
        make_row(rng, at=250.0, group="other", sha256="cd" * 32),
        make_row(rng, at=299.9, group="last"),
        make_row(rng, at=300.0, group="after"),
    )
    found = read_window(tmp_path, 200.0, 300.0, SHA, 100, 0)
    assert [row.group for row in found.rows] == ["first", "last"]
    assert (found.found, found.others, found.unreadable) == (2, {"of another model": 1}, [])


def test_rows_of_rare_thresholds_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [make_row(rng, at=10.0 + k) for k in range(3)]
    log_rows(tmp_path, *rows, make_row(rng, at=20.0, thresholds=Thresholds(conf=0.6)))
    found = read_window(tmp_path, 0, 100, SHA, 100, 0)
    assert len(found.rows) == 3
    assert found.others == {"predicted with other thresholds than most": 1}


def test_more_rows_than_wanted_are_drawn_the_same_for_a_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [make_row(rng, at=10.0 + k, group=str(k)) for k in range(60)]
    write_segment(tmp_path / "0000000010000-a.parquet", rows[:30])
    write_segment(tmp_path / "0000000040000-a.parquet", rows[30:])
    first, again, other = (read_window(tmp_path, 0, 100, SHA, 20, seed) for seed in (1, 1, 2))
    assert first.rows == again.rows != other.rows
    assert (len(first.rows), first.found) == (20, 60)
    assert [row.at for row in first.rows] == sorted(row.at for row in first.rows)


def test_damaged_segments_are_named_and_passed_over(tmp_path: Path) -> None:
    log_rows(tmp_path, make_row(np.random.default_rng(0), at=10.0))
    (tmp_path / "0000000011000-x.parquet").write_bytes(b"not parquet")
    whole = next(tmp_path.glob("0000000010000*")).read_bytes()
    (tmp_path / "0000000012000-y.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / ".0000000013000-z.1.parquet").write_bytes(b"being written")
    found = read_window(tmp_path, 0, 100, SHA, 100, 0)
    assert len(found.rows) == 1
    assert found.unreadable == ["0000000011000-x.parquet", "0000000012000-y.parquet"]
    assert count_segments(tmp_path) == 3


def test_a_parquet_file_of_something_else_is_damaged(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "0000000010000-x.parquet")
    assert read_window(tmp_path, 0, 100, SHA, 100, 0).unreadable == ["0000000010000-x.parquet"]


def test_rows_without_objects_keypoints_and_names_beyond_ascii(tmp_path: Path) -> None:
    row = make_row(np.random.default_rng(0), at=10.0, objects=[], group="牛舍", image="a b/é.jpg")
    write_segment(tmp_path / "0000000010000-x.parquet", [row])
    (found,) = read_segment(next(tmp_path.glob("*.parquet")))
    assert found.objects == []
    assert (found.group, found.image) == ("牛舍", "a b/é.jpg")


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert read_window(tmp_path / "nowhere", 0, 100, SHA, 100, 0).rows == []


def test_folders_that_look_like_partitions_are_no_columns(tmp_path: Path) -> None:
    folder = tmp_path / "at=5" / "log"
    folder.mkdir(parents=True)
    log_rows(folder, make_row(np.random.default_rng(0), at=10.0))
    assert read_window(folder, 0, 100, SHA, 100, 0).rows[0].at == pytest.approx(10.0)
