"""The runs that the tracking server knows: listed, tagged, ended and removed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import PoseError
from tasks.tracking.client import (
    all_pages,
    answering,
    experiment_id,
    first_line,
    is_untouched,
    open_client,
    tracking_uri,
)
from tasks.tracking.machine import process_is_dead
from tasks.tracking.note import describe
from tasks.tracking.sending.delivery import PACKAGES_FILE, deliver_all
from tasks.tracking.tags import EXPORT, LEASE, PROCESS, REASON


class TrackedRun(msgspec.Struct, frozen=True):
    """A run as the tracking server knows it.

    Attributes:
        id: its id.
        name: such as ``train 1a2b3c4d``.
        status: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
        started: seconds since the epoch.
        tags: all of them.
        params: the parameters, flat.
    """

    id: str
    name: str
    status: str
    started: float
    tags: Mapping[str, str]
    params: Mapping[str, str]


def list_runs(root: Path) -> list[TrackedRun]:
    """Return every run of the experiment, trainings and their children, newest first."""
    if is_untouched(root):
        return []
    end_dead_runs(root)
    client = open_client(root)
    experiment = experiment_id(client, root)
    with answering(root):
        runs = all_pages(
            lambda token: client.search_runs([experiment], order_by=["attributes.start_time DESC"], page_token=token)
        )
    return [
        TrackedRun(
            run.info.run_id,
            run.info.run_name or "",
            run.info.status,
            (run.info.start_time or 0) / 1000,
            run.data.tags,
            run.data.params,
        )
        for run in runs
    ]


def registered_models(root: Path) -> dict[str, list[str]]:
    """Return the registered model versions that came of each run, such as ``{run_id: ["cow v3"]}``."""
    if is_untouched(root):
        return {}
    client = open_client(root)
    found: dict[str, list[str]] = {}
    with answering(root):
        for version_ in all_pages(lambda token: client.search_model_versions(page_token=token)):
            run_id = version_.run_id
            if not run_id and version_.model_id:
                run_id = client.get_logged_model(version_.model_id).source_run_id
            if run_id:
                found.setdefault(run_id, []).append(f"{version_.name} v{version_.version}")
    return found


def read_packages(root: Path, run_id: str) -> dict[str, str]:
    """Return the versions of the packages that a training was made with; nothing where its artifact is gone."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        try:
            path = open_client(root).download_artifacts(run_id, PACKAGES_FILE, folder)
        except (MlflowException, OSError):
            return {}
        return msgspec.json.decode(Path(path).read_bytes(), type=dict[str, str])


def fetch_artifact(root: Path, run_id: str, path: str, folder: Path) -> Path | None:
    """Copy an artifact of a run into a folder; None where the run has no such artifact, or is gone."""
    from mlflow.exceptions import MlflowException

    try:
        return Path(open_client(root).download_artifacts(run_id, path, str(folder)))
    except (MlflowException, OSError):
        return None


def tag_run(root: Path, run_id: str, tags: Mapping[str, str | None]) -> None:
    """Set tags of a run; None takes one away."""
    client = open_client(root)
    with answering(root):
        for key, value in tags.items():
            if value is not None:
                client.set_tag(run_id, key, value)
            elif key in client.get_run(run_id).data.tags:
                client.delete_tag(run_id, key)


def try_tag_run(root: Path, run_id: str, tags: Mapping[str, str | None]) -> str:
    """Set tags of a run where that can be done; returns why it could not, else "", for what must not fail by it."""
    try:
        tag_run(root, run_id, tags)
    except PoseError as error:
        return first_line(error)
    return ""


def try_show(root: Path, run_id: str, tags: Mapping[str, str | None]) -> str:
    """Do the same, and have the run's description say it."""
    try:
        tag_run(root, run_id, tags)
        with answering(root):
            describe(open_client(root), run_id)
    except PoseError as error:
        return first_line(error)
    return ""


def artifact_bytes(root: Path, run_id: str) -> int:
    """Return the size of a run's artifacts and of the models that it logged, in bytes."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client = open_client(root)
    places = [client.get_run(run_id).info.artifact_uri, *(m.artifact_location for m in _logged_models(client, run_id))]
    return sum(_artifact_bytes(get_artifact_repository(place)) for place in places)


def _artifact_bytes(repository: Any, path: str | None = None) -> int:
    return sum(
        _artifact_bytes(repository, file.path) if file.is_dir else int(file.file_size or 0)
        for file in repository.list_artifacts(path)
    )


def _logged_models(client: Any, run_id: str) -> list[Any]:
    """Return the models that go with a run: those that it exported, and those that it logged itself."""
    experiment = client.get_run(run_id).info.experiment_id

    def search(which: str) -> list[Any]:
        return all_pages(lambda token: client.search_logged_models([experiment], filter_string=which, page_token=token))

    own = [model for model in search(f"source_run_id = '{run_id}'") if EXPORT not in model.tags]
    return [*search(f"tags.`{EXPORT}` = '{run_id}'"), *own]


def remove_run(root: Path, run_id: str) -> bool:
    """Remove a run with its artifacts and the models that it logged.

    Does for one run what ``mlflow gc`` does; that command would also purge every experiment and model that the user
    has deleted and may want to restore.

    Returns:
        False where the server does not let go of the run's record for good: it is marked as deleted there, and its
        administrator's ``mlflow gc`` removes it.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracking._tracking_service.utils import _get_store

    client = open_client(root)
    store = _get_store(tracking_uri(root))
    purges = hasattr(store, "_hard_delete_run") and hasattr(store, "_hard_delete_logged_model")
    for model in _logged_models(client, run_id):
        get_artifact_repository(model.artifact_location).delete_artifacts()
        client.delete_logged_model(model.model_id)
        if purges:
            store._hard_delete_logged_model(model.model_id)
    get_artifact_repository(client.get_run(run_id).info.artifact_uri).delete_artifacts()
    client.delete_run(run_id)
    if purges:
        store._hard_delete_run(run_id)
    return purges


def end_dead_runs(root: Path, lease: str | None = None) -> None:
    """End the runs that processes left RUNNING when they died.

    Those of this workspace are known here. Runs of earlier versions are found by their tags: on a server of several
    machines by the lease alone, since the names of two machines may be the same.

    Args:
        root: the workspace.
        lease: mark of a keypipe run all of whose processes are gone.
    """
    deliver_all(root)
    if is_untouched(root) or not (lease or tracking_uri(root).startswith("sqlite")):
        return
    client = open_client(root)
    for run in client.search_runs([experiment_id(client, root)], filter_string="attributes.status = 'RUNNING'"):
        tags = run.data.tags
        if tags.get(LEASE) == lease if lease else process_is_dead(tags.get(PROCESS, "")):
            client.set_tag(run.info.run_id, REASON, "its process is gone")
            client.set_terminated(run.info.run_id, "KILLED")
