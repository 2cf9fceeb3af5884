"""Which Prefect API a run talks to, and the server that keypipe starts when there is none.

In this order: the user's own (``PREFECT_API_URL`` or the active profile), the one that ``keypipe up``, ``keypipe
schedule`` or ``keypipe ui`` has started for this workspace, else a temporary one for the length of the command. The
last two keep their database in the workspace, so that every run of it is in one place.
"""

from __future__ import annotations

import http.client
import logging
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flows.services import quick_settings
from flows.system.locks import held_lock
from flows.system.process import UNTRACKED, Tree
from flows.system.state_files import read_record, write_record
from keypipe.addresses import hide_password, without_login
from keypipe.errors import PoseError
from tasks.tracking.machine import is_alive, start_mark
from tasks.workspace.places import STATE

DATABASE = STATE / "prefect.db"
RESULTS = STATE / "prefect-results"
RECORD = STATE / "server.json"
LOG = STATE / "prefect-server.log"
START_LOCK = STATE / "server.lock"

START_SECONDS = 120.0
"""A first start creates the database: 14 s on two free cores, more on busy ones."""

END_SECONDS = 30.0
"""From when a server is nobody's any more until its port is free: it has 5 s to end."""

PORT = 4200

Say = Callable[[str], None]


class ServerRecord(msgspec.Struct):
    """A server that serves this workspace beyond one run.

    Attributes:
        url: address of its API.
        pid: the command that keeps it.
        started: mark of the start of that process.
        command: ``keypipe up``, ``keypipe schedule`` or ``keypipe ui``.
    """

    url: str
    pid: int
    started: str | float
    command: str


def configure(root: Path) -> None:
    """Set what Prefect reads from the environment; to be called before Prefect is imported.

    What the user has set stays.
    """
    (root / STATE).mkdir(exist_ok=True)
    for name, value in settings(root).items():
        os.environ.setdefault(name, value)


def settings(root: Path) -> dict[str, str]:
    """Return the environment for Prefect, client and server."""
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{(root / DATABASE).resolve()}",
        "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str((root / RESULTS).resolve()),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(START_SECONDS)),
        "PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS": "10",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "PREFECT_CLI_PROMPT": "false",
        **UNTRACKED,
    }


@contextmanager
def connected(root: Path, say: Say) -> Iterator[str]:
    """Have Prefect talk to a server while the block runs.

    Args:
        root: the workspace.
        say: gets messages for the user.

    Yields:
        Address of the API.

    Raises:
        PoseError: the user's server does not answer, or a temporary one does not come up.
    """
    configure(root)
    own = configured_url()
    if own is not None:
        if not answers(own):
            shown = hide_password(own)
            raise PoseError(f"the Prefect server at {shown} does not answer; start it, or unset PREFECT_API_URL")
        with _links_without_password(own):
            yield own
        return
    if record := recorded_server(root):
        with pointed_to(record.url):
            yield record.url
        return
    say("starting a temporary Prefect server (a few seconds; `keypipe up` keeps one)")
    with running_server(root, temporary=True) as url, pointed_to(url), _without_links():
        yield url


@contextmanager
def _links_without_password(url: str) -> Iterator[None]:
    """Keep Prefect from writing the name and password of its API into the addresses of pages that it names."""
    from prefect.settings import PREFECT_UI_URL, temporary_settings

    if hide_password(url) == url:
        yield
        return
    with temporary_settings({PREFECT_UI_URL: hide_password(url).rstrip("/").removesuffix("/api")}):
        yield


