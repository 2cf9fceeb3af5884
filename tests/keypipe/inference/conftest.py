from __future__ import annotations

import os
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ultralytics() -> Any:
    """Ultralytics with nothing downloaded."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    import ultralytics

    return ultralytics
