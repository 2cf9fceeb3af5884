from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from keypipe.batch import command as predict_command
from keypipe.batch import prediction as batch
from keypipe.batch.prediction import INDEX, default_output, predict
from keypipe.batch.writing import Pictures, put_file
from keypipe.errors import ConfigError, FaultsError, ModelError
from keypipe.images.depth import Depth
from keypipe.inference.predictor import Thresholds
from keypipe.inference.results import ImageResult, Index, VideoResult
from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.onnx_files import metadata_of, raw_output, write_constant_model

SCHEMA = Schema(
    {"奶牛": Skeleton(("nose", "left_ear", "right_ear"), (("nose", "left_ear"),), (("left_ear", "right_ear"),))}
)
COW = (
    "奶牛",
    0.9,
    [32.0, 32.0, 20.0, 10.0],
    {"nose": (30, 30, 0.75), "left_ear": (35, 33, 0.25), "right_ear": (3, 4, 0.5)},
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_constant_model(tmp_path / "model.onnx", raw_output(SCHEMA, [COW]), metadata_of(SCHEMA))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index, name in enumerate(("a/x.jpg", "b/x.jpg", "b/奶牛.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 64), (40 * index, 80, 120)).save(path)
    return tmp_path / "photos"


def write_video(path: Path, n_frames: int = 7, size_wh: tuple[int, int] = (160, 96), fps: float = 12.5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size_wh)
    for shade in range(n_frames):
        writer.write(np.full((size_wh[1], size_wh[0], 3), 20 * shade, np.uint8))
    writer.release()
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_folder(photos: Path, model: Path, tmp_path: Path) -> None:
    before = tree(photos)
    summary = predict(str(photos), model, tmp_path / "out", thresholds=Thresholds(conf=0.3, keypoint_conf=0.6))

    assert str(summary) == f"3 objects in 3 files, results in {tmp_path / 'out'}"
    assert tree(photos) == before
    assert sorted(tree(tmp_path / "out")) == [
        "a/x.jpg",
        "a/x.json",
        "b/x.jpg",
        "b/x.json",
        "b/奶牛.jpg",
        "b/奶牛.json",
        INDEX,
    ]
    assert Image.open(tmp_path / "out/b/奶牛.jpg").size == (640, 320)  # enlarged, so that the drawing is legible


def test_the_json_of_an_image(photos: Path, model: Path, tmp_path: Path) -> None:
    predict(str(photos), model, tmp_path / "out", thresholds=Thresholds(conf=0.3, keypoint_conf=0.6))
    content = json.loads((tmp_path / "out/b/奶牛.json").read_bytes())
    assert content == {
        "model": {
            "path": str(model),
            "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
            "license": "AGPL-3.0-or-later",
            "version": "0.1.0",
        },
        "thresholds": {"conf": 0.3, "iou": 0.7, "max_det": 300, "keypoint_conf": 0.6},
        "keypoint_names": {"奶牛": ["nose", "left_ear", "right_ear"]},
        "file": str(photos / "b/奶牛.png"),
        "size_wh": [128, 64],
        "drawn": "b/奶牛.jpg",
        "predictions": [
            {
                "class_name": "奶牛",
                "score": 0.9,
                "box_xyxy": [44.0, 22.0, 84.0, 42.0],
                "keypoints": [  # those below the drawing threshold too
                    {"name": "nose", "x": 60.0, "y": 28.0, "confidence": 0.75},
                    {"name": "left_ear", "x": 70.0, "y": 34.0, "confidence": 0.25},
                    {"name": "right_ear", "x": 6.0, "y": 0.0, "confidence": 0.5},
                ],
            }
        ],
    }
    msgspec.json.decode((tmp_path / "out/b/奶牛.json").read_bytes(), type=ImageResult)


def test_one_image_keeps_its_size_when_it_is_large(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (800, 500)).save(tmp_path / "large.webp")
    predict(str(tmp_path / "large.webp"), model, tmp_path / "out")
    assert Image.open(tmp_path / "out/large.jpg").size == (800, 500)


def test_unreadable_images_stop_nothing(photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "a/bad.jpg").write_text("hello")
    (photos / "b/empty.png").write_bytes(b"")
    (photos / "b/moving.gif").write_bytes(b"GIF89a")
    summary = predict(str(photos), model, tmp_path / "out")
    assert len(summary.files) == 3
    assert [fault.kind for fault in summary.faults] == ["unreadable"] * 2
    index = msgspec.json.decode((tmp_path / "out" / INDEX).read_bytes(), type=Index)
    assert (index.complete, len(index.files), len(index.faults)) == (True, 3, 2)
    with pytest.raises(FaultsError) as caught:
        batch.raise_for_faults(summary)
    assert "bad.jpg" in str(caught.value)
    assert "empty.png" in str(caught.value)
    assert "3 other files done" in str(caught.value)
    assert "skipped 1 file (moving.gif (GIF))" in str(caught.value)


def test_a_video(model: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.avi")
    summary = predict(str(video), model, tmp_path / "out")
    assert [entry.objects for entry in summary.files] == [7]
    result = msgspec.json.decode((tmp_path / "out/clip.json").read_bytes(), type=VideoResult)
    assert (result.size_wh, result.fps, result.drawn) == ((160, 96), 12.5, "clip.mp4")
    assert [(frame.frame, frame.seconds, len(frame.predictions)) for frame in result.frames][::3] == [
        (0, 0.0, 1),
        (3, 0.24, 1),
        (6, 0.48, 1),
    ]
    drawn = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    frames = [frame for found, frame in iter(drawn.read, (False, None)) if found]
    assert len(frames) == 7
    assert frames[0].shape == (96, 160, 3)
    assert frames[0].max() > 60  # black, but for what was drawn


def test_a_video_without_frames_is_a_fault(model: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 500)
    summary = predict(str(tmp_path / "clip.mp4"), model, tmp_path / "out")
    assert [fault.file for fault in summary.faults] == [str(tmp_path / "clip.mp4")]
    assert sorted(tree(tmp_path / "out")) == [INDEX]


def test_an_interrupted_prediction_keeps_what_it_has(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = batch.read_image

    def interrupted(path: Path, depth: Depth) -> Any:
        if path.name == "奶牛.png":
            raise KeyboardInterrupt
        return original(path, depth)

    monkeypatch.setattr(batch, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(str(photos), model, tmp_path / "out")
    index = msgspec.json.decode((tmp_path / "out" / INDEX).read_bytes(), type=Index)
    assert not index.complete
    assert len(index.files) == 2
    assert sorted(tree(tmp_path / "out")) == ["a/x.jpg", "a/x.json", "b/x.jpg", "b/x.json", INDEX]


# -------------------------------------------------------------------------------------- output


def test_the_source_is_never_overwritten(photos: Path, model: Path) -> None:
    before = tree(photos)
    with pytest.raises(ConfigError, match="holds other files than predictions"):
        predict(str(photos), model, photos)
    (photos / INDEX).write_text("{}")
    with pytest.raises(ConfigError, match="would replace the file it is made from"):
        predict(str(photos), model, photos)
    (photos / INDEX).unlink()
    assert tree(photos) == before


def test_not_through_a_link_either(photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(photos)
    with pytest.raises(ConfigError):
        predict(str(photos), model, tmp_path / "out")


def test_the_output_should_be_a_folder(photos: Path, model: Path) -> None:
    with pytest.raises(ConfigError, match="this is a file"):
        predict(str(photos), model, photos / "a/x.jpg")


def test_earlier_predictions_are_renewed(photos: Path, model: Path, tmp_path: Path) -> None:
    predict(str(photos), model, tmp_path / "out")
    before = tree(tmp_path / "out")
    predict(str(photos), model, tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_default_outputs_are_new_folders(photos: Path, tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        folder = default_output(str(photos), tmp_path / "predictions")
        folder.mkdir(parents=True)
        names.append(folder.name)
    assert names == ["photos", "photos-2", "photos-3"]


# ---------------------------------------------------------------------------------------- rest


@pytest.mark.parametrize("thresholds", [{"conf": 1.5}, {"keypoint_conf": -0.1}, {"iou": 2}])
def test_thresholds_are_checked(thresholds: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="should be between 0 and 1"):
        Thresholds(**thresholds)  # type: ignore[arg-type]


def test_models_are_opened_by_their_suffix(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"nothing here opens a \.pt model \(known: \.onnx\)"):
        predict(str(photos), tmp_path / "best.pt", tmp_path / "out")
    with pytest.raises(ModelError, match="no such model file"):
        predict(str(photos), tmp_path / "none.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_is_told(photos: Path, model: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    predict(str(photos), model, tmp_path / "out", progress=lambda *state: told.append(state))
    assert told == [("files predicted on", done, 3) for done in range(3)]
    video = write_video(tmp_path / "v.avi")
    predict(str(video), model, tmp_path / "out2", progress=lambda *state: told.append(state))
    assert told[-1] == ("frames of v.avi", 7, 7)


def test_at_most_so_many_objects(photos: Path, tmp_path: Path) -> None:
    far = ("奶牛", 0.8, [50.0, 50.0, 8.0, 8.0], COW[3])
    model = write_constant_model(tmp_path / "two.onnx", raw_output(SCHEMA, [COW, far]), metadata_of(SCHEMA))
    for max_det, objects in ((300, 6), (1, 3)):
        summary = predict(
            str(photos), model, tmp_path / f"out{max_det}", thresholds=Thresholds(conf=0.3, max_det=max_det)
        )
        assert sum(entry.objects for entry in summary.files) == objects
    with pytest.raises(ConfigError, match="max_det should be 1 or more, got 0"):
        Thresholds(max_det=0)


def test_a_list_says_what_is_not_there_and_a_folder_what_is_skipped(photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("photos/a/x.jpg\nphotos/gone.jpg\n")
    summary = predict(str(tmp_path / "list.txt"), model, tmp_path / "out")
    assert len(summary.files) == 1
    assert [(Path(fault.file).name, fault.found) for fault in summary.faults] == [
        ("gone.jpg", "cannot be read (No such file or directory)")
    ]
    (photos / "a/IMG_1.HEIC").write_bytes(b"")
    (photos / "a/x.json").write_text("{}")
    summary = predict(str(photos), model, tmp_path / "out2")
    assert str(summary).endswith("; skipped 2 files (IMG_1.HEIC (HEIC), 1 .json)")
    index = msgspec.json.decode((tmp_path / "out2" / INDEX).read_bytes(), type=Index)
    assert index.skipped == [str(photos / "a/IMG_1.HEIC"), str(photos / "a/x.json")]


def test_a_stream(model: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/clip.avi"
        summary = predict(address, model, tmp_path / "out")
        server.shutdown()
    assert [(entry.file, entry.objects) for entry in summary.files] == [(address, 7)]
    name = f"127.0.0.1_{server.server_port}_clip.avi.json"
    assert len(msgspec.json.decode((tmp_path / "out" / name).read_bytes(), type=VideoResult).frames) == 7


def test_a_stream_that_is_interrupted_keeps_what_it_gave(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "clip.avi")
    original = batch.open_video

    @contextmanager
    def until_ctrl_c(_stream: str) -> Iterator[Any]:
        with original(video) as (facts, frames):

            def some() -> Iterator[Any]:
                yield from islice(frames, 3)
                raise KeyboardInterrupt

            yield facts, some()

    monkeypatch.setattr(batch, "open_video", until_ctrl_c)
    summary = predict("rtsp://127.0.0.1/barn", model, tmp_path / "out")
    assert [entry.objects for entry in summary.files] == [3]
    assert (tmp_path / "out/127.0.0.1_barn.mp4").exists()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("97", "camera 97: no camera has this number, or it is in use"),
        ("rtsp://127.0.0.1:1/x", "no stream that OpenCV"),
    ],
)
def test_a_camera_or_stream_that_is_not_there(source: str, found: str, model: Path, tmp_path: Path) -> None:
    summary = predict(source, model, tmp_path / "out")
    assert [fault.file for fault in summary.faults] == [source]
    assert found in summary.faults[0].found


def test_the_command(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert predict_command.main(["photos", "--model", str(model), "--conf", "0.95"]) == 0
    assert capsys.readouterr().out == "0 objects in 3 files, results in predictions/photos\n"
    assert predict_command.main([".", "--model", str(model)]) == 0  # earlier predictions are no source
    assert capsys.readouterr().out.startswith("3 objects in 3 files")
    assert predict_command.main(["nothing.jpg", "--model", str(model)]) == 2
    assert capsys.readouterr().err == "keypipe: nothing.jpg: no such file or folder\n"
    (photos / "a/bad.jpg").write_text("hello")
    assert predict_command.main(["photos", "--model", str(model)]) == 2
    assert "bad.jpg" in capsys.readouterr().err


def test_predictions_are_logged_images_by_themselves_and_frames_with_their_video(
    tmp_path: Path, model: Path, photos: Path
) -> None:
    from keypipe.drift.segments import read_segment

    write_video(photos / "film.avi", 3)
    arguments = [str(photos), "--model", str(model), "--output", str(tmp_path / "out"), "--log", str(tmp_path / "log")]
    assert predict_command.main(arguments) == 0
    (segment,) = (tmp_path / "log").glob("*.parquet")
    rows = read_segment(segment)
    assert [row.group for row in rows] == ["", "", "", *[str(photos / "film.avi")] * 3]
    assert [row.image for row in rows[3:]] == [f"{photos / 'film.avi'}#{number}" for number in range(3)]
    assert {row.source for row in rows} == {"predict"}
    assert rows[0].sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert rows[0].objects[0].keypoints[0].name == "nose"


# ------------------------------------------------------------------------ pictures, and how many at a time


def test_no_pictures(photos: Path, model: Path, tmp_path: Path) -> None:
    write_video(photos / "film.avi", 3)
    arguments = [str(photos), "--model", str(model), "--output", str(tmp_path / "out"), "--no-pictures"]
    assert predict_command.main(arguments) == 0
    assert sorted(tree(tmp_path / "out")) == ["a/x.json", "b/x.json", "b/奶牛.json", "film.json", INDEX]
    image = msgspec.json.decode((tmp_path / "out/a/x.json").read_bytes(), type=ImageResult)
    film = msgspec.json.decode((tmp_path / "out/film.json").read_bytes(), type=VideoResult)
    assert (image.drawn, film.drawn) == ("", "")
    assert (len(image.predictions), len(film.frames)) == (1, 3)
    predict(str(photos), model, tmp_path / "drawn")
    drawn = msgspec.json.decode((tmp_path / "drawn/a/x.json").read_bytes(), type=ImageResult)
    assert drawn.predictions == image.predictions


def test_without_pictures_nothing_would_replace_a_source(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    (tmp_path / INDEX).write_text("{}")
    summary = predict(str(tmp_path / "a.jpg"), model, tmp_path, pictures=Pictures(wanted=False))
    assert [entry.drawn for entry in summary.files] == [""]


def test_small_pictures_in_their_own_size(photos: Path, model: Path, tmp_path: Path) -> None:
    arguments = [str(photos), "--model", str(model), "--output", str(tmp_path / "out"), "--original-size"]
    assert predict_command.main(arguments) == 0
    assert Image.open(tmp_path / "out/a/x.jpg").size == (128, 64)


def test_many_at_a_time_are_what_one_after_the_other_are(photos: Path, model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(30):
        pixels = rng.integers(0, 255, (40 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:02d}.png")
    (photos / "05.png").write_text("hello")
    write_video(photos / "15-film.avi", 9)
    trees = []
    for threads in (1, 4):
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        summary = predict(str(photos), model, output, threads=threads)
        assert [fault.file for fault in summary.faults] == [str(photos / "05.png")]
        trees.append(tree(output))
    assert len(trees[0]) == 2 * 33 + 1
    assert trees[0] == trees[1]


def test_an_interruption_keeps_what_threads_have_done(photos: Path, model: Path, tmp_path: Path) -> None:
    for number in range(40):
        Image.new("RGB", (64, 64)).save(photos / f"{number:02d}.png")

    def tell(_what: str, done: int, _total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(str(photos), model, tmp_path / "out", progress=tell, threads=3)
    index = msgspec.json.decode((tmp_path / "out" / INDEX).read_bytes(), type=Index)
    assert not index.complete
    assert 10 <= len(index.files) < 43
    written = [name for name in tree(tmp_path / "out") if name != INDEX]
    assert sorted(written) == sorted(name for entry in index.files for name in (entry.drawn, entry.json))


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    put_file(tmp_path / "a/b/c.json", b"1" * 100_000)
    put_file(tmp_path / "a/b/c.json", b"2")
    assert tree(tmp_path) == {"a/b/c.json": b"2"}
    (tmp_path / "a/b/d.json").mkdir()
    with pytest.raises(OSError, match=r"d\.json"):
        put_file(tmp_path / "a/b/d.json", b"3")
    assert sorted(tree(tmp_path)) == ["a/b/c.json"]
