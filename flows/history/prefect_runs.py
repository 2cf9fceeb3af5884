"""Runs that have ended long ago, in Prefect: found, and removed with their logs and artifacts."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec

from flows.services import server
from keypipe.addresses import hide_password
from keypipe.errors import PoseError

OWN = "the workspace's own database"
_ENDED = ("CANCELLED", "COMPLETED", "CRASHED", "FAILED")
_PAGE = 200
"""What Prefect's server gives at a time."""
_LOG_SECONDS = 60.0
"""A server deletes logs after it has answered."""

Say = server.Say


class OldRuns(msgspec.Struct, frozen=True):
    """Flow runs that have ended long ago.

    Attributes:
        server: where they are: its address, or ``OWN``.
        ids: of the flow runs.
        size_bytes: of their logs and artifacts; None: another server does not tell.
    """

    server: str = OWN
    ids: tuple[str, ...] = ()
    size_bytes: int | None = 0


def find_old_runs(root: Path, days: float) -> OldRuns:
    """Return the workspace's flow runs that ended more than so many days ago.

    Those that were given this workspace, in its own database too: programs of the user may record there as well.

    Raises:
        PoseError: the user's server does not answer.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    url = server.find_configured_url()
    if url is None:
        return _find_in_database(root, before)
    if not server.answers(url):
        raise PoseError(f"the server at {hide_password(url)} does not answer; start it, or unset PREFECT_API_URL")
    with server.pointed_to(url):
        return OldRuns(hide_password(url), tuple(_find_on_server(root, before)), None)


def _find_in_database(root: Path, before: datetime) -> OldRuns:
    """Ask the database itself: a server takes seconds to start, and tells no sizes."""
    path = root / server.DATABASE
    if not path.exists():
        return OldRuns()
    marks = ", ".join("?" * len(_ENDED))
    given_root = "json_extract(parameters, '$.root') = ?"
    ended = f"SELECT id FROM flow_run WHERE state_type IN ({marks}) AND end_time < ? AND {given_root}"
    given = (*_ENDED, before.strftime("%Y-%m-%d %H:%M:%S"), str(root))
    size = 0
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10)) as database:
            ids = [str(UUID(str(row[0]))) for row in database.execute(ended, given)]
            for column, table in (("message", "log"), ("data", "artifact")):
                sizes = f"SELECT sum(length(CAST({column} AS BLOB))) FROM {table} WHERE flow_run_id IN ({ended})"
                size += database.execute(sizes, given).fetchone()[0] or 0
    except sqlite3.Error as error:
        raise PoseError(f"{path}: cannot be read ({error}); is it of another version?") from error
    return OldRuns(OWN, tuple(ids), size)


def _find_on_server(root: Path, before: datetime) -> Iterator[str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterEndTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType

    ended = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType(name) for name in _ENDED]))
    which = FlowRunFilter(state=ended, end_time=FlowRunFilterEndTime.model_validate({"before_": before}))
    with get_client(sync_client=True) as client:
        offset = 0
        while page := client.read_flow_runs(flow_run_filter=which, limit=_PAGE, offset=offset):
            offset += len(page)
            yield from (str(run.id) for run in page if run.parameters.get("root") == str(root))


def remove_runs(root: Path, old: OldRuns, say: Say) -> None:
    """Remove runs, their task runs, logs and artifacts; the workspace's own database gives the room back.

    Raises:
        PoseError: no server answers, or it went away or refused before all of them were removed.
    """
    if not old.ids:
        return
    with server.connected(root, say):
        import httpx

        try:
            _remove_from_server(old.ids)
        except httpx.HTTPError as error:
            why = str(error).splitlines() or [type(error).__name__]
            raise PoseError(
                f"not all runs were removed ({hide_password(why[0])}); the next `keypipe gc` does it"
            ) from error
    if old.server == OWN and server.recorded_server(root) is None:
        _shrink(root / server.DATABASE)


def _remove_from_server(run_ids: Sequence[str]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for start in range(0, len(run_ids), _PAGE):
            ids = [UUID(one) for one in run_ids[start : start + _PAGE]]
            for artifact in list(_artifacts(client, ids)):
                client.delete_artifact(artifact.id)
            for run_id in ids:
                try:
                    client.delete_flow_run(run_id)
                except ObjectNotFound:  # with the run that it was a part of
                    continue
            _wait_for_logs(client, ids)


def _artifacts(client: Any, ids: Sequence[UUID]) -> Iterator[Any]:
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    which = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=list(ids)))
    offset = 0
    while page := client.read_artifacts(artifact_filter=which, limit=_PAGE, offset=offset):
        offset += len(page)
        yield from page


def _wait_for_logs(client: Any, ids: Sequence[UUID]) -> None:
    """Wait until the server has deleted the logs, which a temporary one would not come to any more."""
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    which = LogFilter(flow_run_id=LogFilterFlowRunId(any_=list(ids)))
    deadline = time.monotonic() + _LOG_SECONDS
    while client.read_logs(log_filter=which, limit=1) and time.monotonic() < deadline:
        time.sleep(0.2)


def _shrink(path: Path) -> None:
    """Give the room of deleted rows back to the disk; a server that has the database open keeps it for new ones."""
    try:
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as database:
            database.execute("VACUUM")
    except sqlite3.Error:
        return
