"""Moving aliases: one process at a time, recorded, and noticed where it was not keypipe that moved them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from ruamel.yaml.comments import CommentedMap

from keypipe.errors import ConfigError, PoseError
from tasks.registry.moves import history
from tasks.registry.moves.history import CHALLENGER, CHAMPION, OUTSIDE, PREVIOUS, Entry, Move, What
from tasks.registry.moves.lease import HeldError, Lease, hold
from tasks.registry.settings import model_name
from tasks.tracking.history import try_show
from tasks.tracking.models.registry import Registry, Version
from tasks.tracking.tags import CHAMPION as CHAMPION_TAG

INTENT = "keypipe.lease.intent"
"""Tag of the lease: the entry whose moves are under way, for whoever finds the lease if its holder dies."""

MOVES = "moves"


class MovedError(PoseError):
    """Somebody else moved an alias in the meantime, or holds the registry."""


class State(msgspec.Struct, frozen=True):
    """What a registry holds.

    Attributes:
        name: of the registered model.
        versions: newest first.
        aliases: the version of each.
        entries: the history, oldest first.
        remark: what could not be settled just now; usually empty.
    """

    name: str
    versions: list[Version]
    aliases: dict[str, str]
    entries: list[Entry]
    remark: str = ""


def open_registry(root: Path, document: CommentedMap | None = None) -> Registry:
    """Return the workspace's registered model, which need not exist yet; of ``params.yaml``, where it has been read."""
    return Registry(root, model_name(root, document))


def read_state(root: Path) -> State:
    """Read versions, aliases and history; moves that were made outside keypipe are recorded on the way.

    Raises:
        PoseError: the server does not answer.
    """
    registry = open_registry(root)
    if registry.untouched:
        return State(registry.name, [], {}, [])
    entries, aliases = history.read(registry), registry.aliases()
    remark = ""
    if history.find_moves(history.fold(entries), aliases):
        try:
            with holding(registry, history.me(), patience=0) as held:
                entries, aliases = held.entries, held.aliases
        except HeldError as error:
            remark = f"a move is under way: {error}"
    return State(registry.name, registry.versions(), aliases, entries, remark)


class Held:
    """The registry while this process alone moves its aliases.

    Attributes:
        aliases: the version of each, as they are now.
        entries: the history up to now.
    """

    def __init__(self, registry: Registry, lease: Lease, who: str) -> None:
        self._registry, self._lease, self._who = registry, lease, who
        self.aliases = registry.aliases()
        self.entries = history.read(registry)
        self._notice("noticed")

    def _notice(self, word: str) -> tuple[Move, ...]:
        """Record moves that no entry tells of."""
        moves = history.find_moves(history.fold(self.entries), self.aliases)
        if moves:
            note = f"made outside keypipe, {word} by {self._who}"
            self.record(history.new_entry("found", OUTSIDE, moves=moves, note=note))
        return moves

    def record(self, entry: Entry) -> None:
        """Add an entry to the history."""
        self._lease.check()
        self.entries = history.append(self._registry, self.entries, entry)

    def move(self, what: What, wanted: Mapping[str, str | None], why: str, note: str = "", version: str = "") -> Entry:
        """Move aliases and record it.

        Args:
            what: kind of the event.
            wanted: for each alias its version, None: to take it away. In this order.
            why: the reason.
            note: what else is to be known.
            version: what was asked about.

        Raises:
            LostError: another process has taken this one for dead.
            MovedError: somebody moved them in MLflow at the same moment.
        """
        moves = [Move(alias, self.aliases.get(alias), number) for alias, number in wanted.items()]
        entry = history.new_entry(what, self._who, why, [move for move in moves if move.before != move.after], note)
        entry = msgspec.structs.replace(entry, version=version)
        self._lease.note(INTENT, history.to_text(entry))
        try:
            for move in entry.moves:
                self._lease.check()
                carry_out(self._registry, move)
            self.record(entry)
        except BaseException:
            # Whoever comes next finds the intent in the lease, and settles it when this process is gone or silent.
            self._lease.abandon()
            raise
        self.aliases = self._registry.aliases()
        self._lease.note(INTENT, "")
        _tell_trainings(self._registry, entry)
        if moved := self._notice("at the same moment, noticed"):
            raise MovedError(
                f"{', '.join(map(str, entry.moves))} was done and recorded, but somebody moved aliases in MLflow at the"
                f" same moment: {', '.join(map(str, moved))}; look at `keypipe models`"
            )
        return entry


