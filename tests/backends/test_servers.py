"""What is started ends, nothing shows the databases' password, and a workspace may record to PostgreSQL by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from flows.services.mlflow_server import LOG, running_server
from flows.services.server import free_port
from tests.backends.conftest import PASSWORD
from tests.backends.page import Shell
from tests.flows.test_secrets import SECRET, find_secret
from tests.patience import PATIENCE
from tests.retrained import make_retrainable
from tools.backends.postgres import INSTALL, find_programs, running_cluster
from tools.backends.stack import Backends, plain_environment

needs_postgres = pytest.mark.skipif(find_programs() is None, reason=f"needs PostgreSQL's server: {INSTALL}")


def find_in_commands(*texts: str) -> list[str]:
    """Return the command lines of this machine that have one of these texts."""
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return [line for line in lines if any(text in line for text in texts)]


@needs_postgres
def test_a_cluster_of_its_own_takes_its_password_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")  # of another one
    with running_cluster(PASSWORD) as cluster:
        cluster.create("herd")
        server = find_in_commands(f"-p {cluster.port} ")[0]
        folder = Path(server.partition("-D ")[2].split()[0]).parent
        assert folder.exists()
        assert "herd" in cluster.run("psql", "--list")
        assert not find_in_commands(PASSWORD, quote(PASSWORD, safe=""))
        with pytest.raises(Exception, match="password authentication failed"):
            _with_wrong_password(cluster.port)
    assert not find_in_commands(f"-p {cluster.port} ")
    assert not folder.exists()


def _with_wrong_password(port: int) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    psycopg2.connect(host="127.0.0.1", port=port, user="keypipe", password="wrong", dbname="herd").close()


def test_a_password_in_a_command_is_found() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", SECRET]) as process:
        assert len(find_in_commands(SECRET)) == 1
        process.kill()


@pytest.mark.backends
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_servers_show_no_password(backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (PASSWORD, quote(PASSWORD, safe=""))
    root = make_retrainable(tmp_path / "cows", 40)
    (root / ".keypipe").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", backends.cluster.url("mlflow"))
    with running_server(root, free_port()) as (tree, _):  # as `keypipe up` and `keypipe ui` start it
        assert tree.running
        assert not find_in_commands(*shown)
    assert not any(text in (root / LOG).read_text() for text in shown)
    for log in backends.logs.glob("*.log"):
        assert not any(text in log.read_text() for text in shown), log


@pytest.mark.backends
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_workspace_records_to_postgresql_without_a_server(tmp_path: Path) -> None:
    with running_cluster(SECRET) as cluster:
        cluster.create("mlflow")
        settings = plain_environment() | {"MLFLOW_TRACKING_URI": cluster.url("mlflow")}
        shell = Shell(make_retrainable(tmp_path / "cows", 40), settings)
        said = shell.run("keypipe run && keypipe status && keypipe register && keypipe promote 1 --why first")
        said += shell.run("keypipe models --history && keypipe gc && git status --porcelain")
        assert "mlruns" not in said
        assert list((shell.folder / "mlartifacts").glob("**/models/best.pt"))
        assert SECRET not in said
        assert not find_secret(shell.folder)
        assert SECRET in cluster.url("mlflow")  # the secret did its work


@pytest.mark.backends
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_make_backends_starts_everything_and_ends_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    command = [sys.executable, "-m", "tools.backends", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line, said
            said.append(line)
        settings = folder / "environment.sh"
        assert settings.stat().st_mode & 0o077 == 0
        shell = Shell(make_folder(tmp_path / "client"), plain_environment())
        pool = shell.run(f". {settings}; prefect work-pool inspect keypipe; prefect --version")
        assert "process" in pool
        assert f"-m mlflow server --host 127.0.0.1 --port {said[1].rpartition(':')[2].strip()}" in " ".join(
            find_in_commands("mlflow server")
        )
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (again.returncode, "they run already" in again.stderr) == (1, True)
        ours = [one.pid for one in psutil.Process(process.pid).children(recursive=True)]
        assert len(ours) >= 10
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    assert not [pid for pid in ours if psutil.pid_exists(pid)]
    assert not settings.exists()


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path
