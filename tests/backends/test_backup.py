"""docs/backends.md: what it says about backups and new versions is followed, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.backends.conftest import prepare
from tests.backends.page import PAGE, Shell, blocks, commands
from tests.flows.recorded import set_epochs
from tests.retrained import make_retrainable
from tests.workspace import environment
from tools.backends.postgres import running_cluster
from tools.backends.stack import DATABASES, Backends, plain_environment
from tools.backends.storage import running_storage


def test_every_block_is_followed_or_says_why_not() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(blocks()) == len(re.findall(r"^```sh$", text, re.MULTILINE))
    source = Path(__file__).read_text(encoding="utf-8")
    for kind, name, _ in blocks():
        assert kind == "skip" or f'commands("{name}")' in source, name


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_workspace_is_restored_from_its_backup(tmp_path: Path) -> None:
    shell = Shell(make_retrainable(tmp_path / "cows", 40), environment())
    shell.run("keypipe run")
    before = describe(shell)
    shell.run(commands("sqlite backup"))
    set_epochs(shell.folder, 3)
    shell.run("keypipe run")
    assert describe(shell) != before
    shell.run(commands("sqlite restore"))
    assert describe(shell) == before
    (model,) = (shell.folder / "mlartifacts").glob("**/models/best.pt")
    assert model.stat().st_size == 200_000
    shell.run(commands("mlflow upgrade"))
    learnt = json.loads((shell.folder / "models/train.json").read_text())["record"]["fingerprint"]
    assert not knows(shell, learnt)
    shell.run("keypipe run --force validate")  # which records the training that the workspace holds
    assert knows(shell, learnt)


def knows(shell: Shell, fingerprint: str) -> bool:
    """Tell whether MLflow has a training of this fingerprint."""
    with closing(sqlite3.connect(shell.folder / "mlflow.db")) as mlflow:
        return bool(mlflow.execute("SELECT 1 FROM tags WHERE value = ?", [fingerprint]).fetchall())


def describe(shell: Shell) -> tuple[Any, ...]:
    """Return the runs that MLflow and Prefect know of a workspace, and the files of artifacts."""
    with closing(sqlite3.connect(shell.folder / "mlflow.db")) as mlflow:
        trainings = mlflow.execute("SELECT run_uuid, status, name FROM runs ORDER BY 1").fetchall()
    with closing(sqlite3.connect(shell.folder / ".keypipe/prefect.db")) as prefect:
        runs = prefect.execute("SELECT id, state_type, name FROM flow_run ORDER BY 1").fetchall()
    files = sorted(path.relative_to(shell.folder) for path in (shell.folder / "mlartifacts").rglob("*"))
    assert trainings
    assert runs
    return trainings, runs, files


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Backends]:
    """Databases and a store of its own; MLflow and Prefect are started where they are needed."""
    prepare()
    with running_cluster() as cluster, running_storage(tmp_path) as storage:
        for name in DATABASES:
            cluster.create(name)
        yield Backends(tmp_path, cluster, storage)


def shell_of(own: Backends) -> Shell:
    """Return a shell of somebody who looks after the databases; no command has the password in it."""
    programs = {"PATH": f"{own.cluster.programs}:{plain_environment()['PATH']}"}
    return Shell(make_folder(own.logs / "administrator"), plain_environment() | own.cluster.environment() | programs)


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def record(own: Backends) -> str:
    """Let MLflow record a run with an artifact, and Prefect one with a state; return MLflow's id of it."""
    from mlflow import MlflowClient
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings

    client = MlflowClient(own.mlflow_url)
    run = client.create_run("0", run_name=f"run-{uuid4().hex[:8]}")
    client.log_metric(run.info.run_id, "loss", 0.5)
    client.log_text(run.info.run_id, "what it learnt", "note.txt")
    client.set_terminated(run.info.run_id)
    with temporary_settings({PREFECT_API_URL: own.prefect_url}):
        flow(note, flow_run_name=str(run.info.run_name))()
    return str(run.info.run_id)


def note() -> None:
    """Do nothing, to be recorded by Prefect."""


def known(own: Backends) -> tuple[dict[str, str], list[str]]:
    """Return what MLflow's runs say in their artifacts, by id, and the names of Prefect's runs."""
    from mlflow import MlflowClient
    from mlflow.artifacts import load_text
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    client = MlflowClient(own.mlflow_url)
    runs = {run.info.run_id: load_text(f"{run.info.artifact_uri}/note.txt") for run in client.search_runs(["0"])}
    with temporary_settings({PREFECT_API_URL: own.prefect_url}), get_client(sync_client=True) as prefect:
        return runs, sorted(run.name for run in prefect.read_flow_runs())


@pytest.mark.backends
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_databases_of_postgresql_are_restored_from_their_dumps(own: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.mlflow_url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    shell = shell_of(own)
    with own.running_mlflow(), own.running_prefect():
        first = record(own)
        before = known(own)
        assert before[0] == {first: "what it learnt"}
        shell.run(commands("postgres backup"))
        record(own)
        assert known(own) != before
    shell.run(commands("postgres restore"))
    with own.running_mlflow(), own.running_prefect():
        assert known(own) == before
        record(own)


@pytest.mark.backends
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_databases_of_older_versions_are_migrated(own: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.mlflow_url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    shell = shell_of(own)
    shell.environment["MLFLOW_DATABASE"] = "postgresql:///mlflow"
    shell.environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = own.cluster.url("prefect", "asyncpg")
    make_old_mlflow(own.cluster.url("mlflow"))
    shell.run(commands("mlflow upgrade"))
    shell.run(commands("prefect upgrade"))
    newest = revision(own, "prefect")
    shell.run("prefect server database downgrade --yes -r -3")
    assert revision(own, "prefect") != newest
    shell.run(commands("prefect upgrade"))
    assert revision(own, "prefect") == newest
    with own.running_mlflow(), own.running_prefect():
        from mlflow import MlflowClient

        assert MlflowClient(own.mlflow_url).get_run(OLD_RUN).data.metrics == {"loss": 0.25}
        record(own)


OLD_RUN = "0" * 32


def make_old_mlflow(url: str, behind: int = 12) -> str:
    """Make the database that an older MLflow left, some migrations behind, with a run; return its revision."""
    import sqlalchemy
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(url)
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(url)
    known = [one.revision for one in ScriptDirectory.from_config(config).walk_revisions()]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, known[behind])
    with engine.begin() as connection:
        for statement in OLD_ROWS:
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()
    return str(known[behind])


OLD_ROWS = (
    "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage)"
    " VALUES (0, 'Default', 'mlflow-artifacts:/0', 'active')",
    "INSERT INTO runs (run_uuid, name, user_id, status, start_time, end_time, source_type, source_name,"
    " entry_point_name, source_version, lifecycle_stage, artifact_uri, experiment_id)"
    f" VALUES ('{OLD_RUN}', 'old', 'anna', 'FINISHED', 1, 2, 'LOCAL', '', '', '', 'active', 'mlflow-artifacts:/0', 0)",
    "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
    f" VALUES ('loss', 0.25, 1, 0, false, '{OLD_RUN}')",
)


def revision(own: Backends, database: str) -> str:
    """Return the version of a database's tables."""
    query = "SELECT version_num FROM alembic_version"
    return own.cluster.run("psql", "--no-psqlrc", "--tuples-only", f"--dbname={database}", f"--command={query}").strip()
