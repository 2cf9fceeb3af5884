"""``keypipe ui``: the Prefect and MLflow dashboards of a workspace, on this machine alone."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from flows.services import server
from flows.system.process import UNTRACKED, Tree
from tasks.workspace.places import STATE

MLFLOW_PORT = 5000
MLFLOW_LOG = STATE / "mlflow-ui.log"


def serve(root: Path, say: server.Say) -> None:
    """Keep both dashboards up until the process is told to end."""
    server.configure(root)
    with ExitStack() as stack:
        prefect = _prefect(root, stack, say)
        say("starting MLflow")
        mlflow = _mlflow(root, stack)
        say(f"Prefect   {prefect}")
        say(f"MLflow    {mlflow}")
        say("Ctrl-C stops what this command has started")
        while True:
            time.sleep(3600)


def _prefect(root: Path, stack: ExitStack, say: server.Say) -> str:
    own = server.configured_url()
    if own is not None:
        return own.removesuffix("/api")
    if record := server.recorded_server(root):
        return f"{record.url.removesuffix('/api')} (of `{record.command}`)"
    say("starting the Prefect server")
    url = stack.enter_context(server.running_server(root, temporary=False, port=server.preferred_port()))
    stack.enter_context(server.recorded(root, url, "keypipe ui"))
    return url.removesuffix("/api")


def _mlflow(root: Path, stack: ExitStack) -> str:
    """Start MLflow's pages of the workspace's database; returns where its trainings are, there or on a server."""
    from tasks.tracking.client import experiment_page, is_untouched, open_client, tracking_uri

    uri = tracking_uri(root)
    if uri.startswith(("http:", "https:")):
        return experiment_page(root, uri)
    if is_untouched(root):
        open_client(root)  # which makes the database, also where the path has characters that MLflow trips over
    port = MLFLOW_PORT if server.is_free(MLFLOW_PORT) else server.free_port()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Its background jobs evaluate language models: a dozen processes and gigabytes that nobody here asks for.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **UNTRACKED, **os.environ}
    log = stack.enter_context((root / MLFLOW_LOG).open("wb"))
    tree = Tree([*command, "--backend-store-uri", uri], cwd=root, env=environment, output=log, grace=5)
    stack.callback(tree.end)
    page = experiment_page(root, f"http://127.0.0.1:{port}")
    server.wait_for_page(root / MLFLOW_LOG, tree, f"http://127.0.0.1:{port}/health")
    return page
