"""What a run shows on its page in Prefect beside its log: artifacts, put there by a thread of their own.

Prefect's own functions wait for the server, for minutes where it is away. Here nothing ever waits for it: what it
cannot be told at once is left out, since the results themselves lie in the workspace.
"""

from __future__ import annotations

import contextvars
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from flows.services.presence import is_cut_off

_TIMEOUT_SECONDS = 5.0
_AGAIN_SECONDS = 30.0
_LAST_SECONDS = 5.0
"""How long the end of a run waits for what is still to be told to a server that answers."""


class Item(msgspec.Struct, frozen=True):
    """An artifact.

    Attributes:
        kind: ``progress``, ``table`` or ``markdown``, as Prefect calls them; or ``forget``.
        key: it goes by; what is shown again by the same key takes the place of what was shown, if it is a progress.
        data: what Prefect shows: a share from 0 to 100, rows, or Markdown; or days.
        text: said above it, in Markdown.
        flow_run: whose page shows it.
        task_run: the task that it is of; None: the flow's own.
    """

    kind: str
    key: str
    data: Any
    text: str
    flow_run: UUID
    task_run: UUID | None = None


class Board:
    """The artifacts of a run; without a run, as in a test of a stage, nothing is shown."""

    def __init__(self) -> None:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        flow_run = context.flow_run if context and not is_cut_off() else None
        self._flow_run = flow_run.id if flow_run else None
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._known: dict[str, UUID] = {}
        self._failed = -_AGAIN_SECONDS
        self._thread: threading.Thread | None = None

    def show_progress(self, key: str, share: float, text: str) -> None:
        """Show how much of something is done, from 0 to 1; shown again by the same key it moves."""
        self._put("progress", key, round(100 * min(max(share, 0.0), 1.0), 1), text)

    def show_table(self, key: str, rows: Sequence[Mapping[str, Any]], text: str) -> None:
        """Show a table of rows by column."""
        self._put("table", key, msgspec.json.encode([dict(row) for row in rows]).decode(), text)

    def show_markdown(self, key: str, text: str, description: str = "") -> None:
        """Show Markdown, whose images may be data."""
        self._put("markdown", key, text, description)

    def forget(self, key: str, older_days: float) -> None:
        """Have what was shown by a key so many days ago, or earlier, be deleted there."""
        self._put("forget", key, older_days, "")

    def show_link(self, key: str, address: str, title: str, text: str) -> None:
        """Show a link."""
        self._put("markdown", key, f"[{title}]({address})", text)

    def _put(self, kind: str, key: str, data: Any, text: str) -> None:
        if self._flow_run is None:
            return
        from prefect.context import TaskRunContext

        task = TaskRunContext.get()
        if self._thread is None:
            context = contextvars.copy_context()  # which says what server it is
            self._thread = threading.Thread(target=context.run, args=(self._work,), name="keypipe-board", daemon=True)
            self._thread.start()
        self._queue.put(Item(kind, to_key(key), data, text, self._flow_run, task.task_run.id if task else None))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if time.monotonic() - self._failed < _AGAIN_SECONDS:
                continue
            try:
                self._send(item)
            except Exception:  # noqa: BLE001 - whatever keeps Prefect from showing it, the run has its results
                self._failed = time.monotonic()

    def _send(self, item: Item) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": _TIMEOUT_SECONDS}, sync_client=True) as client,
        ):
            if item.kind == "forget":
                _delete(client, item.key, item.data)
                return
            known = self._known.get(item.key) if item.kind == "progress" else None
            if known is not None:
                client.update_artifact(known, ArtifactUpdate(data=item.data, description=item.text))
                return
            made = client.create_artifact(
                ArtifactCreate(
                    key=item.key,
                    type=item.kind,
                    description=item.text,
                    data=item.data,
                    flow_run_id=item.flow_run,
                    task_run_id=item.task_run,
                )
            )
            self._known[item.key] = made.id

    def give_up(self) -> None:
        """Wait for nothing any more: the server is known not to answer."""
        self._failed = time.monotonic()

    def close(self) -> None:
        """Have a server that answers know all of it; one that does not is not waited for."""
        if self._thread is None:
            return
        self._queue.put(None)
        if time.monotonic() - self._failed >= _AGAIN_SECONDS:
            self._thread.join(_LAST_SECONDS)
        self._thread = None


def _delete(client: Any, key: str, older_days: float) -> None:
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    which, order = ArtifactFilter(key=ArtifactFilterKey(any_=[key])), ArtifactSort.CREATED_DESC
    limit = datetime.now(UTC) - timedelta(days=older_days)
    for artifact in client.read_artifacts(artifact_filter=which, sort=order, limit=200):
        if artifact.created < limit:
            client.delete_artifact(artifact.id)


@contextmanager
def opened() -> Iterator[Board]:
    """Open the board of the run that this is called in, and close it after the block."""
    board = Board()
    try:
        yield board
    finally:
        board.close()


def to_key(text: str) -> str:
    """Return a text as a key of Prefect's: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "keypipe"
