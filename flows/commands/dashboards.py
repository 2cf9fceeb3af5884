"""``keypipe up``, ``down`` and ``ui``: Prefect's and MLflow's pages of a workspace, on this machine alone."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from flows.services import background, mlflow_server, server
from flows.services.background import ELSEWHERE, Background
from flows.system.locks import is_held
from keypipe.addresses import hide_password
from tasks.tracking.client import experiment_page


def up(root: Path, wanted: background.Wanted, say: server.Say) -> Background:
    """Have both servers up in the background, and say where they are."""
    found, started = background.bring_up(root, wanted, say)
    if not started:
        say(f"up already, since {found.since:%Y-%m-%d %H:%M}")
    for name, page in pages(root, found):
        owner = found.service(name).detail
        say(f"{name:<9} {page}{f' ({owner})' if owner else ''}")
    return found


def pages(root: Path, found: Background) -> list[tuple[str, str]]:
    """Return the pages of what is up: Prefect's first one, and MLflow's list of trainings."""
    prefect, mlflow = found.service("Prefect").url, found.service("MLflow").url
    return [("Prefect", prefect), ("MLflow", experiment_page(root, mlflow))]


def explain(found: Background) -> list[str]:
    """Return what to do with what is up."""
    lines = ["every command here uses them as they are; `keypipe ui` opens them, `keypipe down` ends them"]
    variables = {"PREFECT_API_URL": ("Prefect", "/api"), "MLFLOW_TRACKING_URI": ("MLflow", "")}
    given = [
        f"{variable}={found.service(name).url}{path}"
        for variable, (name, path) in variables.items()
        if found.service(name).state != ELSEWHERE
    ]
    return [*lines, f"for programs of your own: export {' '.join(given)}"] if given else lines


def down(root: Path, say: server.Say) -> None:
    """End what ``keypipe up`` has started, and say what goes on."""
    from flows.pipeline import lease

    ended = background.take_down(root)
    own = [service for service in ended.services if service.state != ELSEWHERE] if ended else []
    if own:
        say(f"ended {' and '.join(service.name for service in own)}")
        if is_held(root / lease.LOCK):
            say("a run is going on; it goes on without Prefect")
    else:
        say("nothing that `keypipe up` has started is running")
    if (record := server.recorded_server(root)) is not None:
        say(f"Prefect at {record.url.removesuffix('/api')} is of `{record.command}` (pid {record.pid}) and stays")


def ui(root: Path, say: server.Say, *, show: bool) -> None:
    """Open the pages of what is up; where nothing is, keep both servers up until the process is told to end.

    Args:
        root: the workspace.
        say: gets messages for the user.
        show: open them in a browser; otherwise only say where they are.
    """
    found = background.find_background(root)
    if found is not None and found.alive and not found.is_in(background.FAILED):
        found, _ = background.bring_up(root, background.Wanted(), say)  # waits for one that is just starting
        _show(pages(root, found), say, show=show)
        return
    server.configure(root)
    with ExitStack() as stack:
        shown = [("Prefect", _prefect(root, stack, say))]
        say("starting MLflow")
        shown.append(("MLflow", _mlflow(root, stack)))
        _show(shown, say, show=show)
        say("Ctrl-C stops what this command has started; `keypipe up` keeps both in the background")
        while True:
            time.sleep(3600)


def _show(shown: Sequence[tuple[str, str]], say: server.Say, *, show: bool) -> None:
    for name, page in shown:
        say(f"{name:<9} {page}")
    for _, page in shown if show else ():
        webbrowser.open(page.partition(" ")[0])


def has_browser() -> bool:
    """Tell whether pages can be shown: without a display some systems would open them inside of the terminal."""
    named = any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
    return sys.stdout.isatty() and (named or sys.platform in ("darwin", "win32"))


def _prefect(root: Path, stack: ExitStack, say: server.Say) -> str:
    own = server.configured_url()
    if own is not None:
        return hide_password(own).removesuffix("/api")
    record, tree = stack.enter_context(server.joined_server(root, "keypipe ui", say))
    return record.url.removesuffix("/api") + ("" if tree is not None else f" (of `{record.command}`)")


def _mlflow(root: Path, stack: ExitStack) -> str:
    """Start MLflow's pages of the workspace's database; returns where its trainings are, there or on a server."""
    elsewhere = mlflow_server.remote_address(root)
    if elsewhere is not None:
        return experiment_page(root, elsewhere)
    port = server.preferred_port(mlflow_server.PORT)
    _, url = stack.enter_context(mlflow_server.running_server(root, port))
    return experiment_page(root, url)
