"""The training flow of a run that had nothing to do, for Prefect's record: it looks at nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from prefect import flow, task
from prefect.context import FlowRunContext
from prefect.states import Completed
from prefect.utilities.annotations import quote

from flows.pipeline.flow import FLOW_NAME, RAW_TASK
from flows.pipeline.run_result import summarise
from flows.pipeline.stages.task import enter_stage
from flows.pipeline.unchanged.afterwards import Untold
from flows.system.state_files import write_record
from tasks.versions.raw import RawVersion


@task(name=RAW_TASK, task_run_name=RAW_TASK)
def _name_raw_data(raw: RawVersion) -> RawVersion:
    return raw


def make_cached_flow(path: Path, untold: Untold) -> Any:
    """Return a flow that passes through the tasks of the training flow, all of which are cached.

    Args:
        path: where the run is written down; Prefect's id of it is added, in case this process is killed.
        untold: the run.
    """

    @flow(name=FLOW_NAME, flow_run_name=untold.run.name, validate_parameters=False)
    def cached_flow(root: str, until: str | None = None, force: Sequence[str] = ()) -> Any:  # noqa: ARG001 - for Prefect's page
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        untold.flow_run_id = str(context.flow_run.id)
        write_record(path, untold)
        raw = untold.found.raw
        state: Any = _name_raw_data(quote(raw), return_state=True)
        for result in untold.run.stages:
            fingerprint = untold.found.fingerprints[result.stage]
            state = enter_stage(Path(root), result.stage, fingerprint, clean=True, raw=raw, after=state)
        data = msgspec.to_builtins(msgspec.structs.replace(untold.run, flow_run_id=untold.flow_run_id))
        return Completed(message=summarise(untold.run.stages), data=data)

    return cached_flow
