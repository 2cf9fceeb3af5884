"""Pages of servers in a real browser: what they show, what they ask for, and pictures of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.imports import ROOT

PICTURES = ROOT / "tests" / "artifacts"
"""Where pictures of pages go; those that docs show are copied from here (CONTRIBUTING.md)."""


def wait_for(browser: Any, what: Callable[[], Any], told: str) -> Any:
    """Wait until something is shown; returns it."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.3)
    picture(browser, "failed")
    raise AssertionError(f"{told}: not shown within 240 s; {browser.current_url}: {text(browser)[:2000]}")


def text(browser: Any) -> str:
    """Return what the page shows."""
    return str(browser.execute_script("return document.body ? document.body.innerText : ''"))


def wait_for_text(browser: Any, *texts: str) -> None:
    """Wait until the page shows all of these texts."""
    wait_for(browser, lambda: all(one in text(browser) for one in texts), f"{texts}")


def picture(browser: Any, name: str, width_px: int = 1000) -> Path:
    """Take a picture of what is shown, as a small file of few colours."""
    import io

    from PIL import Image

    PICTURES.mkdir(exist_ok=True)
    image = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    image.thumbnail((width_px, width_px))
    path = PICTURES / f"{name}.png"
    image.quantize(64).save(path, optimize=True)
    return path


def forget_requests(browser: Any) -> None:
    """Forget what pages have asked for so far."""
    browser.get_log("performance")
    browser.get_log("browser")


def requests_beyond_loopback(browser: Any) -> set[str]:
    """Return the addresses beyond this machine that pages have asked for since they were forgotten."""
    found: set[str] = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] in {"Network.requestWillBeSent", "Network.webSocketCreated"}:
            url = message["params"].get("url") or message["params"]["request"]["url"]
            if not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:", "chrome")):
                found.add(url)
    return found
