"""What the gate said of a version, and one that waits for a person's word, as entries of the history.

Waiting is a state of the registry, which no process and no lease stands behind. That somebody is asked is an entry of
the history. It stands open until a later entry answers it, its time is over, or the champion is another one than the
version was compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from keypipe.errors import ConfigError
from tasks.registry.moves import history
from tasks.registry.moves.aliases import Held, aliases_in_use, holding_or_told, open_used, resolve
from tasks.registry.moves.history import CHALLENGER, CHAMPION, Entry


class Waiting(msgspec.Struct, frozen=True):
    """A version that waits.

    Attributes:
        version: its number.
        since: when somebody was asked, ISO 8601, UTC.
        until: when the time is over, likewise.
        reason: what the gate said.
        approvers: who may be asked.
    """

    version: str
    since: str
    until: str
    reason: str
    approvers: str

    def is_over(self, now: datetime | None = None) -> bool:
        """Tell whether the time is over."""
        return datetime.fromisoformat(self.until) <= (now or datetime.now(UTC))


def find_waiting(entries: Sequence[Entry]) -> Waiting | None:
    """Return the version that waits, its time may be over; None where none does."""
    found: Entry | None = None
    for entry in entries:
        moved = {move.alias: move.after for move in entry.moves}
        if entry.what == "ask":
            found = entry
        elif found is None:
            continue
        elif (
            CHAMPION in moved
            or (entry.what in {"approve", "reject", "expire"} and entry.version == found.version)
            or moved.get(CHALLENGER, found.version) != found.version
        ):
            found = None
    return Waiting(found.version, found.at, found.until, found.why, found.note) if found else None


def note_verdict(root: Path, version: str, verdict: str, draw: int, who: str = "") -> None:
    """Write down that a version was judged.

    Args:
        root: the workspace.
        version: its number.
        verdict: what the gate said, as a sentence.
        draw: number of the draw of the splits whose test images judged.
        who: who judged; default: the user of this process.
    """
    registry = open_used(root)
    with holding_or_told(registry, who) as held:
        entry = history.new_entry("judge", who or history.me(), verdict[: history.MAX_WHY])
        held.record(msgspec.structs.replace(entry, version=version, draw=draw))


def ask(root: Path, version: str, reason: str, days: float, approvers: Sequence[str], who: str = "") -> Waiting:
    """Let a version wait for a person's word.

    Args:
        root: the workspace.
        version: its number.
        reason: what the gate said.
        days: how long.
        approvers: who may be asked.
        who: who asks; default: the user of this process.
    """
    registry = open_used(root)
    number = resolve(registry, version, registry.aliases())
    named = ", ".join(approvers)
    with holding_or_told(registry, who) as held:
        entry = history.new_entry("ask", who or history.me(), reason[: history.MAX_WHY], note=named)
        until = (datetime.fromisoformat(entry.at) + timedelta(days=days)).isoformat(timespec="seconds")
        entry = msgspec.structs.replace(entry, version=number, until=until)
        held.record(entry)
    return Waiting(number, entry.at, until, entry.why, named)


def approve(root: Path, version: str = "", why: str = "", who: str = "") -> Entry:
    """Put the version that waits into use.

    Args:
        root: the workspace.
        version: its number or alias; default: the one that waits.
        why: the reason, for the history.
        who: who says so; default: the user of this process.

    Raises:
        ConfigError: no version waits, or another one does, or its time is over.
        MovedError: another process moved ``champion`` in the meantime.
    """
    registry = open_used(root)
    with holding_or_told(registry, who) as held:
        waiting = _waiting(held, version)
        if waiting.is_over():
            raise ConfigError(
                f"v{waiting.version} waited until {waiting.until}, and nobody answered; `keypipe retrain --force --why"
                f" …` compares it again, `keypipe promote {waiting.version} --why …` puts it into use all the same"
            )
        resolve(registry, waiting.version, held.aliases)
        wanted = aliases_in_use(held, registry, waiting.version, "approve") | {CHALLENGER: None}
        return held.move("approve", wanted, why or waiting.reason, version=waiting.version)


def reject(root: Path, version: str, why: str, who: str = "") -> Entry:
    """Refuse the version that waits; the champion stays.

    Raises:
        ConfigError: no version waits, or another one does.
    """
    registry = open_used(root)
    with holding_or_told(registry, who) as held:
        waiting = _waiting(held, version)
        return held.move("reject", _without_challenger(held, waiting.version), why, version=waiting.version)


def expire(root: Path, who: str = "") -> Waiting | None:
    """End the waiting of a version whose time is over; returns it, None where there is none."""
    registry = open_used(root)
    waiting = find_waiting(history.read(registry))
    if waiting is None or not waiting.is_over():
        return None
    with holding_or_told(registry, who) as held:
        waiting = find_waiting(held.entries)
        if waiting is None or not waiting.is_over():  # somebody was quicker
            return None
        note = f"nobody answered until {waiting.until}"
        held.move("expire", _without_challenger(held, waiting.version), note, version=waiting.version)
        return waiting


def _without_challenger(held: Held, version: str) -> dict[str, str | None]:
    return {CHALLENGER: None} if held.aliases.get(CHALLENGER) == version else {}


def _waiting(held: Held, version: str) -> Waiting:
    waiting = find_waiting(held.entries)
    if waiting is None:
        raise ConfigError("no version waits for a person's word; `keypipe models` lists what is there")
    number = held.aliases.get(version, version).removeprefix("v")
    if number and number != waiting.version:
        raise ConfigError(f"v{waiting.version} waits for a person's word, not {version}")
    return waiting
