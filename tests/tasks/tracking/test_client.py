"""Which database or server a workspace's records go to."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from keypipe.errors import ConfigError
from tasks.tracking.client import SchemaError, is_untouched, limited, open_client, tracking_uri


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


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://h:99999", "Port out of range"),
        ("http://user:secret@h:abc", "Port could not be cast"),
        ("http://user:secret/x@host:5000", "/ as %2F"),
        ("http://user:secret@/", "names no host"),
        ("sqlite://user:secret@host/x.db", "SQLite takes three slashes"),
        ("user:secret@host:5000", "neither a server nor a database"),
        ("http://[::1", "Invalid IPv6"),
        ("http://127.0.0.1:9 ", "a blank or a line's end"),
        ("http://127.0.0.1:9\n", "a blank or a line's end"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
    ],
)
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_an_address_that_is_none_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, uri: str, why: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(variable, uri)
    with pytest.raises(ConfigError, match=f"^{variable}=.*{why}.*; such as http://HOST:5000") as refused:
        open_client(tmp_path)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_database_whose_path_has_a_blank_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/my runs.db")
    assert tracking_uri(tmp_path).endswith("my runs.db")


def test_a_database_of_another_version_of_mlflow_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made, root = tmp_path / "made", tmp_path / "cows"
    for folder in (made, root):
        folder.mkdir()
    open_client(made)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # which MLflow has written
    with sqlite3.connect(made / "mlflow.db") as database:  # MLflow looks but once at one whose address it knows
        database.execute("VACUUM INTO ?", [str(root / "mlflow.db")])
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'b7e2c1a4d9f3'")
    with pytest.raises(SchemaError, match=r"mlflow\.db are of another version of MLflow; .*`mlflow db upgrade`"):
        open_client(root)
