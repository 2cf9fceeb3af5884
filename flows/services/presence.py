"""Whether Prefect's server still answers a run, and a run's way to its end where it does not.

Prefect's own client tries for minutes, and a run would stand still meanwhile. So a thread beside the run asks the
server, and a run whose server is away ends without it.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flows.system.state_files import read_record, write_record
from keypipe.addresses import hide_password
from tasks.workspace.places import STATE

UNSETTLED = STATE / "unsettled"
POLL_SECONDS = 5.0
_TIMEOUT_SECONDS = 5.0
REFUSED_SECONDS = 5.0
"""Since when nobody listens at the server's address until it counts as gone: it takes longer than that to start."""
SILENT_SECONDS = 30.0
"""Since when a server does not answer until it counts as gone: on a full machine one was silent for over 5 s and lived.
Half a minute is short beside a training, and beside the minutes for which Prefect's own client tries."""
_LAST_WAIT_SECONDS = 2.0
_NOISY = ("prefect.events", "prefect.events.clients", "prefect._internal", "prefect._internal.concurrency")
"""Loggers that tell, again and again, that they cannot reach the server."""

_cut: list[bool] = []
_watches: list[Presence] = []
"""That of the outermost run of this process, while it runs."""

log = logging.getLogger("prefect.keypipe")


