"""Whether Prefect's server still answers a run, and a run's way to its end where it does not.

Prefect's own client tries for minutes, and a run would stand still meanwhile. So a thread beside the run asks the
server, and a run whose server is away ends without it.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flows.system.state_files import read_record, write_record
from tasks.workspace.places import STATE

UNSETTLED = STATE / "unsettled"
POLL_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0
_LAST_TRIES = 3
_LAST_WAIT_SECONDS = 2.0
_NOISY = ("prefect.events", "prefect.events.clients", "prefect._internal", "prefect._internal.concurrency")
"""Loggers that tell, again and again, that they cannot reach the server."""

_cut: list[bool] = []

log = logging.getLogger("prefect.keypipe")


class Presence:
    """What a thread beside a run knows of its server.

    Attributes:
        cancelled: the run was cancelled in Prefect, which itself tells only runs that a runner has started.
        gaps: from when to when the server did not answer; the last has no end as long as it does not.
    """

    def __init__(self, flow_run_id: Any, url: str) -> None:
        self.cancelled = False
        self.gaps: list[tuple[datetime, datetime | None]] = []
        self._flow_run_id = flow_run_id
        self._url = url
        self._over = threading.Event()

    @property
    def away(self) -> bool:
        """Whether the server did not answer the last time."""
        return bool(self.gaps) and self.gaps[-1][1] is None

    def watch(self) -> None:
        """Ask the server now and then, until the run is over."""
        while not self._over.wait(POLL_SECONDS):
            self.ask()

    def ask(self) -> bool:
        """Ask the server once; returns whether it answered."""
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        now = datetime.now().astimezone()
        try:
            with (
                temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
                get_client(httpx_settings={"timeout": _TIMEOUT_SECONDS}, sync_client=True) as client,
            ):
                state = client.read_flow_run(self._flow_run_id).state
        except ObjectNotFound:  # it answers
            state = None
        except Exception:  # noqa: BLE001 - whatever keeps it from answering, a run goes on
            if not self.away:
                self.gaps.append((now, None))
                log.warning("Prefect's server does not answer; the run goes on without it")
                _silence(_NOISY)
            return False
        self.cancelled = state is not None and (state.is_cancelling() or state.is_cancelled())
        if self.away:
            self.gaps[-1] = (self.gaps[-1][0], now)
            _silence(())
            log.warning("Prefect's server answers again")
        return True

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def leave(self) -> bool:
        """Let go of a server that does not answer at the end of a run: nothing more is sent to it, or waited for.

        Returns:
            False where it answers; it is told of the end as always.
        """
        self.stop()
        for _ in range(1 if self.away else _LAST_TRIES):
            if self.ask():
                return False
            threading.Event().wait(_LAST_WAIT_SECONDS)
        _cut_off()
        return True

    def describe(self) -> list[str]:
        """Return what the server was not told, one line for each time that it was away."""
        lines: list[str] = []
        for began, ended in self.gaps:
            if ended is None:
                lines.append(
                    f"Prefect ({self._url}) does not answer since {began:%H:%M:%S}: it does not know how this run went"
                    " on from there; a later run tells it the end"
                )
            else:
                lines.append(
                    f"Prefect ({self._url}) did not answer from {began:%H:%M:%S} to {ended:%H:%M:%S}: lines of the log"
                    " and states of stages from then may be missing there"
                )
        return lines


class Unsettled(msgspec.Struct):
    """A run whose end its server was not told.

    Attributes:
        flow_run_id: Prefect's id of it.
        state: how it ended, a type of Prefect's such as ``COMPLETED``.
        message: what went wrong.
    """

    flow_run_id: str
    state: str
    message: str


def note_end(root: Path, run: Unsettled) -> None:
    """Write down how a run ended whose server is away, for a later run to tell."""
    write_record(root / UNSETTLED / f"{run.flow_run_id}.json", run)


def tell_ends(root: Path) -> None:
    """Tell the server how runs ended that it knows and was away for."""
    from flows.services.server import end_flow_run

    for path in sorted((root / UNSETTLED).glob("*.json")):
        run = read_record(path, Unsettled)
        if run is None or end_flow_run(run.flow_run_id, run.state, run.message or "told afterwards, by a later run"):
            path.unlink()


@contextmanager
def watched(flow_run_id: Any, url: str) -> Iterator[Presence]:
    """Watch the server of a run while the block runs."""
    presence = Presence(flow_run_id, url)
    context = contextvars.copy_context()  # which says what server it is
    thread = threading.Thread(target=context.run, args=(presence.watch,), name="keypipe-presence", daemon=True)
    if flow_run_id is not None:
        thread.start()
    try:
        yield presence
    finally:
        presence.stop()


def is_cut_off() -> bool:
    """Tell whether a run of this process has ended without its server."""
    return bool(_cut)


def _cut_off() -> None:
    """Have Prefect in this process neither send anything more, nor wait for what it has not sent."""
    from prefect.context import SyncClientContext
    from prefect.events.clients import NullEventsClient
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    _cut.append(True)
    _silence((*_NOISY, "prefect.flow_runs"))  # the engine tells at length that it cannot tell the end
    EventsWorker.set_client_override(NullEventsClient)
    services: list[Any] = [EventsWorker, APILogWorker]
    for service in [instance for worker in services for instance in list(worker._instances.values())]:
        with suppress(AttributeError):
            service._queue.queue.clear()
            service._loop.call_soon_threadsafe(service._task.cancel)
    context = SyncClientContext.get()
    if context is not None:  # the engine's own: what it sends fails at once instead of being tried for minutes
        context.client._client.close()


def _nothing(_record: logging.LogRecord) -> bool:
    return False


def _silence(names: Sequence[str]) -> None:
    """Let these loggers say nothing, and only these; Prefect sets their levels again and again."""
    for name in (*_NOISY, "prefect.flow_runs"):
        logger = logging.getLogger(name)
        (logger.addFilter if name in names else logger.removeFilter)(_nothing)
