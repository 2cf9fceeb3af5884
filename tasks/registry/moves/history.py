"""The history of a registered model: every move of an alias, in order, and what follows from them."""

from __future__ import annotations

import getpass
import platform
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from keypipe.errors import ConfigError
from tasks.tracking.models.registry import Registry

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

OUTSIDE = "not keypipe"
"""Who made a move that was only found."""

MAX_WHY = 1000

What = Literal[
    "register",
    "promote",
    "rollback",
    "dismiss",
    "found",
    "prune",
    "judge",
    "ask",
    "approve",
    "reject",
    "expire",
]


class Move(msgspec.Struct, frozen=True):
    """An alias that went from one version to another; None: it was not there, or is no longer."""

    alias: str
    before: str | None = msgspec.field(name="from")
    after: str | None = msgspec.field(name="to")

    def __str__(self) -> str:
        return f"{self.alias} {_name(self.before)} -> {_name(self.after)}"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One event.

    Attributes:
        id: unlike every other's.
        at: when, ISO 8601, UTC; of what was found: when it was noticed.
        who: user and machine.
        what: kind of the event.
        why: the reason that was given.
        moves: what it did to aliases.
        note: what else is to be known.
        version: what was judged, or asked about.
        until: how long an answer is waited for, ISO 8601, UTC.
        draw: number of the draw of the splits that judged.
    """

    id: str
    at: str
    who: str
    what: What
    why: str = ""
    moves: tuple[Move, ...] = ()
    note: str = ""
    version: str = ""
    until: str = ""
    draw: int = 0


def ever_champions(entries: Iterable[Entry]) -> list[str]:
    """Return every version that was ever in use, in the order in which it first was."""
    moves = (move for entry in entries for move in entry.moves if move.alias == CHAMPION)
    return list(dict.fromkeys(move.after for move in moves if move.after is not None))


def count_judgements(entries: Iterable[Entry], draw: int) -> int:
    """Return how many challengers the test split of one draw of the splits has judged."""
    return sum(entry.what == "judge" and entry.draw == draw for entry in entries)


def me() -> str:
    """Return who runs this process, such as ``anna@barn-pc``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{platform.node()}"


def new_entry(what: What, who: str, why: str = "", moves: Iterable[Move] = (), note: str = "") -> Entry:
    """Make an entry of now.

    Raises:
        ConfigError: the reason is too long to be kept.
    """
    if len(why) > MAX_WHY:
        raise ConfigError(f"the reason has {len(why)} characters; the history keeps {MAX_WHY}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Entry(id=uuid.uuid4().hex, at=now, who=who, what=what, why=why, moves=tuple(moves), note=note)


def read(registry: Registry) -> list[Entry]:
    """Return all entries, oldest first."""
    found = registry.read_history()
    return [parse(found[key]) for key in sorted(found, key=int)]


def parse(text: str) -> Entry:
    """Parse an entry."""
    return msgspec.json.decode(text, type=Entry)


def to_text(entry: Entry) -> str:
    """Return an entry as it is kept."""
    return msgspec.json.encode(entry).decode()


def append(registry: Registry, entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    """Add an entry behind all others; nothing that is there is ever replaced.

    Args:
        registry: the registered model.
        entries: the history as it was read.
        entry: the new one.

    Returns:
        The history with it, and with what others have added in the meantime.
    """
    known = list(entries)
    while not registry.add_history(f"{len(known) + 1:06d}", to_text(entry)):
        known = read(registry)
    return [*known, entry]


def fold(entries: Iterable[Entry]) -> dict[str, str]:
    """Return where the aliases are after all these moves."""
    state: dict[str, str] = {}
    for move in (move for entry in entries for move in entry.moves):
        if move.after is None:
            state.pop(move.alias, None)
        else:
            state[move.alias] = move.after
    return state


def find_moves(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Move, ...]:
    """Return the moves that lead from one state of the aliases to another."""
    names = sorted({*before, *after})
    moves = (Move(name, before.get(name), after.get(name)) for name in names)
    return tuple(move for move in moves if move.before != move.after)


def champions(entries: Iterable[Entry]) -> list[str]:
    """Return the versions that stand behind the one in use: what a rollback leads to, and a rollback after that.

    A promotion puts a version on top; a rollback takes the top away, so that what failed is not come back to.

    Returns:
        Versions, the one in use last; a version that was in use several times stands there once.
    """
    stack: list[str] = []
    for entry in entries:
        for move in entry.moves:
            if move.alias != CHAMPION or move.after is None:
                continue
            if entry.what == "rollback":
                top = move.after if move.after in stack else move.before
                del stack[stack.index(top) if top in stack else len(stack) :]
            elif move.after in stack:
                stack.remove(move.after)
            stack.append(move.after)
    return stack


def last_champion_move(entries: Sequence[Entry]) -> Entry | None:
    """Return the entry that put the version into use that is in use."""
    moved = (entry for entry in reversed(entries) if any(move.alias == CHAMPION for move in entry.moves))
    return next(moved, None)


def versions_of(entries: Iterable[Entry]) -> set[str]:
    """Return the versions that some entries speak of."""
    moves = [move for entry in entries for move in entry.moves]
    return {number for move in moves for number in (move.before, move.after) if number is not None}


def _name(version: str | None) -> str:
    return "none" if version is None else f"v{version}"