class Presence:
    """What a thread beside a run, and the runs inside of it, knows of their server.

    Attributes:
        url: address of its API.
        cancelled: one of them was cancelled in Prefect, which itself tells only runs that a runner has started.
        gaps: from when to when the server did not answer; the last has no end as long as it does not.
    """

    def __init__(self, url: str) -> None:
        self.url = hide_password(url)  # for people
        self.cancelled = False
        self.gaps: list[tuple[datetime, datetime | None]] = []
        self._flow_run_ids: list[Any] = []
        self._refused = False
        self._over = threading.Event()
        self._asking = threading.Lock()
        self._settings = ExitStack()

    @property
    def away(self) -> bool:
        """Whether the server did not answer the last time."""
        return bool(self.gaps) and self.gaps[-1][1] is None

    @property
    def gone(self) -> bool:
        """Whether it has not answered for so long that there is no more waiting for it."""
        patience = REFUSED_SECONDS if self._refused else SILENT_SECONDS
        return self.away and (_now() - self.gaps[-1][0]).total_seconds() >= patience

    def watch(self) -> None:
        """Ask the server now and then, until the outermost run is over."""
        while not self._over.wait(POLL_SECONDS):
            self.ask()

    def ask(self) -> bool:
        """Ask the server once; returns whether it answered.

        When the watch is over, or there is no run to ask about, what was last known holds.
        """
        with self._asking:
            runs = list(self._flow_run_ids)
            return self._ask(runs) if runs and not self._over.is_set() else not self.away

    def _ask(self, runs: Sequence[Any]) -> bool:
        import httpx
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        now = _now()
        try:
            with (
                temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
                get_client(httpx_settings={"timeout": _TIMEOUT_SECONDS}, sync_client=True) as client,
            ):
                states = [client.read_flow_run(run).state for run in runs]
        except (ObjectNotFound, httpx.HTTPStatusError):  # it answers
            states = []
        except Exception as error:  # noqa: BLE001 - whatever keeps it from answering, a run goes on
            self._refused = isinstance(error, httpx.ConnectError)
            if not self.away:
                self.gaps.append((now, None))
                log.warning("Prefect's server does not answer; the run goes on without it")
                _silence(_NOISY)
            return False
        self.cancelled |= any(state is not None and (state.is_cancelling() or state.is_cancelled()) for state in states)
        if self.away:
            self.gaps[-1] = (self.gaps[-1][0], now)
            _silence(())
            log.warning("Prefect's server answers again")
        return True

    @contextmanager
    def run(self, flow_run_id: Any) -> Iterator[None]:
        """Look after a run as well while the block runs."""
        if flow_run_id is not None:
            self._flow_run_ids.append(flow_run_id)
        try:
            yield
        finally:
            if flow_run_id is not None:
                self._flow_run_ids.remove(flow_run_id)

    def stop(self) -> None:
        """End the watch."""
        self._over.set()

    def end(self) -> None:
        """End the watch with the outermost run."""
        self.stop()
        self._settings.close()

    def leave(self) -> bool:
        """Let go of a server that is gone, where a run would wait for it: nothing more is sent to it, or waited for.

        That holds for the rest of the outermost run, which goes on without it even if it comes back.

        Returns:
            False where it answers.
        """
        if not self._flow_run_ids:
            return False
        while not is_cut_off() and not self.ask():
            if self.gone:
                self.stop()
                self._settings.enter_context(_cut_off())
            else:
                self._over.wait(_LAST_WAIT_SECONDS)
        return is_cut_off()

    def describe(self) -> list[str]:
        """Return what the server was not told, one line for each time that it was away."""
        lines: list[str] = []
        for began, ended in self.gaps:
            if ended is None:
                lines.append(
                    f"Prefect ({self.url}) does not answer since {began:%H:%M:%S}: it does not know how this run went"
                    " on from there; a later run tells it the end"
                )
            else:
                lines.append(
                    f"Prefect ({self.url}) did not answer from {began:%H:%M:%S} to {ended:%H:%M:%S}: lines of the log"
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
        if is_cut_off():
            return
        run = read_record(path, Unsettled)
        message = (run.message if run else "") or "told afterwards, by a later run"
        try:
            if run is None or end_flow_run(run.flow_run_id, run.state, message):
                path.unlink()
        except Exception as error:  # noqa: BLE001 - whatever keeps it from being told, there are later runs
            log.warning("Prefect was not told how an earlier run ended: %s", type(error).__name__)
            return


@contextmanager
def watched(flow_run_id: Any, url: str) -> Iterator[Presence]:
    """Watch the server of a run while the block runs.

    A run inside of another shares its watch: what holds for the server holds for both, and who cancels the outer one
    cancels both.
    """
    if _watches:
        with _watches[0].run(flow_run_id):
            yield _watches[0]
        return
    _rejoin()
    presence = Presence(url)
    context = contextvars.copy_context()  # which says what server it is
    thread = threading.Thread(target=context.run, args=(presence.watch,), name="keypipe-presence", daemon=True)
    _watches.append(presence)
    try:
        with presence.run(flow_run_id):
            if flow_run_id is not None:
                thread.start()
            yield presence
    except BaseException:  # Ctrl-C above all: the engine would try for a minute to tell a server that is away
        if presence.away:
            with _cut_off():
                pass
        raise
    finally:
        _watches.clear()
        presence.end()


def is_cut_off() -> bool:
    """Tell whether the run of this process, or the last one, went on without its server."""
    return bool(_cut)


@contextmanager
def _cut_off() -> Iterator[None]:
    """Have Prefect in this process neither send anything more, nor wait for what it has not sent.

    Inside of the block what is asked all the same fails at once; what the engine sends after it does so as well.
    """
    from prefect.context import SyncClientContext
    from prefect.events.clients import NullEventsClient
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import (
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    _cut.append(True)
    _silence(_NOISY)
    logging.getLogger("prefect.flow_runs").addFilter(_is_no_complaint)
    EventsWorker.set_client_override(NullEventsClient)
    services: list[Any] = [EventsWorker, APILogWorker]
    for service in [instance for worker in services for instance in list(worker._instances.values())]:
        with suppress(AttributeError):
            service._queue.queue.clear()
            service._loop.call_soon_threadsafe(service._task.cancel)
    context = SyncClientContext.get()
    if context is not None:  # the engine's own: what it sends fails at once instead of being tried for minutes
        context.client._client.close()
    silent = {
        PREFECT_API_REQUEST_TIMEOUT: 1.0,
        PREFECT_CLIENT_MAX_RETRIES: 0,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(silent):
        yield


def _rejoin() -> None:
    """Undo what a run of this process did that went on without its server."""
    if _cut:
        from prefect.events.worker import EventsWorker

        _cut.clear()
        EventsWorker.set_client_override(None)
    _silence(())
    logging.getLogger("prefect.flow_runs").removeFilter(_is_no_complaint)


def _nothing(_record: logging.LogRecord) -> bool:
    return False


def _is_no_complaint(record: logging.LogRecord) -> bool:
    """Tell whether a line of a run's log is none in which the engine tells that it could not tell the end."""
    error = record.exc_info[1] if record.exc_info else None
    return "client has been closed" not in str(error) and not str(record.msg).startswith("Finished in state")


def _silence(names: Sequence[str]) -> None:
    """Let these loggers say nothing, and only these; Prefect sets their levels again and again."""
    for name in _NOISY:
        logger = logging.getLogger(name)
        (logger.addFilter if name in names else logger.removeFilter)(_nothing)


def _now() -> datetime:
    return datetime.now().astimezone()
