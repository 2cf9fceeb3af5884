"""A glance at a registered model on a server, and where there is none."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from keypipe.errors import PoseError
from tasks.registry.glance import glance
from tasks.registry.moves.aliases import challenge, open_registry, promote, read_state
from tests.tasks.registry.conftest import make_versions


def test_a_server_is_asked_for_what_it_knows(
    registry_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_server)
    root = tmp_path / "cows"
    make_versions(root, 2)
    challenge(root, "2", "for a test")
    promote(root, "2", "for a test")
    assert glance(root) == read_state(root)
    assert glance(root).aliases == {"champion": "2"}


def test_a_server_that_knows_no_such_model(
    registry_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_server)
    (tmp_path / "params.yaml").write_text(f"registry:\n  model: none-{uuid4().hex[:8]}\n")
    registry = open_registry(tmp_path)
    state = glance(tmp_path)
    assert (state.versions, state.aliases, state.entries) == ([], {}, [])
    assert "_client" not in vars(registry)


def test_a_server_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (tmp_path / "params.yaml").write_text("registry:\n  model: cows\n")
    with pytest.raises(PoseError, match=r"the MLflow server http://127\.0\.0\.1:9 does not answer"):
        glance(tmp_path)


def test_a_database_of_another_kind_is_left_to_mlflow(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("registry:\n  model: cows\n")
    (tmp_path / "mlflow.db").write_bytes(b"")
    assert glance(tmp_path).versions == []


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("registry:\n  model: cows\n")
    assert glance(tmp_path).versions == []
    assert not (tmp_path / "mlflow.db").exists()
