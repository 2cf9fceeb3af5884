"""Files of a registered version: there, never there, gone, or not to be had just now."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from keypipe.errors import PoseError
from tasks.tracking.client import experiment_id
from tasks.tracking.models.registry import Registry
from tests.mlflow_server import MlflowServer


@pytest.fixture(autouse=True)
def _own_tracking() -> Iterator[None]:
    """Forget the tracking server of the test before: MLflow writes it into the environment."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)
    yield
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)


def register_file(root: Path) -> tuple[Registry, str]:
    """Register a version whose folder holds one file."""
    root.mkdir(exist_ok=True)
    registry = Registry(root, "cows")
    registry.create("for a test", {})
    training = registry._tracking.create_run(experiment_id(registry._tracking, root)).info.run_id

    def save(folder: Path) -> None:
        (folder / "artifacts").mkdir(parents=True)
        (folder / "artifacts/model.onnx").write_bytes(b"a network")

    return registry, registry.add_version(training, save, "", {})


def test_a_file_of_a_version_is_read_and_one_that_it_lacks_is_none(tmp_path: Path) -> None:
    registry, number = register_file(tmp_path / "cows")
    assert registry.read_file(number, "artifacts/model.onnx") == b"a network"
    assert registry.read_file(number, "artifacts/another.onnx") is None
    assert registry.read_file(number, "manifest.csv") is None
    (folder,) = (tmp_path / "cows/mlartifacts").rglob("artifacts/artifacts")
    shutil.rmtree(folder.parent)
    assert registry.read_file(number, "artifacts/model.onnx") is None, "somebody has deleted it"


def test_a_folder_of_artifacts_that_is_away_for_a_moment_is_not_taken_for_files_that_are_gone(tmp_path: Path) -> None:
    registry, number = register_file(tmp_path / "cows")
    (tmp_path / "cows/mlartifacts").rename(tmp_path / "away")
    with pytest.raises(PoseError, match="the folder of MLflow's artifacts is not there"):
        registry.read_file(number, "artifacts/model.onnx")
    (tmp_path / "away").rename(tmp_path / "cows/mlartifacts")
    assert registry.read_file(number, "artifacts/model.onnx") == b"a network"


def test_a_server_that_is_away_is_not_taken_for_files_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MlflowServer(tmp_path / "server")
    server.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        registry, number = register_file(tmp_path / "cows")
        assert registry.read_file(number, "artifacts/model.onnx") == b"a network"
        assert registry.read_file(number, "artifacts/another.onnx") is None
        (path,) = (tmp_path / "server/artifacts").rglob("model.onnx")
        path.rename(tmp_path / "laid-aside")
        assert registry.read_file(number, "artifacts/model.onnx") is None
    finally:
        server.stop()
    with pytest.raises(PoseError):
        registry.read_file(number, "artifacts/model.onnx")
