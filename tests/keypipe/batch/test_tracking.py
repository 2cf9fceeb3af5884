"""Videos through `keypipe predict --track`, by a model that finds coloured spots."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import pytest

from keypipe.batch import command
from keypipe.batch.prediction import default_output, predict
from keypipe.batch.tracking import Tracking, to_tracking
from keypipe.batch.unfinished import WORK, begin_work, is_unfinished
from keypipe.errors import ConfigError
from keypipe.tracks.options import SmoothOptions
from tests.imports import ROOT
from tests.keypipe.batch.spots import SCHEMA, draw_spots, write_film
from tests.onnx_files import write_colour_model
from tests.patience import PATIENCE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_colour_model(tmp_path / "model.onnx", SCHEMA)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_film(tmp_path / "film.avi")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_identities_in_json_tables_and_video(model: Path, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = predict(str(film), model, out, tracking=Tracking(None, ("csv", "parquet", "dlc")))

    # the blue spot is away for 0.6 s, and an identity waits for a second
    assert str(summary).startswith(f"150 objects of 3 identities in 1 file, results in {out}")
    assert sorted(tree(out)) == [
        "film.csv",
        "film.dlc.csv",
        "film.json",
        "film.mp4",
        "film.parquet",
        "predictions.json",
    ]
    result = json.loads((out / "film.json").read_text())
    assert result["tracking"]["new_score"] == 0.25
    assert result["smoothing"] is None
    assert [track["n_seen"] for track in result["tracks"]] == [60, 60, 30]
    assert len(result["frames"]) == 60
    for frame in result["frames"]:
        red, green = frame["predictions"][:2]
        assert (red["track"], green["track"]) == (1, 2)
        assert red["box_xyxy"][0] + red["box_xyxy"][2] == pytest.approx(2 * (15 + frame["frame"]), abs=3)
        assert green["box_xyxy"][0] + green["box_xyxy"][2] == pytest.approx(2 * (140 - frame["frame"]), abs=3)
    table = rows(out / "film.csv")
    assert len(table) == 165
    assert [row["frame"] for row in table if row["state"] == "gap"] == [str(number) for number in range(30, 45)]
    assert {row["track"] for row in table} == {"1", "2", "3"}
    index = json.loads((out / "predictions.json").read_text())
    assert index["complete"]
    assert index["files"][0]["tracks"] == 3
    capture = cv2.VideoCapture(str(out / "film.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 60


def test_without_track_nothing_is_as_it_was_not(model: Path, film: Path, tmp_path: Path) -> None:
    predict(str(film), model, tmp_path / "out")
    assert sorted(tree(tmp_path / "out")) == ["film.json", "film.mp4", "predictions.json"]
    assert "tracks" not in json.loads((tmp_path / "out/predictions.json").read_text())["files"][0]


KILLED_AT = """
import os, sys, signal
from keypipe.batch import command
from keypipe.batch import tracked_film
tracked_film.PIECE = 20
step, frame = int(sys.argv[1]), int(sys.argv[2])

def kill(what, done, total):
    if f"step {step}" in what and done == frame:
        os.kill(os.getpid(), signal.SIGKILL)

if step:
    command._tell_on_stderr = lambda: kill