@contextmanager
def _without_links() -> Iterator[None]:
    """Keep Prefect from naming a page of a dashboard that a temporary server does not have."""
    logger = logging.getLogger("prefect.flow_runs")

    def is_no_link(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("View at ")

    logger.addFilter(is_no_link)
    try:
        yield
    finally:
        logger.removeFilter(is_no_link)


def configured_url() -> str | None:
    """Return the API that the user has set by environment, profile or settings file."""
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    return str(url) if url else None


def find_configured_url() -> str | None:
    """Return the same, without Prefect's import where the environment or the profile says it all."""
    try:
        return quick_settings.configured_url()
    except quick_settings.UnclearError:
        return configured_url()


@contextmanager
def pointed_to(url: str) -> Iterator[None]:
    """Point Prefect in this process, its threads and its children to a server."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = url
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    finally:
        if before is None:
            os.environ.pop("PREFECT_API_URL", None)
        else:
            os.environ["PREFECT_API_URL"] = before


@contextmanager
def running_server(root: Path, *, temporary: bool, port: int | None = None) -> Iterator[str]:
    """Run a Prefect server on the workspace's database, on 127.0.0.1, while the block runs.

    Args:
        root: the workspace.
        temporary: without dashboard and without the services that schedule.
        port: default: a free one.

    Yields:
        Address of its API.
    """
    with start_server(root, temporary=temporary, port=port) as (tree, url):
        wait_for_page(root / LOG, tree, f"{url}/health")
        yield url


@contextmanager
def start_server(root: Path, *, temporary: bool, port: int | None = None) -> Iterator[tuple[Tree, str]]:
    """Start a server and end it after the block, without waiting until it answers."""
    port = port or free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--lifespan", "on"),
    ]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **settings(root),
        **os.environ,
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        **({"PREFECT_SERVER_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"} if temporary else {}),
    }
    environment.pop("PREFECT_API_URL", None)
    with running_tree(root, command, environment, LOG) as tree:
        yield tree, f"{url}/api"


@contextmanager
def running_tree(root: Path, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Tree]:
    """Run a server, which prints into a log of the workspace, and end it after the block."""
    with (root / log).open("wb") as output:
        tree = Tree(command, cwd=root, env=environment, grace=5, output=output)
        try:
            yield tree
        finally:
            tree.end()


@contextmanager
def taking_turns(root: Path) -> Iterator[None]:
    """Let one command at a time look for the workspace's server, and start one where it finds none."""
    with held_lock(root / START_LOCK, lambda: None):
        yield


@contextmanager
def joined_server(
    root: Path, command: str, say: Say, port: int | None = None
) -> Iterator[tuple[ServerRecord, Tree | None]]:
    """Have a server beyond one run: the one that serves this workspace, or else one that ends with the block.

    Args:
        root: the workspace.
        command: that asks, by which others know a server that is started.
        say: is told when one is started.
        port: of that one; default: the one that Prefect's documentation names, or another if it is taken.

    Yields:
        The server, and its processes where it was started here.
    """
    with ExitStack() as stack:
        tree: Tree | None = None
        with taking_turns(root):
            record = recorded_server(root)
            if record is None:
                say("starting the Prefect server")
                port = port or preferred_port(PORT)
                _wait_for_port(port)
                tree, url = stack.enter_context(start_server(root, temporary=False, port=port))
                wait_for_page(root / LOG, tree, f"{url}/health")
                record = stack.enter_context(recorded(root, url, command))
        yield record, tree


def _wait_for_port(port: int) -> None:
    """Wait for a server that was at a port and is just ending; whoever is there longer than that stays there."""
    deadline = time.monotonic() + END_SECONDS
    while not is_free(port) and time.monotonic() < deadline:
        time.sleep(0.1)


def wait_for_page(log: Path, tree: Tree, url: str) -> None:
    """Wait until a server that was started answers, and not another one that has its port.

    Args:
        log: what it prints.
        tree: its processes.
        url: a page of 127.0.0.1 that answers when it is up.

    Raises:
        PoseError: it ended, or did not answer within the limit.
    """
    deadline = time.monotonic() + START_SECONDS
    port = urlsplit(url).port or 80
    while not (_answers(url) and tree.listens(port)):
        if not tree.running or time.monotonic() > deadline:
            tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            how = "ended" if not tree.running else f"did not answer within {START_SECONDS:.0f} s"
            raise PoseError("\n  ".join([f"the server at {url} {how}; its log {log} ends with", *tail]))
        time.sleep(0.1)


def preferred_port(port: int) -> int:
    """Return a port, or another if it is taken."""
    return port if is_free(port) else free_port()


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers_at(url: str) -> bool:
    """Tell whether a server's pages answer."""
    return _answers(url)


def answers(url: str) -> bool:
    """Tell whether a Prefect API answers at all, be it with a refusal."""
    return _answers(f"{without_login(url).rstrip('/')}/health")  # urllib takes a name and password for the host's


def _answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=5) as reply:
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        return error.code in {401, 403}
    except (OSError, http.client.HTTPException):
        return False


@contextmanager
def recorded(root: Path, url: str, command: str) -> Iterator[ServerRecord]:
    """Let other commands of this workspace find the server while the block runs; yields what they find."""
    record = ServerRecord(url, os.getpid(), start_mark(os.getpid()) or time.time(), command)
    write_record(root / RECORD, record)
    try:
        yield record
    finally:
        if read_record(root / RECORD, ServerRecord) == record:
            (root / RECORD).unlink(missing_ok=True)


def is_kept(root: Path, record: ServerRecord) -> bool:
    """Tell whether a server is still the workspace's: not given up or moved, and its command or itself still there."""
    return read_record(root / RECORD, ServerRecord) == record and (
        is_alive(record.pid, record.started) or answers(record.url)
    )


def recorded_server(root: Path) -> ServerRecord | None:
    """Return the server that serves this workspace, when it is alive and answers."""
    record = read_record(root / RECORD, ServerRecord)
    if record and is_alive(record.pid, record.started) and answers(record.url):
        return record
    return None


def crash_flow_run(flow_run_id: str, reason: str) -> None:
    """Set a flow run and its task runs that are not at an end to Crashed."""
    end_flow_run(flow_run_id, "CRASHED", f"Crashed: {reason}")


def end_flow_run(flow_run_id: str, state: str, message: str) -> bool:
    """Set a flow run and its task runs that are not at an end to a final state.

    Args:
        flow_run_id: Prefect's id of it.
        state: a type of Prefect's, such as ``COMPLETED``.
        message: of the state.

    Returns:
        False where this server does not know the run.
    """
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State, StateType
    from prefect.exceptions import ObjectNotFound

    def final() -> State[Any]:
        return State(type=StateType(state), message=message)

    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(flow_run_id))
        except ObjectNotFound:
            return False
        for task_run in _open_task_runs(client, run.id):
            client.set_task_run_state(task_run.id, final(), force=True)
        if run.state is None or not run.state.is_final():
            client.set_flow_run_state(run.id, final(), force=True)
    return True


def _open_task_runs(client: Any, flow_run_id: Any) -> list[Any]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
    return [run for run in runs if run.state is None or not run.state.is_final()]


def settle(flow_run_id: Any = None, seconds: float = 5.0) -> None:
    """Have the server know all of a run before it may end.

    Logs and the states of task runs reach it from threads and as events, a moment after the run itself has ended.

    Args:
        flow_run_id: wait for the ends of its task runs as well.
        seconds: how long at most.
    """
    from prefect.client.orchestration import get_client
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()
    EventsWorker.drain_all(timeout=seconds)
    if flow_run_id is None:
        return
    deadline = time.monotonic() + seconds
    with get_client(sync_client=True) as client:
        while _open_task_runs(client, flow_run_id) and time.monotonic() < deadline:
            time.sleep(0.1)
