"""A quick look at a registered model, for what is asked often: MLflow's import alone takes seconds.

The workspace's own database is asked directly, and a server whether it knows the model at all; everything else goes by
way of MLflow.
"""

from __future__ import annotations

import base64
import os
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec

from keypipe.errors import PoseError
from tasks.tracking.client import answering, limited, open_client, run_page, tracking_uri
from tasks.tracking.models.registry import HISTORY_EXPERIMENT, HISTORY_OF, Registry, Version
from tasks.workspace.places import DATABASE

_PATIENCE_S = 2.0


class Glance(msgspec.Struct, frozen=True):
    """What a registered model holds.

    Attributes:
        versions: newest first.
        aliases: the version of each.
        history: entries by their keys.
    """

    versions: list[Version]
    aliases: dict[str, str]
    history: dict[str, str]


def glance(registry: Registry) -> Glance:
    """Read a registered model; one that does not exist holds nothing.

    Raises:
        PoseError: the server does not answer.
    """
    nothing = Glance([], {}, {})
    if registry.untouched:
        return nothing
    own = (registry.root / DATABASE).resolve()
    if registry.uri == f"sqlite:///{own}":
        try:
            return _read_database(own, registry.name)
        except sqlite3.Error:  # of another version of MLflow, or being upgraded just now
            pass
    elif not _may_be_on_server(registry.uri, registry.name):
        return nothing
    return Glance(registry.versions(), registry.aliases(), registry.read_history())


def find_run_page(root: Path, run_id: str) -> str:
    """Return the address of a run's page in MLflow; "" where the server does not tell it at once."""
    uri, own = tracking_uri(root), (root / DATABASE).resolve()
    if uri == f"sqlite:///{own}":
        try:
            with closing(sqlite3.connect(f"file:{quote(str(own))}?mode=ro", uri=True, timeout=_PATIENCE_S)) as database:
                found = database.execute("SELECT experiment_id FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
        except sqlite3.Error:
            return ""
        return run_page(root, str(found[0]), run_id) if found else ""
    try:
        with answering(root), limited(int(_PATIENCE_S), 0):
            return run_page(root, open_client(root).get_run(run_id).info.experiment_id, run_id)
    except PoseError:
        return ""


def _read_database(path: Path, name: str) -> Glance:
    """Read the tables of MLflow's registry, and the parameters of the run that keeps the history."""
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_PATIENCE_S)) as database:
        tags: dict[int, dict[str, str]] = {}
        for number, key, value in database.execute(
            "SELECT version, key, value FROM model_version_tags WHERE name = ?", (name,)
        ):
            tags.setdefault(number, {})[key] = value or ""
        versions = [
            Version(str(number), run_id or "", (created or 0) / 1000, status or "", tags.get(number, {}), text or "")
            for number, run_id, created, status, text in database.execute(
                "SELECT version, run_id, creation_time, status, description FROM model_versions"
                " WHERE name = ? AND current_stage != 'Deleted_Internal' ORDER BY version DESC",
                (name,),
            )
        ]
        aliases = database.execute("SELECT alias, version FROM registered_model_aliases WHERE name = ?", (name,))
        run = database.execute(
            "SELECT runs.run_uuid FROM runs JOIN experiments USING (experiment_id) JOIN tags USING (run_uuid)"
            " WHERE experiments.name = ? AND tags.key = ? AND tags.value = ? ORDER BY runs.start_time",
            (HISTORY_EXPERIMENT, HISTORY_OF, name),
        ).fetchone()
        entries = database.execute("SELECT key, value FROM params WHERE run_uuid = ?", run) if run else ()
        return Glance(versions, {alias: str(number) for alias, number in aliases}, dict(entries))


def _may_be_on_server(uri: str, name: str) -> bool:
    """Tell whether an HTTP server knows a registered model; where that does not come out, MLflow is to say why."""
    if not uri.startswith(("http://", "https://")):
        return True
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/registered-models/get?{urlencode({'name': name})}"
    request = urllib.request.Request(address, headers=_credentials())
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code != 404 or b"RESOURCE_DOES_NOT_EXIST" not in error.read(10_000)
    except (OSError, ValueError):
        return True


def _credentials() -> dict[str, str]:
    """Return what MLflow's client sends as well."""
    user, token = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user:
        both = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(both.encode()).decode()}"}
    return {"Authorization": f"Bearer {token}"} if token else {}
