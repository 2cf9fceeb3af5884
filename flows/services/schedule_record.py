"""The schedule that is being served for a workspace, as other commands see it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from flows.services.timetable import Timetable
from flows.system.state_files import read_record
from tasks.tracking.machine import is_alive
from tasks.workspace.places import STATE

SCHEDULE = STATE / "schedule.json"
SERVED = STATE / "schedule-served.json"


class ScheduleRecord(msgspec.Struct):
    """A ``keypipe schedule`` that runs.

    Attributes:
        pid: its process.
        started: mark of the start of that process.
        timetable: when it runs.
        deployment: name of Prefect's deployment.
        url: address of the Prefect API, without a name and password.
    """

    pid: int
    started: str | float
    timetable: Timetable
    deployment: str
    url: str

    def describe(self) -> str:
        """Return it for a message."""
        return f"{self.timetable.describe()}, pid {self.pid}, deployment {self.deployment}"


class Served(msgspec.Struct, frozen=True):
    """Until when a schedule was served; outlives it, so that the next one knows what was missed.

    Attributes:
        deployment: name of Prefect's deployment.
        timetable: when it ran.
        until: the last sign of life.
        upcoming: the next times, in the timetable's zone.
    """

    deployment: str
    timetable: Timetable
    until: datetime
    upcoming: tuple[datetime, ...] = ()


def deployment_name(root: Path) -> str:
    """Return a name that tells clones apart: the folder's, and a hash of its path."""
    path = root.resolve()
    return f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def active_schedule(root: Path) -> ScheduleRecord | None:
    """Return the schedule whose process is alive."""
    record = read_record(root / SCHEDULE, ScheduleRecord)
    return record if record is not None and is_alive(record.pid, record.started) else None


def upcoming(root: Path) -> list[str]:
    """Return the next times of the schedule that was served last, with their zone; none of a schedule without times."""
    served = read_record(root / SERVED, Served)
    now = datetime.now().astimezone()
    return [format_time(time, served.timetable.timezone) for time in served.upcoming if time > now] if served else []


def format_time(time: datetime, timezone: str) -> str:
    """Return a time in a zone, and in this machine's where the clock shows another there."""
    there, here = time.astimezone(ZoneInfo(timezone)), time.astimezone()
    text = f"{there:%a %Y-%m-%d %H:%M} {timezone}"
    return text if there.utcoffset() == here.utcoffset() else f"{text} ({here:%H:%M} here)"
