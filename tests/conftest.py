"""Fixtures that all tests share."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

# the workspaces of flows, which tests of tasks look at as well
pytest_plugins = ["tests.flows.fixtures", "tests.flows.retraining.fixtures"]

# Ultralytics writes its settings when it is imported, which a test may do by itself: not into the user's home.
_ENGINE = tempfile.TemporaryDirectory(prefix="keypipe-tests-", ignore_cleanup_errors=True)
os.environ.setdefault("YOLO_CONFIG_DIR", _ENGINE.name)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

settings.register_profile("keypipe", deadline=None)  # a busy machine is no fault
settings.load_profile("keypipe")

ROOT = Path(__file__).parents[1]
SHARED_DATA = Path(os.environ.get("KEYPIPE_SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return a folder of real annotations, or skip where it is not at hand."""

    def find(name: str) -> Path:
        folder = SHARED_DATA / name
        if not folder.exists():
            pytest.skip(f"needs the real annotations in {folder}; set KEYPIPE_SHARED_DATA to their folder")
        return folder

    return find


@pytest.fixture(scope="session")
def labelme_files() -> Any:
    """Return how labelme loads and saves, or skip where its Qt lacks libraries of the system."""
    reason = "labelme's Qt does not load: apt-get install libgl1 libegl1 libglib2.0-0"
    return pytest.importorskip("tests.labelme_files", reason=reason, exc_type=ImportError)


@pytest.fixture
def write_labelme(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an image and its labelme JSON below ``tmp_path/raw``."""

    def write(
        name: str,
        shapes: list[dict[str, Any]],
        size_wh: tuple[int, int] = (200, 100),
        folder: Path = tmp_path / "raw",
        **extra: Any,
    ) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = tuple(sum(name.encode()) * factor % 256 for factor in (1, 7, 31))
        Image.new("RGB", size_wh, colour).save(path)  # type: ignore[arg-type]
        document = {
            "version": "6.3.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": path.name,
            "imageData": None,
            "imageHeight": size_wh[1],
            "imageWidth": size_wh[0],
        } | extra
        path.with_suffix(".json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        return path.with_suffix(".json")

    return write


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless browser whose console and whose requests can be read."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


def rectangle(
    label: str, box: tuple[float, float, float, float], group: int | None = None, **extra: Any
) -> dict[str, Any]:
    """Return a labelme rectangle."""
    points = [[box[0], box[1]], [box[2], box[3]]]
    return {"label": label, "points": points, "group_id": group, "shape_type": "rectangle", "flags": {}} | extra


def point(label: str, x: float, y: float, group: int | None = None, **extra: Any) -> dict[str, Any]:
    """Return a labelme point."""
    return {"label": label, "points": [[x, y]], "group_id": group, "shape_type": "point", "flags": {}} | extra
