"""Runs of a schedule that are due and not started, and those that left the work to a later one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.types._datetime import now

SUPERSEDED_NAME = "Superseded"
"""State of a run that did nothing, since a later one of the same schedule was due as well."""


def due_filter(deployment_id: UUID) -> FlowRunFilter:
    """Return a filter for the runs of a deployment that should have started by now, and did not."""
    before: Any = now("UTC")
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=before),
    )


def read_last_ended(client: Any, deployment_id: UUID) -> Any:
    """Return the run of a deployment that ended last; None if none has.

    Args:
        client: of Prefect, a synchronous one.
        deployment_id: Prefect's id of it.
    """
    ended = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ended)),
    )
    return next(iter(client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.END_TIME_DESC, limit=1)), None)
