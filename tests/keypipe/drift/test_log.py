"""A log of predictions: whole segments, a budget that holds, pictures, several processes, no disk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keypipe.drift.log import MEGA, LogSettings, PredictionLog, drop, find_oldest
from keypipe.drift.rows import Row
from keypipe.drift.segments import PICTURES, read_segment, read_window
from keypipe.errors import ConfigError
from keypipe.inference.predictor import Thresholds
from keypipe.inference.results import ModelStamp
from tests.imports import ROOT
from tests.keypipe.drift.samples import SHA, lit_predictor, make_row


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.parquet"))


def rows_of(folder: Path, **window: float) -> list[Row]:
    limits = {"since": 0.0, "until": 4e9} | window
    return read_window(folder, limits["since"], limits["until"], SHA, 10_000, 0).rows


def test_what_is_logged_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log = PredictionLog(LogSettings(tmp_path / "log"))
    rows = [make_row(rng, at=time.time(), group="barn", move=0.02) for _ in range(3)]
    for row in rows:
        log.add(row)
    log.close()
    found = rows_of(tmp_path / "log")
    assert [row.image for row in found] == [row.image for row in rows]
    assert found[0].group == "barn"
    assert found[0].thresholds == rows[0].thresholds
    # To the last digit: what the model always says the same would else differ from the validation side.
    assert [row.objects for row in found] == [row.objects for row in rows]
    assert found[0].pixels == rows[0].pixels
    assert found[0].at == pytest.approx(rows[0].at, abs=0.001)


def test_the_folder_is_its_owners_alone(tmp_path: Path) -> None:
    PredictionLog(LogSettings(tmp_path / "log", picture_mb=1))
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "log" / PICTURES).stat().st_mode & 0o777 == 0o700


def test_an_image_and_its_small_picture(tmp_path: Path) -> None:
    from PIL import Image

    predictor = lit_predictor(tmp_path / "model.onnx")
    log = PredictionLog(LogSettings(tmp_path / "log", picture_mb=1, picture_px=64, views=True))
    image = np.full((96, 128, 3), 200, np.uint8)
    found = predictor.predict_image(image)
    looked = log.look(
        predictor,
        image,
        found,
        model=ModelStamp("models:/cows/1", SHA),
        thresholds=Thresholds(),
        source="serve",
        group="g",
        image="sha256:1",
    )
    assert looked is not None
    log.keep(looked)
    log.close()
    (row,) = rows_of(tmp_path / "log")
    assert row.pixels.brightness == pytest.approx(200 / 255, abs=0.01)
    assert row.views
    assert Image.open(tmp_path / "log" / PICTURES / row.picture).size == (64, 48)
    assert (row.source, row.group, row.size_wh) == ("serve", "g", (128, 96))
    assert log.logged == 1


def test_what_is_written_is_not_written_again_and_a_segment_grows_until_it_is_full(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log = PredictionLog(LogSettings(tmp_path))
    now = time.time()
    log.add(make_row(rng, at=now))
    log.flush()
    (first,) = segments(tmp_path)
    first.unlink()
    log.flush()
    assert segments(tmp_path) == []  # nothing new has come
    log.add(make_row(rng, at=now + 1))
    log.add(make_row(rng, at=now + 2))
    log.flush()
    assert [len(read_segment(path)) for path in segments(tmp_path)] == [3]
    log.add(make_row(rng, at=now + 3601))
    log.close()
    assert [len(read_segment(path)) for path in segments(tmp_path)] == [3, 1]


def test_sampling_takes_about_the_share(tmp_path: Path) -> None:
    log = PredictionLog(LogSettings(tmp_path, share=0.25))
    assert 800 < sum(log.wants() for _ in range(4000)) < 1200
    assert all(PredictionLog(LogSettings(tmp_path)).wants() for _ in range(100))


def test_the_oldest_segments_go_when_the_budget_is_full(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    now = time.time()
    sizes = []
    for hour in range(6):
        log = PredictionLog(LogSettings(tmp_path))
        for _ in range(50):
            log.add(make_row(rng, at=now - 3600 * (6 - hour)))
        log.close()
        sizes.append(segments(tmp_path)[-1].stat().st_size)
    assert len(segments(tmp_path)) == 6
    names = [path.name for path in segments(tmp_path)]
    room = sum(sizes[3:]) + 2 * sizes[0]
    log = PredictionLog(LogSettings(tmp_path, mb=room / MEGA))
    log.add(make_row(rng, at=now))
    log.close()
    left = [path.name for path in segments(tmp_path)]
    assert left[:-1] == names[-(len(left) - 1) :]  # the newest of before, and the new one
    assert sum(path.stat().st_size for path in segments(tmp_path)) <= room
    assert 4 <= len(left) < 7


def test_rows_and_pictures_that_are_too_old_go(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    now = time.time()
    old = PredictionLog(LogSettings(tmp_path, days=400, picture_mb=1))
    old.add(make_row(rng, at=now - 100 * 86400))
    old.close()
    (tmp_path / PICTURES / f"{round((now - 100 * 86400) * 1000):013d}-x.jpg").write_bytes(b"old")
    (tmp_path / PICTURES / f"{round(now * 1000):013d}-x.jpg").write_bytes(b"new")
    (tmp_path / "notes.txt").write_text("nobody's")
    log = PredictionLog(LogSettings(tmp_path, days=90, picture_mb=1))
    log.add(make_row(rng, at=now))
    log.close()
    assert len(segments(tmp_path)) == 1
    assert [path.read_bytes() for path in (tmp_path / PICTURES).iterdir()] == [b"new"]
    assert (tmp_path / "notes.txt").exists()


def test_pictures_have_a_budget_of_their_own(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number:013d}-x.jpg").write_bytes(bytes(1000))
    assert drop(find_oldest(tmp_path.glob("*.jpg"), 4500, 0.0)) == 6
    assert sorted(path.name[:13] for path in tmp_path.iterdir()) == [f"{number:013d}" for number in range(6, 10)]


def _write(folder: Path, name: int) -> None:
    rng = np.random.default_rng(name)
    log = PredictionLog(LogSettings(folder))
    for index in range(200):
        log.add(make_row(rng, at=time.time(), group=f"{name}-{index}"))
        if index % 40 == 0:
            log.flush()
    log.close()


def test_several_processes_log_into_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(tmp_path, name)) for name in range(3)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        read_window(tmp_path, 0, 4e9, SHA, 10_000, 0)  # a reader finds whole segments at any moment
    assert [process.exitcode for process in processes] == [0, 0, 0]
    window = read_window(tmp_path, 0, 4e9, SHA, 10_000, 0)
    assert not window.unreadable
    assert {row.group for row in window.rows} == {f"{name}-{index}" for name in range(3) for index in range(200)}


KILLED = """
import sys, time
import numpy as np
from pathlib import Path
from keypipe.drift.log import LogSettings, PredictionLog
from tests.keypipe.drift.samples import make_row
log = PredictionLog(LogSettings(Path(sys.argv[1])))
rng = np.random.default_rng(0)
while True:
    for _ in range(20):
        log.add(make_row(rng, at=time.time()))
    log.flush()
    print("flushed", flush=True)
