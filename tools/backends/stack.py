"""All of it together: what is started in which order, and by what programs find it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.services.server import free_port, running_tree, wait_for_page
from flows.system.process import UNTRACKED
from keypipe.errors import PoseError
from tools.backends.postgres import Cluster, running_cluster
from tools.backends.storage import Storage, running_storage

POOL = "keypipe"
"""The work pool that prefect.yaml names."""
DATABASES = ("mlflow", "prefect")


class Backends:
    """What runs.

    Attributes:
        cluster: PostgreSQL, with the databases ``mlflow`` and ``prefect``.
        storage: the S3 API.
        mlflow_url: of MLflow's server.
        prefect_url: of Prefect's API.
        logs: the folder with what all of them print.
    """

    def __init__(self, logs: Path, cluster: Cluster, storage: Storage) -> None:
        self.logs, self.cluster, self.storage = logs, cluster, storage
        self.mlflow_url = f"http://127.0.0.1:{free_port()}"
        self.prefect_url = f"http://127.0.0.1:{free_port()}/api"

    def environment(self) -> dict[str, str]:
        """Return what a workspace needs to work on these servers; no password of a database is among it."""
        return {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "PREFECT_API_URL": self.prefect_url,
            **self.storage.environment(),
        }

    @contextmanager
    def running_mlflow(self) -> Iterator[None]:
        """Run MLflow's server, which takes clients' artifacts to the S3 API."""
        port = self.mlflow_url.rpartition(":")[2]
        # The address of the database goes by the environment: a command line is everybody's to read.
        environment = plain_environment() | {
            "MLFLOW_BACKEND_STORE_URI": self.cluster.url("mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **self.storage.environment(),
        }
        command = [*python("mlflow", "server"), "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        log = Path("mlflow.log")
        with running_tree(self.logs, command, environment, log) as tree:
            wait_for_page(self.logs / log, tree, f"{self.mlflow_url}/health")
            yield

    @contextmanager
    def running_prefect(self) -> Iterator[None]:
        """Run Prefect's server."""
        url = self.prefect_url.removesuffix("/api")
        environment = plain_environment() | {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.cluster.url("prefect", "asyncpg"),
            "PREFECT_HOME": str(self.logs / "prefect"),
            "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        }
        command = [*python("prefect", "server", "start"), "--host", "127.0.0.1", "--port", url.rpartition(":")[2]]
        log = Path("prefect.log")
        with running_tree(self.logs, command, environment, log) as tree:
            wait_for_page(self.logs / log, tree, f"{self.prefect_url}/health")
            yield

    @contextmanager
    def running_worker(self, name: str, workspace: Path) -> Iterator[Path]:
        """Run a worker of the pool, one run at a time, that works in a workspace; yields its log."""
        environment = self.client_environment(workspace) | {"KEYPIPE_WORKSPACE": str(workspace)}
        command = python("prefect", "worker", "start", "--pool", POOL, "--name", name, "--limit", "1")
        log = Path(f"worker-{name}.log")
        with running_tree(self.logs, command, environment, log):
            yield self.logs / log

    def client_environment(self, workspace: Path) -> dict[str, str]:
        """Return the whole environment of a program that works in a workspace."""
        own = {"PREFECT_HOME": str(self.logs / "prefect"), "PYTHONPATH": str(workspace)}
        return plain_environment() | self.environment() | own

    def prefect(self, workspace: Path, *arguments: str) -> str:
        """Run a command of Prefect's own in a workspace and return what it prints."""
        command = python("prefect", "--no-prompt", *arguments)
        env = self.client_environment(workspace)
        done = subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PoseError(f"prefect {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout


def python(module: str, *arguments: str) -> list[str]:
    """Return a command that runs a module of this interpreter's environment."""
    return [sys.executable, "-P", "-m", module, *arguments]


def plain_environment() -> dict[str, str]:
    """Return an environment in which no other server is named."""
    others = ("MLFLOW_", "PREFECT_", "AWS_", "PG", "KEYPIPE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)} | UNTRACKED


@contextmanager
def running_servers(logs: Path, password: str = "") -> Iterator[Backends]:
    """Run PostgreSQL, the S3 API, MLflow and Prefect while the block runs, and have an empty work pool.

    Args:
        logs: a folder for what they print.
        password: of the databases' user; default: a fresh one.

    Raises:
        PoseError: something is not installed, or does not come up.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(password))
        for name in DATABASES:
            cluster.create(name)
        backends = Backends(logs, cluster, stack.enter_context(running_storage(logs)))
        stack.enter_context(backends.running_mlflow())
        stack.enter_context(backends.running_prefect())
        backends.prefect(logs, "work-pool", "create", POOL, "--type", "process")
        yield backends


@contextmanager
def running_workers(backends: Backends, workspaces: Sequence[Path]) -> Iterator[None]:
    """Run a worker for each workspace while the block runs."""
    with ExitStack() as stack:
        for number, workspace in enumerate(workspaces, start=1):
            stack.enter_context(backends.running_worker(f"worker-{number}", workspace))
        yield