@contextmanager
def holding(registry: Registry, who: str, patience: float = 60.0) -> Iterator[Held]:
    """Hold the registry: nobody else moves its aliases by keypipe while the block runs.

    Raises:
        HeldError: another process does; says who.
    """

    def settle(tags: Mapping[str, str]) -> None:
        if tags.get(INTENT):
            settle_intent(registry, history.parse(tags[INTENT]), who)

    with hold(registry, MOVES, who, patience=patience, on_dead=settle) as lease:
        yield Held(registry, lease, who)


def settle_intent(registry: Registry, entry: Entry, who: str) -> None:
    """Finish and record a move whose process died in the middle of it; one that it had not begun is dropped."""
    entries, aliases = history.read(registry), registry.aliases()
    if any(known.id == entry.id for known in entries):
        return
    done = [move for move in entry.moves if aliases.get(move.alias) == move.after]
    if not done:
        return
    for move in entry.moves:
        if move not in done:
            carry_out(registry, move)
    note = f"{entry.note}; " if entry.note else ""
    late = msgspec.structs.replace(entry, note=f"{note}its process ended in the middle of it; recorded by {who}")
    history.append(registry, entries, late)


def carry_out(registry: Registry, move: Move) -> None:
    """Move one alias."""
    if move.after is None:
        registry.delete_alias(move.alias)
    else:
        registry.set_alias(move.alias, move.after)


def _tell_trainings(registry: Registry, entry: Entry) -> None:
    """Say in the run of a training whether its version is in use; the registry knows it, whatever becomes of this."""
    for move in entry.moves:
        if move.alias == CHAMPION:
            for number, how in ((move.before, "was in use until"), (move.after, "is in use since")):
                told = f"v{number} of {registry.name} {how} {entry.at[:16].replace('T', ' ')} UTC"
                with suppress(PoseError):
                    version = registry.find_version(number) if number else None
                    if version is not None and (run_id := version.tags.get("keypipe.run")):
                        try_show(registry.root, run_id, {CHAMPION_TAG: told})


# ------------------------------------------------------------------------------------------- what people ask for


def promote(root: Path, version: str, why: str, who: str = "", instead_of: str | None = None) -> Entry:
    """Put a version into use: ``champion`` moves to it, ``previous`` to the one that was in use.

    Args:
        root: the workspace.
        version: its number, ``v3`` or an alias such as ``challenger``.
        why: the reason, for the history.
        who: who does it; default: the user of this process.
        instead_of: number of the version that must be in use, "" for none; None: whichever is.

    Raises:
        ConfigError: no such version, or it is in use already.
        MovedError: another process moved ``champion`` in the meantime.
    """
    registry = open_used(root)
    before = registry.aliases()
    number = resolve(registry, version, before)
    if before.get(CHAMPION) == number:
        raise ConfigError(f"v{number} of {registry.name} is in use already")
    with _held_as_seen(registry, before, who) as held:
        if instead_of is not None and held.aliases.get(CHAMPION, "") != instead_of:
            raise MovedError(f"{_tell_last(held.entries)} in the meantime; nothing was changed by this command")
        wanted = aliases_in_use(held, registry, number, "promote")
        if held.aliases.get(CHALLENGER) == number:
            wanted[CHALLENGER] = None
        return held.move("promote", wanted, why)


