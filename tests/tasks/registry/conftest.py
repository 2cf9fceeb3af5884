"""Registered models on a server of the session, and a workspace with trainings to register."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.registry.moves.aliases import open_registry
from tasks.tracking.models.registry import Registry
from tests.mlflow_server import MlflowServer
from tests.registered import make_registrable


@pytest.fixture(autouse=True)
def _own_tracking() -> Iterator[None]:
    """Forget the tracking server of the test before: MLflow writes it into the environment."""
    yield
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server."""
    server = MlflowServer(tmp_path_factory.mktemp("registry-server"))
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def on_server(registry_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the workspaces of a test record on the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_server)
    return registry_server


def make_versions(root: Path, number: int) -> Registry:
    """Make a folder with parameters, and a registered model of empty versions, none of them of a training."""
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(f"registry:\n  model: cows-{uuid4().hex[:8]}\n")
    registry = open_registry(root)
    registry.create("for a test", {})
    for _ in range(number):
        registry._client.create_model_version(registry.name, "s3://nowhere/model")
    return registry


@pytest.fixture
def registry(on_server: str, tmp_path: Path) -> Registry:
    """A registered model of four versions on the server; its ``root`` is a workspace."""
    return make_versions(tmp_path / "cows", 4)


@pytest.fixture(scope="session")
def registrable_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every stage has run; not to be changed."""
    return make_registrable(tmp_path_factory.mktemp("registrable") / "farm")


@pytest.fixture
def registrable(registrable_once: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change; MLflow's database names absolute paths, which are turned to the copy."""
    root = tmp_path / "farm"
    shutil.copytree(registrable_once, root, symlinks=True)
    with sqlite3.connect(root / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            statement = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(statement, (str(registrable_once), str(root)))
    return root
