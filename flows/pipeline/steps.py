"""What the flows of several steps share: how a step fails, and where a run is shown."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from keypipe.errors import PoseError


def step(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a task; a fault of the input becomes a failed state with one message, and no traceback."""

    def decorate(work: Callable[..., Any]) -> Any:
        @functools.wraps(work)
        def attempt(*args: Any, **kwargs: Any) -> Any:
            try:
                return work(*args, **kwargs)
            except PoseError as error:
                get_run_logger().error("%s", error)
                return Failed(message=str(error), data=error)

        made: Any = task(name=name, task_run_name=name, persist_result=False, cache_policy=NO_CACHE)
        return made(attempt)

    return decorate


def run_page(root: Path, run: Any) -> str:
    """Return the address of a run's page; "" where its server is a temporary one, which has none."""
    from prefect.settings import get_current_settings
    from prefect.utilities.urls import url_for

    from flows.services import server

    record = server.recorded_server(root)
    api = str(get_current_settings().api.url or "")
    if run is None or not api or (record is None and api.startswith(("http://127.0.0.1", "http://localhost"))):
        return ""
    return url_for("flow-run", obj_id=run.id) or ""