def rollback(root: Path, why: str = "", who: str = "") -> Entry:
    """Put the version into use again that was in use before.

    ``previous`` then names the one before that, so that a second rollback leads further back.

    Raises:
        ConfigError: none was in use before.
        MovedError: another process moved ``champion`` in the meantime.
    """
    registry = open_used(root)
    before = registry.aliases()
    with _held_as_seen(registry, before, who) as held:
        there = {version.number for version in registry.versions()}
        now = held.aliases.get(CHAMPION)
        earlier = [number for number in history.champions(held.entries) if number in there and number != now]
        target = held.aliases.get(PREVIOUS) or (earlier[-1] if earlier else None)
        if target is None or target == now:
            raise ConfigError(f"no version of {registry.name} was in use before {f'v{now}' if now else 'this'}")
        return held.move("rollback", aliases_in_use(held, registry, target, "rollback"), why)


def challenge(root: Path, version: str, why: str, who: str = "", note: str = "") -> Entry:
    """Let ``challenger`` name a version that is to be compared with the one in use."""
    registry = open_used(root)
    number = resolve(registry, version, registry.aliases())
    with holding_or_told(registry, who) as held:
        return held.move("register", {CHALLENGER: number}, why, note)


def dismiss(root: Path, why: str, who: str = "") -> Entry:
    """Take ``challenger`` away: the version will not be put into use.

    Raises:
        ConfigError: there is no challenger.
    """
    registry = open_used(root)
    with holding_or_told(registry, who) as held:
        if CHALLENGER not in held.aliases:
            raise ConfigError(f"{registry.name} has no challenger")
        return held.move("dismiss", {CHALLENGER: None}, why)


def resolve(registry: Registry, version: str, aliases: Mapping[str, str]) -> str:
    """Return the number of the version that a name on the command line means.

    Raises:
        ConfigError: there is no such version, or MLflow says that it cannot be used.
    """
    number = aliases.get(version, version).removeprefix("v")
    versions = {known.number: known for known in registry.versions()}
    if number not in versions:
        known = ", ".join(f"v{name}" for name in versions) or "none; `keypipe register` makes the first"
        names = f"; aliases: {', '.join(sorted(aliases))}" if aliases else ""
        raise ConfigError(f"{version}: {registry.name} has no such version (it has: {known}{names})")
    if versions[number].status != "READY":
        raise ConfigError(f"v{number} of {registry.name} cannot be used: MLflow says {versions[number].status}")
    return number


def open_used(root: Path) -> Registry:
    """Return the workspace's registered model.

    Raises:
        ConfigError: it has no version yet.
    """
    registry = open_registry(root)
    if registry.untouched:
        raise ConfigError(f"{registry.name} has no version yet; `keypipe register` makes the first")
    return registry


def aliases_in_use(held: Held, registry: Registry, number: str, what: What) -> dict[str, str | None]:
    """Return the aliases that put a version into use: ``previous`` first, which harms least if it is all that happens.

    ``previous`` is the version that a rollback would then lead to.
    """
    move = history.new_entry(what, "", moves=[Move(CHAMPION, held.aliases.get(CHAMPION), number)])
    there = {version.number for version in registry.versions()}
    behind = [name for name in history.champions([*held.entries, move]) if name in there and name != number]
    return {PREVIOUS: behind[-1] if behind else None, CHAMPION: number}


@contextmanager
def holding_or_told(registry: Registry, who: str) -> Iterator[Held]:
    """Hold the registry for a command of a person.

    Raises:
        MovedError: another process does; says who.
    """
    try:
        with holding(registry, who or history.me()) as held:
            yield held
    except HeldError as error:
        raise MovedError(f"{error}; nothing was changed, try again later") from error


@contextmanager
def _held_as_seen(registry: Registry, before: Mapping[str, str], who: str) -> Iterator[Held]:
    """Hold the registry, unless ``champion`` is no longer what it was when this command began."""
    with holding_or_told(registry, who) as held:
        if held.aliases.get(CHAMPION) != before.get(CHAMPION):
            raise MovedError(f"{_tell_last(held.entries)} in the meantime; nothing was changed by this command")
        yield held


def _tell_last(entries: Sequence[Entry]) -> str:
    last = history.last_champion_move(entries)
    if last is None:
        return "the champion was moved"
    moves = ", ".join(map(str, last.moves))
    return f"{last.who} moved {moves} at {last.at}{f' ({last.why})' if last.why else ''}"
