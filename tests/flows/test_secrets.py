"""Names and passwords in addresses: nothing that a run writes or prints has them, wherever it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.services.server import free_port
from tests.flows.recorded import make_recorded, set_epochs
from tests.flows.toy import Api, Toy, dvc, run
from tests.mlflow_server import MlflowServer
from tests.workspace import git

SECRET = "correct-horse-9f2e"
KNOWN = (".git/config", ".dvc/config.local")
"""Where the user wrote it."""


def with_secret(url: str) -> str:
    return url.replace("://", f"://ann:{SECRET}@", 1)


def find_secret(folder: Path) -> list[str]:
    """Return what has the secret below a folder: files by their bytes, and objects of git, which are compressed."""
    found = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes()
    ]
    for repository in sorted(folder.rglob(".git")):
        objects = ["git", "cat-file", "--batch", "--batch-all-objects", "--unordered"]
        done = subprocess.run(objects, cwd=repository.parent, check=True, capture_output=True)
        assert len(done.stdout) > 1000
        found += ["git's objects"] * (SECRET.encode() in done.stdout)
    return found


@pytest.fixture
def secretive(tmp_path: Path, api: Api) -> Toy:
    """A workspace whose remotes, of git and of DVC, are away and have a password in their addresses."""
    root = make_recorded(tmp_path / "workspace")
    away = with_secret(f"http://127.0.0.1:{free_port()}/store")
    git(root, "remote", "add", "origin", f"{away}.git")
    dvc(root, "remote", "add", "--default", "--local", "store", away)
    return Toy(root, api)


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "mlflow")
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(1800)
def test_no_password_of_an_address_is_written_or_printed(
    secretive: Toy, mlflow_server: MlflowServer, tmp_path: Path, server_root: Path, api: Api
) -> None:
    addresses = {"MLFLOW_TRACKING_URI": with_secret(mlflow_server.url), "PREFECT_API_URL": with_secret(api.url)}
    said = secretive.keypipe("run", **addresses)
    runs = mlflow_server.runs()
    assert runs, said  # the secret did its work
    for command in (["status"], ["runs"]):
        process = secretive.start(*command, **addresses)
        said += process.communicate()[0]
    assert SECRET not in str([run.to_dictionary() for run in runs])
    mlflow_server.stop()
    set_epochs(secretive.root, 3)
    for command in (["run"], ["retrain", "--dry-run"]):
        process = secretive.start(*command, **addresses)
        said += process.communicate()[0]
    wrong = {"PREFECT_API_URL": with_secret(f"http://127.0.0.1:{free_port()}/api")}
    for address in (wrong, {"MLFLOW_TRACKING_URI": f"http://ann:{SECRET}/x@host:5000"}):
        process = secretive.start("run", **{**addresses, **address})
        said += process.communicate()[0]
    assert "does not answer" in said
    assert SECRET not in said, [line for line in said.splitlines() if SECRET in line]
    assert find_secret(secretive.root) == sorted(KNOWN)
    assert not find_secret(mlflow_server.folder)
    assert not find_secret(server_root)


def test_a_secret_that_is_written_is_found(tmp_path: Path) -> None:
    run(["git", "init", "--quiet"], tmp_path)
    (tmp_path / "notes").write_text(SECRET * 200)
    git(tmp_path, "add", "--all")
    (tmp_path / "notes").unlink()
    assert find_secret(tmp_path) == ["git's objects"]
    (tmp_path / "page.html").write_text(f"<p>{SECRET}</p>")
    assert find_secret(tmp_path) == ["page.html", "git's objects"]
