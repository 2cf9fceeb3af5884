"""The page of a window: the figures, what differs, pictures of what is new; in a real browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from keypipe.drift.closeness import Truth
from keypipe.drift.rows import Row, keypoints_px
from keypipe.drift.segments import PICTURES, Window
from keypipe.inference.model_info import ModelInfo
from keypipe.report.page import render_report
from tasks.drift.in_use import ModelInUse
from tasks.drift.page import summarise, to_report, write_page
from tasks.drift.settings import DriftParams
from tasks.drift.validation_side import ValidationSide
from tasks.drift.watch import Watched, judge
from tests.keypipe.drift.samples import NAMES, SCHEMA, make_row
from tests.pages import picture as take_picture
from tests.tasks.drift.drawn_cows import draw_sides


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (128, 96), (shade, shade, shade)).save(path)


def a_side(folder: Path, n: int = 80) -> ValidationSide:
    """Draw labelled images on which the model is off where its keypoints move in the mirror."""
    rng = np.random.default_rng(1)
    rows: list[Row] = []
    truth: list[Truth] = []
    for index in range(n):
        hard = rng.random() < 0.3
        row = make_row(rng, image=f"raw/{index}.png", move=0.12 if hard else 0.01)
        (found,) = row.objects
        places = keypoints_px(found) + rng.normal(0, 12 if hard else 1.5, (len(NAMES), 2))
        points = {name: (float(x), float(y)) for name, (x, y) in zip(NAMES, places, strict=True)}
        rows.append(row)
        truth.append([("cow", found.box_xyxy, points)])
    files = [folder / f"data/raw/{index}.png" for index in range(n)]
    for file in files:
        picture(file, 160)
    info = ModelInfo(SCHEMA, (64, 64))
    return ValidationSide(info, rows, [f"image {row.image}" for row in rows], truth, files, {})


def a_window(folder: Path, n: int = 40, **settings: Any) -> Window:
    rng = np.random.default_rng(2)
    now = time.time()
    rows: list[Row] = []
    for k in range(n):
        move = 0.12 if rng.random() < 0.3 else 0.01
        rows.append(make_row(rng, at=now - n + k, image=f"{k}.jpg", picture=f"{k}.jpg", move=move, **settings))
    for row in rows:
        picture(folder / "log" / PICTURES / row.picture, 60)
    return Window(rows, n, {"of another model": 3}, ["0001-x.parquet"])


def watched(folder: Path, **settings: Any) -> Watched:
    model = ModelInUse("v3 of cows", "3", "ab" * 32, b"", {})
    window = a_window(folder, **settings)
    return judge(model, a_side(folder), window, time.time() - 3600, time.time(), DriftParams(), 0.5, None, 0)


def test_the_page_of_a_drifted_window_in_a_browser(browser: Any, tmp_path: Path) -> None:
    found = watched(tmp_path, score=0.5, brightness=0.2)
    assert found.kind == "drift"
    page = write_page(tmp_path, found, tmp_path / "log")
    browser.get((tmp_path / page).as_uri())
    assert browser.get_log("browser") == []
    text = browser.find_element("tag name", "body").text
    for said in (
        "with v3 of cows are not what they were on the validation side",
        "Left out: 3 images of another model",
        "1 segment of the log could not be read",
        "Close keypoints expected",
        "score: smaller",
        "Whether the expectation keeps its word",
    ):
        assert said in text, said
    assert len(browser.find_elements("css selector", ".gallery img")) == 12 + 6
    script = (
        "return [...document.querySelectorAll('.gallery img')].every((image) => image.src.startsWith('data:image/'))"
    )
    assert browser.execute_script(script)
    for width in (1250, 420):
        browser.set_window_size(width, 900)
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth + 1"), width


@pytest.mark.slow
def test_the_page_of_a_camera_that_has_grown_dark_as_docs_show_it(browser: Any, tmp_path: Path) -> None:
    side, window = draw_sides(tmp_path, 100, 60)
    model = ModelInUse("v3 of cows", "3", "ab" * 32, b"", {})
    found = judge(model, side, window, time.time() - 7 * 86400, time.time(), DriftParams(), 0.5, None, 0)
    assert found.kind == "drift"
    browser.set_window_size(1250, 1750)
    browser.get((tmp_path / write_page(tmp_path, found, tmp_path / "log")).as_uri())
    text = browser.find_element("tag name", "body").text
    for said in (
        "with v3 of cows are not what they were",
        "score: smaller",
        "movement when mirrored: larger",
        "What is new",
    ):
        assert said in text, said
    take_picture(browser, "drift")
    browser.execute_script("document.querySelector('.gallery').scrollIntoView()")
    take_picture(browser, "drift-pictures")


def test_steady_images_have_an_expected_accuracy(tmp_path: Path) -> None:
    found = watched(tmp_path)
    assert found.kind == "steady"
    assert found.expected is not None
    assert found.expected.share is not None
    summary = summarise(found)
    assert summary["expected_close"]["low"] <= summary["expected_close"]["share"] <= summary["expected_close"]["high"]
    assert msgspec.json.encode(summary)
    assert f"{found.expected.share:.1%}" in render_report(to_report(found, tmp_path / "log"))


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/hostname", "gone.jpg", ""])
def test_a_row_names_a_picture_of_the_log_alone(tmp_path: Path, name: str) -> None:
    found = watched(tmp_path)
    picture(tmp_path / "secret.png", 10)
    rows = [msgspec.structs.replace(row, picture=name) for row in found.window.rows]
    window = msgspec.structs.replace(found.window, rows=rows)
    page = render_report(to_report(msgspec.structs.replace(found, window=window), tmp_path / "log"))
    assert "What is new" not in page
    assert ("No pictures were logged" in page) == (name == "")
