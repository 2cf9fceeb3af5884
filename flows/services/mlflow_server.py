"""MLflow's server for a workspace's own database, on 127.0.0.1: its pages, and its API for programs of people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.services import server
from flows.system.process import UNTRACKED, Tree
from tasks.tracking.client import is_untouched, open_client, tracking_uri
from tasks.workspace.places import STATE

PORT = 5000
LOG = STATE / "mlflow-ui.log"


def remote_address(root: Path) -> str | None:
    """Return the address of a server that ``MLFLOW_TRACKING_URI`` names; None where keypipe starts one."""
    uri = tracking_uri(root)
    return uri if uri.startswith(("http:", "https:")) else None


@contextmanager
def running_server(root: Path, port: int) -> Iterator[tuple[Tree, str]]:
    """Run a server while the block runs.

    Args:
        root: the workspace.
        port: of 127.0.0.1.

    Yields:
        Its processes and its address.

    Raises:
        PoseError: it ended, or did not answer within the limit.
    """
    if is_untouched(root):
        open_client(root)  # which makes the database, also where the path has characters that MLflow trips over
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--uvicorn-opts", "--log-level warning"),
    ]
    # Its background jobs evaluate language models: a dozen processes and gigabytes that nobody here asks for.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **UNTRACKED, **os.environ}
    # Not in the command, which every user of the machine may read: it may have a password.
    environment["MLFLOW_BACKEND_STORE_URI"] = tracking_uri(root)
    url = f"http://127.0.0.1:{port}"
    with server.running_tree(root, command, environment, LOG) as tree:
        server.wait_for_page(root / LOG, tree, f"{url}/health")
        yield tree, url