"""


def test_a_process_that_is_killed_leaves_whole_segments(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(4):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert all(read_segment(path) for path in segments(tmp_path))
    assert len(rows_of(tmp_path)) >= 80


def test_a_left_over_temporary_file_goes_when_it_is_old(tmp_path: Path) -> None:
    left = tmp_path / ".0000000000001-x.77.parquet"
    left.write_bytes(b"half")
    young = tmp_path / ".0000000000002-x.78.parquet"
    young.write_bytes(b"half")
    os.utime(left, (time.time() - 7200,) * 2)
    log = PredictionLog(LogSettings(tmp_path))
    log.add(make_row(np.random.default_rng(0), at=time.time()))
    log.close()
    assert not left.exists()
    assert young.exists()
    assert len(rows_of(tmp_path)) == 1


def test_a_disk_that_fails_stops_no_prediction(tmp_path: Path) -> None:
    log = PredictionLog(LogSettings(tmp_path / "log"))
    (tmp_path / "log").rmdir()
    (tmp_path / "log").write_text("a file where the folder was")
    log.add(make_row(np.random.default_rng(0), at=time.time()))
    log.close()
    assert str(tmp_path / "log") in log.problem


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be logged there"):
        PredictionLog(LogSettings(tmp_path / "file" / "log"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"share": 0.0}, "log-share"),
        ({"share": 1.5}, "log-share"),
        ({"mb": 0.0}, "log-mb"),
        ({"days": -1.0}, "log-days"),
        ({"picture_mb": -1.0}, "log-picture-mb"),
        ({"picture_px": 2}, "log-picture-px"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LogSettings(tmp_path, **wrong)  # type: ignore[arg-type]


def test_without_pyarrow_one_message_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from keypipe.drift.log import LogSettings, PredictionLog\n"
        "from keypipe.errors import PoseError\n"
        "try:\n    PredictionLog(LogSettings(Path(sys.argv[1]) / 'log'))\n"
        "except PoseError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "pyarrow is not installed: pip install 'keypipe[log]'"
    assert not (tmp_path / "log").exists()
