"""compose.yaml's own commands, settings, health checks and SQL, run without Docker: all on 127.0.0.1, other ports."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.services.server import free_port, running_tree
from tests.backends.conftest import prepare
from tests.imports import ROOT
from tests.patience import PATIENCE
from tools.backends.postgres import Cluster, running_cluster
from tools.backends.stack import plain_environment

pytestmark = [pytest.mark.backends, pytest.mark.slow, pytest.mark.timeout(3600)]
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
PORTS = {"s3": "5000", "mlflow": "5000", "prefect": "4200"}


class Project:
    """Services of compose.yaml as processes.

    Attributes:
        compose: the file.
        ports: where each listens here.
    """

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
        self.ports = {name: str(free_port()) for name in PORTS}
        self._given = {"POSTGRES_PASSWORD": cluster.password, "WORKSPACE_1": str(folder), "WORKSPACE_2": str(folder)}

    def settings(self, service: str) -> dict[str, str]:
        """Return the environment of a service, with names of hosts turned to this machine's addresses."""
        given = self.compose["services"][service].get("environment", {})
        return plain_environment() | {name: self._here(self._filled(str(value))) for name, value in given.items()}

    def command(self, service: str) -> list[str]:
        """Return what it runs, on this interpreter, at its port here."""
        words = self.compose["services"][service]["command"]
        words = shlex.split(words) if isinstance(words, str) else list(words)
        words = [sys.executable, "-P", *words[1:]] if words[0] == "python" else [sys.executable, "-P", "-m", *words]
        words = ["127.0.0.1" if word == "0.0.0.0" else word for word in words]
        return [self.ports[service] if word == PORTS.get(service) else word for word in words]

    def is_healthy(self, service: str) -> bool:
        """Do as the service's health check does."""
        check = shlex.split(self.compose["services"][service]["healthcheck"]["test"])
        assert check[:2] == ["python", "-c"]
        code = check[2].replace(f":{PORTS[service]}/", f":{self.ports[service]}/")
        return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0

    @contextmanager
    def running(self, service: str, *, checked: bool = True) -> Iterator[Path]:
        """Run a service while the block runs, from when it is healthy; yields what it prints."""
        log = Path(f"{service}.log")
        with running_tree(self.folder, self.command(service), self.settings(service), log) as tree:
            deadline = time.monotonic() + 3 * PATIENCE
            while checked and not self.is_healthy(service):
                said = (self.folder / log).read_text()
                assert tree.running, said
                assert time.monotonic() < deadline, said
                time.sleep(1)
            yield self.folder / log

    def _filled(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            name, kind, other = match.groups()
            return self._given.get(name) or (other if kind == "-" else "")

        return VARIABLE.sub(value, text)

    def _here(self, text: str) -> str:
        text = text.replace("@postgres/", f"@127.0.0.1:{self.cluster.port}/")
        for name, port in PORTS.items():
            text = text.replace(f"//{name}:{port}", f"//127.0.0.1:{self.ports[name]}")
        return text


def test_its_commands_serve_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    with running_cluster() as cluster, ExitStack() as stack:
        project = Project(tmp_path, cluster)
        script = tmp_path / "databases.sql"
        script.write_text(project.compose["configs"]["databases"]["content"])
        cluster.run("psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--dbname=postgres", f"--file={script}")
        program, *arguments = shlex.split(project.compose["services"]["postgres"]["healthcheck"]["test"])
        assert "accepting connections" in cluster.run(program, *arguments)
        stack.enter_context(project.running("s3"))
        for _ in range(2):  # as after a restart
            subprocess.run(project.command("buckets"), env=project.settings("buckets"), check=True)
        stack.enter_context(project.running("mlflow"))
        stack.enter_context(project.running("prefect"))
        for name in ("mlflow", "prefect"):
            tables = cluster.run("psql", "--no-psqlrc", f"--dbname={name}", "--command=\\dt")
            assert "alembic_version" in tables

        from mlflow import MlflowClient

        url = f"http://127.0.0.1:{project.ports['mlflow']}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        client = MlflowClient(url)
        run = client.create_run("0").info.run_id
        client.log_text(run, "kept", "note.txt")
        assert [file.path for file in client.list_artifacts(run)] == ["note.txt"]
        assert status_of(f"{url}/api/2.0/mlflow/runs/get?run_id={run}", host="mlflow:5000") == 200
        assert status_of(f"{url}/api/2.0/mlflow/runs/get?run_id={run}", host="elsewhere.example") == 403

        template = ROOT / "deploy/kubernetes/job-template.json"  # which Prefect's server looks through
        pool = ["work-pool", "create", "kubernetes", "--type", "kubernetes", "--base-job-template", str(template)]
        command = [sys.executable, "-P", "-m", "prefect", "--no-prompt", *pool]
        subprocess.run(command, env=project.settings("worker-1"), check=True)
        log = stack.enter_context(project.running("worker-1", checked=False))
        deadline = time.monotonic() + PATIENCE
        while "started!" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(1)


def status_of(url: str, host: str) -> int:
    """Return the code of an answer to somebody who calls the server by another name."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host})) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
