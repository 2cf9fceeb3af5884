"""``keypipe notify``: who is told what, and a test of whether it arrives."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import msgspec

from flows.notifications.delivery import notify, ways
from flows.notifications.notice import Notice
from flows.notifications.record import TOLD, Delivery, Told
from flows.outcome import RuleRow
from flows.services import server
from flows.system.state_files import read_record
from keypipe.errors import ConfigError
from tasks.registry.settings import model_name
from tasks.retraining.notification import EVENTS, Event
from tasks.retraining.settings import read_settings


class Who(msgspec.Struct, frozen=True):
    """Who is told.

    Attributes:
        ways: name and events of each way.
        last: the last notice and what became of it.
    """

    ways: list[tuple[str, tuple[Event, ...]]]
    last: Told | None


def read_who(root: Path) -> Who:
    """Return who is told, and what became of the last notice.

    Raises:
        ConfigError: the section is wrong.
    """
    params = read_settings(root).notify
    return Who([(way.name, way.events) for way in ways(params)], read_record(root / TOLD, Told))


def try_out(root: Path, event: str, say: server.Say) -> list[Delivery]:
    """Send a test by every way that is told of an event.

    Args:
        root: the workspace.
        event: of which people think that it happened, were it not for the word test.
        say: gets a line for each way.

    Raises:
        ConfigError: the section is wrong, or nobody is told of the event.
        PoseError: a block is named, and the user's Prefect server does not answer.
    """
    if event not in EVENTS:
        raise ConfigError(f"{event}: no such event (known: {', '.join(EVENTS)})")
    params = read_settings(root).notify
    wanted = [way.name for way in ways(params) if event in way.events]
    if not wanted:
        raise ConfigError(f"retrain.notify: nobody is told of {event}; docs/retraining.md shows how to name somebody")
    notice = Notice(
        event=event,
        title=f"a test of what is told of {event}",
        reason="Somebody tries out whether this arrives. Nothing happened; the figures are made up.",
        workspace=model_name(root),
        rows=(
            RuleRow(rule="oks_AP", champion=0.741, challenger=0.754, interval=(-0.006, 0.031), verdict="passed"),
            RuleRow(rule="close", champion=0.902, challenger=0.897, interval=(-0.024, 0.013), verdict="undecided"),
        ),
        is_test=True,
    )
    with server.connected(root, say) if any(name.startswith("block ") for name in wanted) else nullcontext():
        return notify(root, params, notice, say)
