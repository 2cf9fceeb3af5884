"""A real MLflow server for the tests of these folders, and registered models on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mlflow_server import MlflowServer
from tests.model_versions import Versions


@pytest.fixture(autouse=True)
def _own_tracking() -> Iterator[None]:
    """Forget the tracking server of the test before: MLflow writes it into the environment."""
    yield
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server that a test may end, if it starts it again."""
    server = MlflowServer(tmp_path_factory.mktemp("serving-registry"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def versions(mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    """A registered model without versions."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    (tmp_path / "registered").mkdir()
    return Versions(tmp_path / "registered")
