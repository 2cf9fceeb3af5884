"""The benchmark of memory on long videos, on a short one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.long_video import print_table, run, write_video
from tests.keypipe.batch.spots import SCHEMA
from tests.onnx_files import write_colour_model


@pytest.mark.benchmark
def test_memory_is_sampled_in_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py", reason="needs h5py: pip install 'keypipe[sleap]'")
    write_video(tmp_path / "film.mp4", 1500)
    write_colour_model(tmp_path / "model.onnx", SCHEMA)
    killed = run(tmp_path, 0.2)
    assert {step for step, *_ in killed} == {1}
    samples = run(tmp_path, 0.0)
    assert {step for step, *_ in samples} >= {1, 4}
    assert (tmp_path / "out/film.analysis.h5").exists()
    print_table(samples)
    assert "MB in the 1st quarter" in capsys.readouterr().out


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([(1, 0.1, 1.0, 200.4), (1, 0.6, 2.0, 210.0), (1, 0.7, 3.0, 190.0), (1, 0.9, 6.0, 201.0)])
    assert capsys.readouterr().out.splitlines()[-1] == "| 1 | 5 | 200 | - | 210 | 201 |"
