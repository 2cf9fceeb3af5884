"""Which database or server a workspace's records go to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.tracking.client import is_untouched, limited, open_client


def test_a_database_is_untouched_until_there_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clones may share a database: what is asked for is the one that the variable names."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root, shared = tmp_path / "workspace", tmp_path / "shared.db"
    root.mkdir()
    assert is_untouched(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    assert is_untouched(root)
    shared.touch()
    assert not is_untouched(root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert not is_untouched(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert is_untouched(root)
    (root / "mlflow.db").touch()
    assert not is_untouched(root)


def test_mlflow_s_own_many_retries_do_not_come_back_after_a_limited_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    monkeypatch.setenv(retries, "")  # so that it is as it was at the end
    monkeypatch.delenv(retries)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with limited(1, 0):
        open_client(tmp_path)
        assert os.environ[retries] == "0"
    assert os.environ[retries] == "2"
