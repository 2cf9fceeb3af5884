"""The drawn video where PyAV is not installed; with it, test_tracking.py."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from keypipe.batch import tracked_film
from keypipe.batch.prediction import predict
from keypipe.batch.tracking import Tracking
from keypipe.batch.writing import Pictures
from tests.keypipe.batch.spots import SCHEMA, write_film
from tests.onnx_files import write_colour_model


def test_without_an_encoder_there_is_a_video_and_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked_film, "has_h264", lambda: False)
    model = write_colour_model(tmp_path / "model.onnx", SCHEMA)
    film = write_film(tmp_path / "film.avi", n_frames=12)
    summary = predict(str(film), model, tmp_path / "out", tracking=Tracking())
    assert str(summary).splitlines()[-1].endswith("not in browsers; pip install 'keypipe[video]'")
    capture = cv2.VideoCapture(str(tmp_path / "out/film.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12


def test_without_pictures_there_are_tables_alone(tmp_path: Path) -> None:
    model = write_colour_model(tmp_path / "model.onnx", SCHEMA)
    film = write_film(tmp_path / "film.avi", n_frames=12)
    summary = predict(str(film), model, tmp_path / "out", tracking=Tracking(), pictures=Pictures(wanted=False))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["film.csv", "film.json", "predictions.json"]
    assert summary.files[0].drawn == ""
