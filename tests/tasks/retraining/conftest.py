"""Tests of retraining keep no tracking server from each other."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _own_tracking() -> Iterator[None]:
    """Forget the tracking server of the test before: MLflow writes it into the environment."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
