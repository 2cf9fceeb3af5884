"""``keypipe serve`` in a workspace: the champion of its own registry, a database without a server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.models.serving import find_model
from keypipe.errors import ConfigError, PoseError
from keypipe.serving.following.rest import MlflowRest
from keypipe.serving.following.source import ModelRef
from tasks.registry.source import WorkspaceSource
from tests.imports import ROOT
from tests.model_versions import Versions, network, photo, score_of
from tests.patience import PATIENCE
from tests.served import Served, command, surroundings
from tests.served import serving as served


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each workspace have its own; MLflow writes addresses into the environment."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    yield
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    """A folder that the command takes for a workspace, with an export."""
    root = tmp_path / "farm"
    root.mkdir()
    for name in ("dvc.yaml", "flows", "params.yaml"):
        (root / name).symlink_to(ROOT / name)
    network(root / "exports/model.onnx", 0.5)
    return root


@pytest.fixture
def versions(farm: Path, tmp_path: Path) -> Versions:
    return Versions(tmp_path, farm, "farm")


def ask(server: Served) -> httpx.Response:
    return httpx.post(f"{server.url}/predict", content=photo(), timeout=PATIENCE)


def wait_for(server: Served, what: Callable[[Any], Any]) -> Any:
    for _ in range(1200):
        if what(said := httpx.get(f"{server.url}/healthz", timeout=PATIENCE).json()):
            return said
        time.sleep(0.05)
    raise AssertionError(said)


def refusal(root: Path) -> str:
    done = subprocess.run(
        command("--port", "0"), cwd=root, env=surroundings(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2
    return done.stderr


def test_the_champion_is_served_and_followed_and_compared(farm: Path, versions: Versions) -> None:
    first, second, third = (versions.add_seeing(score) for score in (0.9, 0.8, 0.7))
    versions.point("champion", first)
    versions.point("challenger", third)
    (farm / "photos").mkdir()
    arguments = ("--poll", "0.2", "--shadow", "challenger", "--shadow-share", "1")
    with served(farm / "photos", *arguments) as server:
        assert score_of(ask(server)) == 0.9
        assert httpx.get(f"{server.url}/healthz").json()["registry"]["ref"] == "models:/farm@champion"
        wait_for(server, lambda said: said["shadow"]["version"] == "models:/farm/3")
        ask(server)
        wait_for(server, lambda said: said["shadow"]["compared"])
        assert '"models:/farm/3"' in (farm / "predictions/shadow.jsonl").read_text()
        versions.point("champion", second)
        wait_for(server, lambda said: said["model"] == "models:/farm/2")
        assert score_of(ask(server)) == 0.8
        (farm / "mlflow.db").write_text("no database" * 1000)  # in place: an open file that is renamed stays readable
        assert "cannot be read" in wait_for(server, lambda said: said["registry"]["away"])["registry"]["away"]
        assert score_of(ask(server)) == 0.8
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0


def test_without_a_registered_model_it_is_the_export(farm: Path, tmp_path: Path) -> None:
    with served(farm) as server:
        assert httpx.get(f"{server.url}/model").json()["model"]["path"] == "model.onnx"
    assert not (farm / "mlflow.db").exists()
    Versions(tmp_path, farm, "another")  # of the same database
    assert find_model(farm, None, None) == (farm / "exports/model.onnx", None)


def test_versions_of_which_none_is_in_use_are_an_error(farm: Path, versions: Versions) -> None:
    versions.add_seeing(0.9)
    said = refusal(farm)
    assert "no version of farm has the alias champion; `keypipe promote` puts one into use" in said
    assert "`keypipe serve exports/model.onnx` serves the export" in said


def test_a_version_whose_files_are_gone(farm: Path, versions: Versions) -> None:
    versions.point("champion", versions.add_seeing(0.9))
    (network_file,) = (farm / "mlartifacts").rglob("model.onnx")
    network_file.unlink()
    said = refusal(farm)
    assert said.startswith("keypipe: models:/farm/1: artifacts/model.onnx cannot be fetched (")
    assert len(said.splitlines()) == 1


def test_where_the_registry_is(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = "models:/cows@champion"
    assert find_model(farm, "mine.onnx", None) == (Path("mine.onnx"), None)
    ref, source = find_model(farm, named, None)
    assert ref == ModelRef("cows", alias="champion")
    assert isinstance(source, WorkspaceSource)
    assert isinstance(find_model(farm, named, "http://127.0.0.1:1")[1], MlflowRest)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1")
    assert isinstance(find_model(farm, named, None)[1], MlflowRest)
    assert find_model(farm, None, None)[0] == ModelRef("farm", alias="champion"), "the server may have kept it"
    assert "the registry http://127.0.0.1:1 does not answer" in refusal(farm)
    with pytest.raises(ConfigError, match="neither a server nor a database"):
        find_model(farm, named, "ftp://host/x")


def test_what_the_workspace_does_not_have(farm: Path, versions: Versions) -> None:
    source = WorkspaceSource(farm)
    versions.add_seeing(0.9)
    with pytest.raises(PoseError, match="there is no registered model nobody"):
        source.find(ModelRef("nobody", alias="champion"))
    with pytest.raises(PoseError, match="farm has no version 7"):
        source.find(ModelRef("farm", number="7"))
    assert source.find(ModelRef("farm", number="1")).number == "1"
