"""Records, the registry and models that are served, with MLflow on PostgreSQL and artifacts on an S3 API.

The tests are those of other folders; here their server is another one. Artifacts go through it, so that clients have no
keys of S3, or straight from the client to S3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.tracking import history, outbox, runs
from tasks.workspace.places import MODELS
from tests.backends.conftest import prepare
from tests.keypipe.serving.conftest import versions
from tests.keypipe.serving.following.test_follower import test_it_serves_the_champion_and_follows_it
from tests.mlflow_server import MlflowServer
from tests.tasks.registry.conftest import _own_tracking, on_server, registry
from tests.tasks.registry.moves.test_aliases import (
    test_a_move_whose_process_was_killed_is_finished_or_dropped,
    test_many_at_once_lose_no_entry,
    test_of_two_at_once_one_wins_and_the_other_is_told,
)
from tests.tasks.tracking.sending.test_delivery import (
    begin,
    of,
    server,
    test_a_training_and_what_comes_after_it_are_told_once_when_the_server_is_back,
    test_what_was_sent_and_not_acknowledged_is_not_there_twice,
    write_models,
)
from tools.backends.postgres import Cluster, made_cluster
from tools.backends.storage import Storage, running_storage

__all__ = [
    "_own_tracking",
    "on_server",
    "registry",
    "server",
    "test_a_move_whose_process_was_killed_is_finished_or_dropped",
    "test_a_training_and_what_comes_after_it_are_told_once_when_the_server_is_back",
    "test_it_serves_the_champion_and_follows_it",
    "test_many_at_once_lose_no_entry",
    "test_of_two_at_once_one_wins_and_the_other_is_told",
    "test_what_was_sent_and_not_acknowledged_is_not_there_twice",
    "versions",
]
pytestmark = [pytest.mark.backends, pytest.mark.slow, pytest.mark.timeout(3600)]


def make_server(folder: Path, cluster: Cluster, storage: Storage, **settings: str) -> MlflowServer:
    """Return MLflow's server on a database ``mlflow``, which knows the keys of S3."""
    return MlflowServer(
        folder,
        MLFLOW_BACKEND_STORE_URI=cluster.url("mlflow"),
        MLFLOW_ARTIFACTS_DESTINATION="s3://artifacts/through",
        **storage.environment(),
        **settings,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Storage]]:
    prepare()
    with made_cluster() as cluster, cluster.running(), running_storage(tmp_path_factory.mktemp("s3")) as storage:
        cluster.create("mlflow")
        yield cluster, storage


@pytest.fixture(scope="module", params=["through the server", "straight to S3"])
def server_once(
    request: pytest.FixtureRequest, store: tuple[Cluster, Storage], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    straight = request.param == "straight to S3"
    settings = {"MLFLOW_SERVE_ARTIFACTS": "false", "MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://artifacts/straight"}
    started = make_server(tmp_path_factory.mktemp("mlflow"), *store, **(settings if straight else {}))
    started.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in store[1].environment().items() if straight else ():
            patch.setenv(name, value)
        yield started
    started.stop()
    place = "straight/" if straight else "through/"
    assert [key for key in store[1].keys("artifacts") if key.startswith(place)]


@pytest.fixture
def mlflow_server(server_once: MlflowServer) -> MlflowServer:
    return server_once


@pytest.fixture(scope="module")
def registry_server(store: tuple[Cluster, Storage], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    started = make_server(tmp_path_factory.mktemp("registry"), *store)
    started.start()
    yield started.url
    started.stop()


def test_large_files_go_straight_to_s3_by_signed_addresses(
    registry_server: str, store: tuple[Cluster, Storage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    part = 5 * 1024**2
    for name in ("PROXY_MULTIPART_UPLOAD", "PROXY_MULTIPART_DOWNLOAD"):
        monkeypatch.setenv(f"MLFLOW_ENABLE_{name}", "true")
    for name in ("UPLOAD_MINIMUM_FILE_SIZE", "UPLOAD_CHUNK_SIZE", "DOWNLOAD_MINIMUM_FILE_SIZE", "DOWNLOAD_CHUNK_SIZE"):
        monkeypatch.setenv(f"MLFLOW_MULTIPART_{name}", str(part))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_server)
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(2 * part + 1000))
    client = MlflowClient(registry_server)
    run = client.create_run("0").info.run_id
    client.log_artifact(run, str(large))
    (tmp_path / "down").mkdir()
    got = client.download_artifacts(run, "large.bin", str(tmp_path / "down"))
    assert Path(got).read_bytes() == large.read_bytes()
    signed = [line for line in (store[1].folder / "s3.log").read_text().splitlines() if "X-Amz-Signature" in line]
    assert sum('"PUT ' in line for line in signed) == 3, signed
    assert sum('"GET ' in line for line in signed) >= 1, signed


def test_a_training_is_told_once_when_the_database_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare()
    root, folder = tmp_path / "cows", tmp_path / "mlflow"
    root.mkdir()
    folder.mkdir()
    with made_cluster() as cluster, running_storage(folder) as storage:
        started = make_server(folder, cluster, storage)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", started.url)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", root.name)
        try:
            with cluster.running():
                cluster.create("mlflow")
                started.start()
                live = begin(root)
                run_id = live.run_id
                live.log_metrics({"train/pose_loss": 3.0}, 1)
            with runs.ending(live):
                live.log_metrics({"train/pose_loss": 2.0}, 2)
                write_models(root, run_id)
                live.relax()
                live.log_files(root / MODELS, "models")
            assert sum(outbox.count_waiting(root).values()) == 1
            with cluster.running():
                assert [run.id for run in history.list_runs(root)] == [run_id]
                (training,) = of(started, root)
                assert training.info.status == "FINISHED"
                points = started.client().get_metric_history(run_id, "train/pose_loss")
                assert [point.step for point in points] == [1, 2]
                assert cluster.password not in (folder / "server.log").read_text()
        finally:
            started.stop()
