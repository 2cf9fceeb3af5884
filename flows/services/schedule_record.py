"""The schedule that is being served for a workspace, as other commands see it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from flows.system.state_files import read_record
from tasks.tracking.machine import is_alive
from tasks.workspace.places import STATE

SCHEDULE = STATE / "schedule.json"


class ScheduleRecord(msgspec.Struct):
    """A ``keypipe schedule`` that runs.

    Attributes:
        pid: its process.
        started: mark of the start of that process.
        cron: when it runs.
        timezone: IANA name; None is UTC.
        deployment: name of Prefect's deployment.
        url: address of the Prefect API.
    """

    pid: int
    started: str | float
    cron: str
    timezone: str | None
    deployment: str
    url: str

    def describe(self) -> str:
        """Return it for a message."""
        return f"{self.cron} ({self.timezone or 'UTC'}), pid {self.pid}, deployment {self.deployment}"


def active_schedule(root: Path) -> ScheduleRecord | None:
    """Return the schedule whose process is alive."""
    record = read_record(root / SCHEDULE, ScheduleRecord)
    return record if record is not None and is_alive(record.pid, record.started) else None
