"""The benchmark of prediction: what an image takes at steady state, from a run of few and a run of many."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.prediction.material import Case, make_sources, take_photos
from benchmarks.prediction.table import compare, format_table
from benchmarks.serving.records import Records
from keypipe.images.media import open_video, read_image

FEW = {"seconds": 3.0, "largest_mb": 90.0, "total_mb": 100.0, "processor_s": 2.0, "objects": 10}
MANY = {"seconds": 8.0, "largest_mb": 90.0, "total_mb": 101.0, "processor_s": 12.0, "objects": 99}


def test_the_start_has_no_part_in_an_image_at_steady_state() -> None:
    steady = compare(FEW, MANY, 1000)
    assert (steady.processor_ms, steady.ms) == (10.0, 5.0)
    assert (steady.whole_s, steady.peak_mb, steady.grown_mb, steady.objects) == (8.0, 101.0, 1.0, 99)


def test_ratios_are_those_of_a_round_and_half_a_round_is_left_out(tmp_path: Path) -> None:
    records = Records(tmp_path / "prediction.jsonl")
    for turn, slower in enumerate((1.5, 2.0, 4.0)):
        for program, factor in (("keypipe", 1.0), ("yolo", slower)):
            for size, values in (("few", FEW), ("many", MANY)):
                took = {**values, "processor_s": factor * values["processor_s"], "seconds": values["seconds"]}
                records.add("small", ["", program, turn, size], took)
    records.add("small", ["", "keypipe", 3, "few"], FEW)
    records.add("small", ["other code", "keypipe", 0, "few"], FEW)
    lines = format_table(records, "", ["small", "photos"]).splitlines()
    assert [line for line in lines if "`keypipe`" in line] == [
        "| drawings of 320x240 | `keypipe` | 10.0 | 2.00 (1.50 to 4.00) | 5.0 | 1.00 (1.00 to 1.00) | 8.0 | 101 (+1) |"
    ]
    assert any("| 20.0 | 1.00 (1.00 to 1.00) |" in line for line in lines if "`yolo`" in line)
    assert len(lines) == 5


@pytest.mark.parametrize("video", [False, True])
def test_sources_are_links_to_a_few_images_or_a_film_of_them_and_are_made_once(tmp_path: Path, video: bool) -> None:
    case = Case("", 3, 4, 2, lambda folder, n: take_photos(folder, n, (64, 48)), True, 1, video)
    few, many = make_sources(tmp_path / "case", case)
    before = many.stat().st_mtime_ns
    assert make_sources(tmp_path / "case", case) == (few, many)
    assert many.stat().st_mtime_ns == before
    if video:
        with open_video(many) as (facts, frames):
            assert (facts.size_wh, len(list(frames))) == ((64, 48), 7)
    else:
        assert [len(list(folder.iterdir())) for folder in (few, many)] == [3, 7]
        assert len({path.stat().st_ino for path in many.iterdir()}) == 2
        assert read_image(many / "00006.jpg").shape == (48, 64, 3)
