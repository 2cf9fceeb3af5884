from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keypipe.images.media import open_timed_video
from keypipe.videos.h264 import H264Writer, has_h264, join_pieces
from tests.keypipe.batch.spots import draw_spots

av: Any = pytest.importorskip("av", reason="needs PyAV: pip install 'keypipe[video]'")

TIMES = [0.0, 0.04, 0.08, 0.2, 0.5, 0.52, 0.54, 1.0]


def write(path: Path, numbers: range, start: float = 0.0) -> Path:
    with H264Writer(path, (160, 96), 25.0) as writer:
        for number in numbers:
            writer.write(draw_spots(number), TIMES[number] - start)
    return path


def test_frames_have_their_own_times_and_look_as_they_were(tmp_path: Path) -> None:
    assert has_h264()
    path = write(tmp_path / "a.mp4", range(8))
    with open_timed_video(path) as (video, frames):
        read = list(frames)
    assert video.size_wh == (160, 96)
    assert [seconds for seconds, _ in read] == pytest.approx(TIMES, abs=0.001)
    for number, (_, image) in enumerate(read):
        assert np.abs(image.astype(int) - draw_spots(number)).mean() < 3
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_pieces_joined_are_as_one(tmp_path: Path) -> None:
    pieces = [(write(tmp_path / "0.mp4", range(3)), 0.0), (write(tmp_path / "1.mp4", range(3, 8), TIMES[3]), TIMES[3])]
    join_pieces(pieces, tmp_path / "joined.mp4")
    with av.open(str(tmp_path / "joined.mp4")) as file:
        read = [(frame.time, frame.to_ndarray(format="bgr24")) for frame in file.decode(video=0)]
    assert [seconds for seconds, _ in read] == pytest.approx(TIMES, abs=0.001)
    for number, (_, image) in enumerate(read):
        assert np.abs(image.astype(int) - draw_spots(number)).mean() < 3


def test_an_odd_size_grows_by_a_pixel(tmp_path: Path) -> None:
    image = np.full((33, 45, 3), 90, np.uint8)
    with H264Writer(tmp_path / "odd.mp4", (45, 33), 25.0) as writer:
        writer.write(image, 0.0)
    with av.open(str(tmp_path / "odd.mp4")) as file:
        (frame,) = file.decode(video=0)
    assert (frame.width, frame.height) == (46, 34)
    assert abs(int(frame.to_ndarray(format="bgr24")[33, 45, 0]) - 90) < 4


def test_the_same_frames_make_the_same_bytes(tmp_path: Path) -> None:
    assert len({write(tmp_path / f"{time}.mp4", range(8)).read_bytes() for time in range(5)}) == 1


def test_a_browser_plays_it(browser: Any, tmp_path: Path) -> None:
    """Chromium decodes it, and comes to its end."""
    pieces = [(write(tmp_path / "0.mp4", range(3)), 0.0), (write(tmp_path / "1.mp4", range(3, 8), TIMES[3]), TIMES[3])]
    join_pieces(pieces, tmp_path / "film.mp4")
    (tmp_path / "page.html").write_text('<video id="film" src="film.mp4" muted></video>')
    browser.get((tmp_path / "page.html").as_uri())
    told = browser.execute_async_script(
        """
        const done = arguments[0], film = document.getElementById("film"), seen = [];
        film.addEventListener("error", () => done({error: film.error.message}));
        const size = () => [film.videoWidth, film.videoHeight];
        film.addEventListener("ended", () => done({seen, size: size(), end: film.duration}));
        film.addEventListener("timeupdate", () => seen.push(film.currentTime));
        film.play().catch(error => done({error: String(error)}));
        """
    )
    assert "error" not in told, told
    assert told["size"] == [160, 96]
    assert told["end"] == pytest.approx(1.04, abs=0.1)
    assert len(set(told["seen"])) > 1