sys.exit(command.main(sys.argv[3:]))
"""


@pytest.mark.parametrize(("step", "frame"), [(1, 33), (3, 30), (4, 45)])
def test_killed_anywhere_the_same_command_goes_on_and_ends_with_the_same_files(
    model: Path, film: Path, tmp_path: Path, step: int, frame: int
) -> None:
    def run(step: int, frame: int, *extra: str) -> int:
        arguments = [str(film), "--model", str(model), "--track", "--smooth", "1", "--table", "dlc", *extra]
        program = [sys.executable, "-c", KILLED_AT, str(step), str(frame), *arguments]
        environment = {"PATH": "", "PYTHONPATH": ":".join([str(ROOT), *sys.path])}
        done = subprocess.run(program, cwd=tmp_path, env=environment, timeout=PATIENCE, capture_output=True, text=True)
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        return done.returncode

    assert run(0, 0, "--output", "alone") == 0
    assert run(step, frame) == -signal.SIGKILL
    left = tmp_path / "predictions/film" / WORK / "film/frames.jsonl"
    done = left.read_bytes()
    assert len(done.splitlines()) == (frame if step == 1 else 60)
    assert run(0, 0) == 0
    assert not (tmp_path / "predictions/film-2").exists()
    alone, resumed = tree(tmp_path / "alone"), tree(tmp_path / "predictions/film")
    assert sorted(alone) == sorted(resumed)
    assert [name for name in alone if alone[name] != resumed[name] and name != "predictions.json"] == []


def test_what_was_left_by_another_model_or_another_video_is_not_taken_over(
    model: Path, film: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(str(film), model, out, tracking=Tracking(), progress=_interrupt_at(30))
    assert is_unfinished(out, str(film))
    write_film(film, n_frames=40)
    predict(str(film), model, out, tracking=Tracking())
    assert len(json.loads((out / "film.json").read_text())["frames"]) == 40
    assert not (out / WORK).exists()


def _interrupt_at(frame: int) -> Any:
    def tell(what: str, done: int, _total: int) -> None:
        if "step 1" in what and done == frame:
            raise KeyboardInterrupt

    return tell


def test_the_default_folder_is_taken_again_only_by_the_same_source(tmp_path: Path, film: Path) -> None:
    begin_work(tmp_path / "film", str(film))
    assert default_output(str(film), tmp_path, tracked=True) == tmp_path / "film"
    assert default_output(str(film), tmp_path) == tmp_path / "film-2"
    (tmp_path / "other").mkdir()
    other = write_film(tmp_path / "other/film.avi", n_frames=2)
    assert default_output(str(other), tmp_path, tracked=True) == tmp_path / "film-2"


def test_a_video_that_is_cut_off_is_done_as_far_as_it_goes_and_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film = write_film(tmp_path / "film.avi", n_frames=200)
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    code = command.main([str(film), "--model", str(model), "--output", str(tmp_path / "out"), "--track"])
    message = capsys.readouterr().err
    assert code == 2
    assert "damaged or cut off" in message
    assert "of 8.0 s could be read" in message
    assert 60 < len(json.loads((tmp_path / "out/film.json").read_text())["frames"]) < 140
    assert not (tmp_path / "out" / WORK).exists()


def test_a_folder_of_videos_and_one_that_is_none(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "films").mkdir()
    for name in ("a.avi", "b.avi"):
        write_film(tmp_path / "films" / name, n_frames=8)
    (tmp_path / "films/c.avi").write_bytes(b"no video")
    out = tmp_path / "out"
    code = command.main([str(tmp_path / "films"), "--model", str(model), "--output", str(out), "--track"])
    assert code == 2
    assert "c.avi: not a video that OpenCV can read" in capsys.readouterr().err
    assert [entry["tracks"] for entry in json.loads((out / "predictions.json").read_text())["files"]] == [2, 2]


def test_messages_before_any_work(model: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(cv2.imencode(".jpg", draw_spots(0))[1].tobytes())
    for source, message in (("0", "a stream cannot be tracked"), (str(tmp_path / "image.jpg"), "no video to track")):
        with pytest.raises(ConfigError, match=message):
            predict(source, model, tmp_path / "out", tracking=Tracking())
    with pytest.raises(ConfigError, match="add --track"):
        to_tracking(False, None, ["dlc"])
    with pytest.raises(ConfigError, match="add --track"):
        to_tracking(False, 1.0, [])
    assert to_tracking(False, None, []) is None
    assert to_tracking(True, 2.0, ["csv", "dlc"]) == Tracking(SmoothOptions(2.0), ("csv", "dlc"))
    assert not (tmp_path / "out").exists()


def test_two_at_once_do_not_spoil_each_other(model: Path, film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[str] = []

    def start_another(what: str, done: int, _total: int) -> None:
        if "step 1" in what and done == 30:
            with pytest.raises(ConfigError, match="another process is at this video"):
                predict(str(film), model, out, tracking=Tracking())
            seen.append(what)

    predict(str(film), model, out, tracking=Tracking(), progress=start_another)
    assert seen
    assert len(json.loads((out / "film.json").read_text())["frames"]) == 60


def test_json_on_stdout(model: Path, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert command.main([str(film), "--model", str(model), "--output", str(out), "--track", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"][0]["tracks"] == 3
    assert told["files"][0]["tables"] == ["film.csv"]


def test_frames_at_changing_rates_have_their_own_times(model: Path, tmp_path: Path) -> None:
    """The first second at 25 frames, then two seconds at 5."""
    av: Any = pytest.importorskip("av", reason="needs PyAV: pip install 'keypipe[video]'")
    times = [number / 25 for number in range(25)] + [1 + number / 5 for number in range(10)]
    film = tmp_path / "film.mp4"
    with av.open(str(film), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height = 160, 96
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, seconds in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw_spots(number), format="bgr24")
            frame.pts, frame.time_base = round(1000 * seconds), Fraction(1, 1000)
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    predict(str(film), model, tmp_path / "out", tracking=Tracking())
    result = json.loads((tmp_path / "out/film.json").read_text())
    assert [frame["seconds"] for frame in result["frames"]] == pytest.approx(times, abs=0.001)
    assert [float(row["seconds"]) for row in rows(tmp_path / "out/film.csv") if row["track"] == "1"] == pytest.approx(
        times, abs=0.001
    )
    with av.open(str(tmp_path / "out/film.mp4")) as drawn:
        assert [frame.time for frame in drawn.decode(video=0)] == pytest.approx(times, abs=0.001)
