"""When a schedule runs: cron lines, a distance between runs, changes of the raw data, or several of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from keypipe.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""What distances that do not divide a day are counted from, so that a restart does not shift them."""
_MOST = 200
"""Times that are looked for at once."""


class Timetable(msgspec.Struct, frozen=True):
    """When a schedule runs.

    Attributes:
        crons: cron lines.
        every_s: seconds between two runs.
        on_change: whether it runs after changes of ``data/raw``.
        quiet_s: for how many seconds nothing may have changed before it does.
        timezone: IANA name of the zone that times are meant in.
    """

    crons: tuple[str, ...] = ()
    every_s: float | None = None
    on_change: bool = False
    quiet_s: float = 60.0
    timezone: str = "UTC"

    def describe(self) -> str:
        """Return it for a message."""
        parts = [f'at "{cron}"' for cron in self.crons]
        if self.every_s is not None:
            parts.append(f"every {format_duration(self.every_s)}")
        zone = [f"({self.timezone})"] if parts else []
        changes = [f"after changes of data/raw (quiet for {format_duration(self.quiet_s)})"] if self.on_change else []
        return " and ".join([*filter(None, [" ".join([" and ".join(parts), *zone]).strip()]), *changes])

    @property
    def all_crons(self) -> tuple[str, ...]:
        """The cron lines, and the one that says the same as a distance that divides a day."""
        short = _to_cron(self.every_s) if self.every_s is not None else None
        return (*self.crons, short) if short else self.crons

    @property
    def interval(self) -> timedelta | None:
        """The distance, where no cron line says the same."""
        return timedelta(seconds=self.every_s) if self.every_s is not None and not _to_cron(self.every_s) else None

    def to_prefect(self) -> list[Any]:
        """Return it as schedules of a deployment."""
        from prefect.schedules import Cron, Interval

        found: list[Any] = [Cron(cron, timezone=self.timezone) for cron in self.all_crons]
        if self.interval is not None:
            found.append(Interval(self.interval, anchor_date=_ANCHOR, timezone="UTC"))
        return found

    async def times(self, after: datetime, until: datetime | None = None, most: int = _MOST) -> list[datetime]:
        """Return when it runs, in order; as Prefect's server says.

        Args:
            after: the times lie after this one.
            until: and not after this one.
            most: how many at most.
        """
        from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule

        schedules: list[Any] = [CronSchedule(cron=cron, timezone=self.timezone) for cron in self.all_crons]
        if self.interval is not None:
            anchor: Any = _ANCHOR
            schedules.append(IntervalSchedule(interval=self.interval, anchor_date=anchor, timezone="UTC"))
        found: set[datetime] = set()
        for schedule in schedules:
            times = await schedule.get_dates(most + 1, start=after, end=until)
            # plain ones, in place of a kind that differs between Pythons
            found |= {datetime.fromtimestamp(time.timestamp(), UTC) for time in times if time > after}
        return sorted(found)[:most]


def make_timetable(
    crons: Sequence[str], every: str | None, on_change: bool, quiet: str | None, timezone: str | None
) -> Timetable:
    """Make a timetable of what stands on a command line.

    Raises:
        ConfigError: everything that is wrong, one a line.
    """
    problems: list[str] = []
    if not crons and every is None and not on_change:
        problems.append('say when: --cron "0 3 * * *", --every 6h or --on-change, or several of them')
    zone = _check_zone(timezone, problems)
    for cron in crons:
        _check_cron(cron, problems)
    every_s = None if every is None else _parse(every, "--every", 60.0, problems)
    quiet_s = 60.0 if quiet is None else _parse(quiet, "--quiet", 1.0, problems)
    if quiet is not None and not on_change:
        problems.append("--quiet goes with --on-change")
    if problems:
        raise ConfigError("\n".join(problems))
    return Timetable(tuple(crons), every_s, on_change, quiet_s or 60.0, zone)


def parse_duration(text: str) -> float | None:
    """Return the seconds of a text such as ``90s``, ``30m``, ``6h`` or ``1d``; None if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    return float(match[1]) * _UNITS[match[2]] if match else None


def format_duration(seconds: float) -> str:
    """Return seconds in the largest unit that they are whole in."""
    unit = next((unit for unit in "dhm" if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0), "s")
    return f"{seconds / _UNITS[unit]:g} {unit}"


def _parse(text: str, option: str, least: float, problems: list[str]) -> float | None:
    seconds = parse_duration(text)
    if seconds is None or seconds < least:
        problems.append(f"{option} {text}: expected such as 30m, 6h or 1d, {format_duration(least)} at least")
        return None
    return seconds


def _check_zone(timezone: str | None, problems: list[str]) -> str:
    if timezone is not None:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            problems.append(f"--timezone {timezone}: no such timezone; such as Europe/Berlin or UTC")
    return timezone or "UTC"


def _check_cron(cron: str, problems: list[str]) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron)
    except ValidationError:
        problems.append(f'--cron "{cron}": no cron schedule; such as "0 3 * * *" (every night at three)')


def _to_cron(seconds: float) -> str | None:
    """Return a cron line for a distance that divides a day, counted from midnight: so it keeps to the local clock."""
    minutes, rest = divmod(seconds, 60)
    if rest:
        return None
    hours, odd_minutes = divmod(minutes, 60)
    if seconds == _UNITS["d"]:
        return "0 0 * * *"
    if not odd_minutes and hours < 24 and 24 % hours == 0:
        return f"0 */{hours:g} * * *" if hours > 1 else "0 * * * *"
    if minutes < 60 and 60 % minutes == 0:
        return f"*/{minutes:g} * * * *" if minutes > 1 else "* * * * *"
    return None
