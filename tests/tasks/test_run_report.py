"""The page of a whole run: what stands on it, how small it gets, and how a browser without network shows it."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keypipe.errors import ModelError
from keypipe.report.page import Chapter, Gallery, Note, Notes, Picture, Report, Table
from tasks.run_report import MEGA, STEPS, files_of, render_within, to_report
from tasks.workspace.models import read_run_id
from tasks.workspace.places import EXPORTS, MODELS, REPORT_JSON, report_folder
from tests.pages import forget_requests, picture, text

CHAPTERS = ["Data", "Training", "How good it is", "Export", "Gate", "Lineage"]


@pytest.fixture(scope="module")
def report(trained_once: Path) -> Report:
    gate = [Notes("Verdict", [Note("good", "promoted: better in both figures")])]
    return to_report(files_of(trained_once), "cows", gate, {"Registered as": "cows v3 (champion)"})


def galleries(report: Report) -> list[Gallery]:
    return [section for section in report.sections if isinstance(section, Gallery)]


def test_it_tells_a_run_from_data_to_lineage(report: Report, trained_once: Path) -> None:
    assert [section.title for section in report.sections if isinstance(section, Chapter)] == CHAPTERS
    titles = {section.title for section in report.sections}
    assert {"Objects by class", "Splits", "Losses and figures by epoch", "Keypoints", "Figures on val"} <= titles
    assert {"Formats, compared with PyTorch", "Verdict", "In short", "Where it comes from"} <= titles
    assert "Not told" not in titles
    (short,) = (section for section in report.sections if section.title == "In short")
    assert isinstance(short, Table)
    assert ["Registered as", "cows v3 (champion)"] in list(short.rows)
    run_id = read_run_id(trained_once)
    assert ["Training (MLflow run)", run_id] in list(short.rows)
    assert report.title == f"cows: training {run_id[:8]}"

    measured = json.loads((trained_once / report_folder("validate") / REPORT_JSON).read_text())
    assert report.figures[0].value == f"{measured['sides']['test']['oks']['AP50']:.3f}"
    names = {path.name for path in (trained_once / report_folder("validate") / "gallery/test").rglob("*.jpg")}
    drawn = {picture.caption for gallery in galleries(report) for picture in gallery.pictures}
    assert {Path(caption).stem for caption in drawn if caption.startswith("raw/")} == {n[3:-4] for n in names}
    assert all(p.detail for gallery in galleries(report) for p in gallery.pictures if p.caption.startswith("raw/"))


def test_it_needs_nothing_from_outside(report: Report) -> None:
    page, _ = render_within(report, None)
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)|url\(|@import|<link|<iframe""", page)


@pytest.mark.parametrize("limit_mb", [10, 0.5, 0.25])
def test_pictures_shrink_until_it_fits(report: Report, limit_mb: float) -> None:
    page, step = render_within(report, int(limit_mb * MEGA))
    assert len(page.encode()) <= limit_mb * MEGA
    assert (step == STEPS[0]) == (limit_mb == 10)
    assert all(chapter in page for chapter in CHAPTERS)


def test_a_large_run_keeps_pictures_that_can_still_be_seen() -> None:
    rng = np.random.default_rng(0)

    def photo() -> bytes:
        written = io.BytesIO()
        rough = Image.fromarray(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8)).resize((1600, 1200))
        rough.save(written, "JPEG", quality=92)
        return written.getvalue()

    large = Report("t", "h", [Gallery("g", [Picture(photo(), f"{n}.jpg") for n in range(40)])])
    whole, _ = render_within(large, None)
    assert len(whole) > 20 * MEGA
    page, step = render_within(large, 10 * MEGA)
    assert len(page) < 10 * MEGA
    assert page.count("data:image/jpeg") == 40, "smaller before fewer"
    assert (step.side_px or 0) >= 480
    fewer, step = render_within(large, 400_000)
    assert 0 < fewer.count("data:image/jpeg") < 40
    assert f"{40 - step.most} more are in the workspace" in fewer
    without, step = render_within(large, 60_000)
    assert (without.count("data:image/jpeg"), step.most) == (0, 0)
    with pytest.raises(ModelError, match=r"MB without any picture, more than 0.001 MB"):
        render_within(large, 1000)


def test_what_is_absent_or_of_another_version_is_said(trained: Path) -> None:
    shutil.rmtree(trained / report_folder("export"))
    path = trained / report_folder("convert") / REPORT_JSON
    path.write_text(json.dumps({"format": 1, "headline": "of long ago"}))
    page, _ = render_within(to_report(files_of(trained), "cows"), None)
    assert "export has not run" in page
    assert "no gate has compared its model" in page
    assert "reports/convert/report.json: damaged, or of another version of keypipe" in page
    shutil.rmtree(trained / EXPORTS)
    shutil.rmtree(trained / MODELS)
    with pytest.raises(ModelError, match=r"models/train.json: not there, so there is no training to tell of"):
        to_report(files_of(trained), "cows")


@pytest.mark.parametrize("width_px", [1200, 420])
def test_a_browser_shows_it_without_a_network(report: Report, tmp_path: Path, browser: Any, width_px: int) -> None:
    place = tmp_path / "run.html"
    page, _ = render_within(report, 10 * MEGA)
    place.write_text(page, encoding="utf-8")
    browser.set_window_size(width_px, 1600)
    forget_requests(browser)
    browser.get(place.as_uri())
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith("data:")} == {place.as_uri()}
    assert browser.get_log("browser") == []
    widths = browser.execute_script("return [...document.images].filter((i) => i.src).map((i) => i.naturalWidth)")
    assert len(widths) == sum(len(gallery.pictures) for gallery in galleries(report))
    assert min(widths) > 100
    assert all(chapter in text(browser) for chapter in CHAPTERS)
    root = "document.documentElement"
    assert browser.execute_script(f"return {root}.scrollWidth <= {root}.clientWidth"), "nothing sticks out"
    picture(browser, f"run-report-{width_px}", 1600)
