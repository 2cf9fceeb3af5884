"""``keypipe drift``: the drift flow in this process, and what a person or a script sees of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from flows.drift.record import DriftOutcome
from flows.services import server
from flows.services.timetable import parse_duration
from keypipe.errors import ConfigError
from tasks.workspace import params as read
from tasks.workspace.program import USER_ERROR

DRIFTED = 1
"""Exit code of drift, for who asks for it."""


class Wish(msgspec.Struct, frozen=True):
    """What to look at, and how to say it.

    Attributes:
        window: its length, such as ``24h``; None: as ``drift.days`` says.
        until: where it ends, ISO 8601; None: now.
        log: folder of the log; None: the workspace's.
        fail: whether drift is an exit code.
        as_json: print JSON alone.
    """

    window: str | None = None
    until: str | None = None
    log: Path | None = None
    fail: bool = False
    as_json: bool = False


def run_drift(root: Path, wish: Wish) -> int:
    """Run the drift flow in this process; ``server.configure`` has been called.

    Args:
        root: the workspace.
        wish: what to look at.

    Returns:
        The exit code.

    Raises:
        ConfigError: a time cannot be read, or the parameters are wrong.
    """
    read.read_params(root)
    window_s = parse_window(wish.window)
    until = parse_moment(wish.until)
    log = str(wish.log.resolve()) if wish.log else ""
    with server.connected(root, lambda text: click.echo(text, err=wish.as_json)):
        from flows.drift.flow import drift_flow

        state: Any = drift_flow(str(root), window_s, until, log, return_state=True)
        server.settle(state.state_details.flow_run_id)
        found = state.result(raise_on_failure=False)
    if isinstance(found, BaseException):
        raise found
    outcome = msgspec.convert(found, DriftOutcome)
    if wish.as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(outcome), indent=2).decode())
    elif outcome.kind == "failed":
        click.echo(f"keypipe: {outcome.headline}", err=True)
    else:
        show_outcome(outcome)
    if outcome.kind == "failed":
        return USER_ERROR
    return DRIFTED if wish.fail and outcome.alarm else 0


def parse_window(text: str | None) -> float | None:
    """Return a length of time in seconds.

    Raises:
        ConfigError: it is none.
    """
    if text is None:
        return None
    seconds = parse_duration(text)
    if seconds is None or seconds <= 0:
        raise ConfigError(f"--window {text}: expected such as 24h or 7d")
    return seconds


def parse_moment(text: str | None) -> float | None:
    """Return a moment in seconds since the epoch; one without an offset is of this machine's time zone.

    Raises:
        ConfigError: it is none.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise ConfigError(f"--until {text}: expected such as 2026-03-01 or 2026-03-01T06:00+01:00") from error


def show_outcome(outcome: DriftOutcome) -> None:
    """Print what came of it, and where to look."""
    lines = [
        (outcome.kind, outcome.headline),
        (
            "looked at",
            f"{outcome.images} images in {outcome.units} units, {outcome.since[:16]} to {outcome.until[:16]}",
        ),
    ]
    if outcome.expected_close is not None:
        beside = f"; {outcome.validation_close:.1%} on the validation side" if outcome.validation_close else ""
        share = f"{outcome.expected_close:.1%} ({outcome.expected_low:.1%} to {outcome.expected_high:.1%})"
        lines.append(("expected", f"{share} of shown keypoints close{beside}"))
    else:
        lines.append(("expected", f"cannot be said: {'; '.join(outcome.why_not)}"))
    if outcome.differences:
        lines.append(("differs", ", ".join(outcome.differences)))
    lines.append(("report", outcome.report))
    width = max(len(name) for name, _ in lines) + 2
    for name, text in lines:
        click.echo(f"{name:<{width}}{text}")
    for remark in outcome.remarks:
        click.echo(f"note: {remark}", err=True)
