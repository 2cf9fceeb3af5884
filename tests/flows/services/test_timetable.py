"""When a schedule runs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flows.services.timetable import Timetable, format_duration, make_timetable, parse_duration
from keypipe.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")


def times(timetable: Timetable, after: datetime, most: int = 4) -> list[datetime]:
    return asyncio.run(timetable.times(after, most=most))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "say when"),
        ({"crons": ["0 25 * * *"]}, '--cron "0 25 '),
        ({"crons": ["every night"]}, '--cron "every night"'),
        ({"crons": ["0 3 * * *"], "timezone": "Europe/Atlantis"}, "--timezone Europe/Atlantis"),
        ({"crons": ["0 3 * * *"], "timezone": "../etc/passwd"}, "--timezone"),
        ({"every": "often"}, "--every often"),
        ({"every": "30s"}, "1 m at least"),
        ({"on_change": True, "quiet": "0s"}, "--quiet 0s"),
        ({"every": "1h", "quiet": "5m"}, "goes with --on-change"),
    ],
)
def test_a_schedule_that_is_none_is_one_line(given: dict[str, Any], message: str) -> None:
    nothing: dict[str, Any] = {"crons": [], "every": None, "on_change": False, "quiet": None, "timezone": None}
    with pytest.raises(ConfigError, match=message) as caught:
        make_timetable(**(nothing | given))
    assert len(str(caught.value).splitlines()) == 1


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_timetable(["x"], "y", True, "z", "w")
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2 d", 172800), ("x", None)]
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds
    if seconds:
        assert parse_duration(format_duration(seconds)) == seconds


def test_a_distance_that_divides_the_day_keeps_to_the_local_clock() -> None:
    every = make_timetable([], "6h", False, None, "Europe/Berlin")
    for month in (1, 7):  # winter and summer
        found = times(every, datetime(2026, month, 1, 1, tzinfo=BERLIN))
        assert [time.astimezone(BERLIN).hour for time in found] == [6, 12, 18, 0]
    assert make_timetable([], "1d", False, None, None).all_crons == ("0 0 * * *",)
    assert make_timetable([], "15m", False, None, None).all_crons == ("*/15 * * * *",)


@pytest.mark.parametrize("every", ["7h", "45m", "2d", "90s"])
def test_another_distance_is_not_shifted_by_a_restart(every: str) -> None:
    timetable = make_timetable([], every, False, None, None)
    assert timetable.all_crons == ()
    seconds = parse_duration(every)
    found = times(timetable, datetime(2026, 3, 1, tzinfo=UTC))
    assert {(after - before).total_seconds() for before, after in pairwise(found)} == {seconds}
    assert times(timetable, found[0], most=3) == found[1:]
    assert {type(time) for time in found} == {datetime}


def test_several_together_are_in_order_and_none_twice() -> None:
    timetable = make_timetable(["0 3 * * *", "0 6 * * *"], "6h", True, "5m", "Europe/Berlin")
    found = times(timetable, datetime(2026, 1, 1, 0, 30, tzinfo=BERLIN), most=5)
    assert [time.astimezone(BERLIN).hour for time in found] == [3, 6, 12, 18, 0]
    assert timetable.describe() == (
        'at "0 3 * * *" and at "0 6 * * *" and every 6 h (Europe/Berlin) and after changes of data/raw (quiet for 5 m)'
    )
    assert make_timetable([], None, True, None, None).describe() == "after changes of data/raw (quiet for 1 m)"


def test_the_night_that_has_no_such_hour_is_not_left_out() -> None:
    """On 29 March 2026 no clock in Berlin shows 2:30."""
    timetable = make_timetable(["30 2 * * *"], None, False, None, "Europe/Berlin")
    found = times(timetable, datetime(2026, 3, 28, 12, tzinfo=BERLIN), most=2)
    assert [time.astimezone(BERLIN).day for time in found] == [29, 30]
