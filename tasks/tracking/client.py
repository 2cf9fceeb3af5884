"""The tracking server that a workspace records to."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from keypipe.errors import ConfigError, PoseError
from tasks.workspace.places import ARTIFACTS, DATABASE

EXPERIMENT = "keypipe"


def tracking_uri(root: Path) -> str:
    """Return the tracking server: ``MLFLOW_TRACKING_URI``, else SQLite in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / DATABASE).resolve()}"


def open_client(root: Path) -> Any:
    """Return MLflow's client for the workspace's server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A fresh SQLite file is filled by hundreds of migrations, each of them announced.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import mlflow

    uri = tracking_uri(root)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI") or uri)
    return mlflow.MlflowClient(tracking_uri=uri)


def experiment_id(client: Any, root: Path) -> str:
    """Return the id of the workspace's experiment, which is made where the server has none.

    Raises:
        ConfigError: it is deleted.
        PoseError: the server does not answer.
    """
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    try:
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise ConfigError(
                    f"the MLflow experiment {name!r} is deleted; restore it, or set MLFLOW_EXPERIMENT_NAME"
                )
            return str(found.experiment_id)
        local = urlparse(tracking_uri(root)).scheme == "sqlite"
        location = (root / ARTIFACTS).resolve().as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        raise PoseError(
            f"the MLflow server {tracking_uri(root)} does not answer ({str(error).splitlines()[0]});"
            " start it, correct MLFLOW_TRACKING_URI, or unset it to record in the workspace"
        ) from error


def is_untouched(root: Path) -> bool:
    """Tell whether the workspace's own database does not exist yet; asking MLflow would make one."""
    return tracking_uri(root).startswith("sqlite") and not (root / DATABASE).exists()


def all_pages(ask: Callable[[str | None], Any]) -> list[Any]:
    """Return everything that a search finds; ``ask`` gets the token of a page, None for the first."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = ask(token)
        found += page
        token = page.token
        if not token:
            return found
