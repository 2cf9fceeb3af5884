"""Only one process at a time, among all machines that share a registry.

MLflow has no lock and no compare-and-swap, but of several who create a registered model of one name at once only one
succeeds. So a lease is a registered model of an agreed name: its holder is who created it, tags say who that is, and a
tag that changes again and again says that the holder lives. A waiting process takes a holder for dead whose tag has not
changed for the lease's whole term by its own clock, so that clocks need not agree; sooner where the holder's process is
known to be gone. Removing the lease of a dead holder is itself done under a lease, named after that holder: of several
who wait, one does it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from keypipe.errors import PoseError
from tasks.tracking.machine import own_process, process_is_dead
from tasks.tracking.models.registry import Registry

HOLDER = "keypipe.lease.holder"
PROCESS = "keypipe.lease.process"
WHO = "keypipe.lease.who"
SINCE = "keypipe.lease.since"
TERM = "keypipe.lease.term"
BEAT = "keypipe.lease.beat"

TERM_SECONDS = 20.0
"""How long a lease holds without a sign of life."""

_SIGNS = 4  # of life in a term
_POLL_SECONDS = 0.3

OnDead = Callable[[Mapping[str, str]], None]
"""Gets the tags of a dead holder's lease, before it is removed and while nobody else holds it."""


class HeldError(PoseError):
    """Another process holds the lease."""


class LostError(PoseError):
    """The lease ran out under its holder, who was suspended or could not reach the server."""


class Lease:
    """A lease that this process holds."""

    def __init__(self, registry: Registry, name: str, who: str, term: float) -> None:
        self.name = name
        self.id = uuid.uuid4().hex
        self._registry = registry
        self._term = term
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._who = who
        self._sign = 0
        self._good_until = 0.0
        self._lost = False
        self._abandoned = False
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def try_acquire(self) -> bool:
        """Acquire it unless somebody holds it."""
        asked = time.monotonic()
        tags = {HOLDER: self.id, PROCESS: own_process(), WHO: self._who, SINCE: self._since}
        tags |= {TERM: f"{self._term:g}", BEAT: "0"}
        made = self._registry.create_named(self.name, tags, f"Held by {self._who} since {self._since}; keypipe's lock.")
        if made:
            self._good_until = asked + self._term
            threading.Thread(target=self._live, name=f"lease {self.name}", daemon=True).start()
        return made

    def check(self) -> None:
        """Make sure that it is still ours.

        Raises:
            LostError: it ran out.
        """
        if self._lost or time.monotonic() >= self._good_until:
            raise LostError(
                f"{self.name}: this process did not reach the registry for {self._term:g} s and lost its turn;"
                " look at `keypipe models --history`, then try again"
            )

    def confirm(self) -> None:
        """Ask the registry whether it is still ours, however long ago the last sign of life was.

        While the registry does not answer, nobody else can take it.

        Raises:
            LostError: another process took it, or it is gone.
        """
        try:
            mine = (self._registry.read_named(self.name) or {}).get(HOLDER) == self.id
        except PoseError:
            return
        if not mine:
            raise LostError(f"{self.name}: another process took the turn of this one; see `keypipe models --history`")

    def note(self, key: str, value: str) -> None:
        """Write something into the lease for whoever finds it if this process dies."""
        self.check()
        self._registry.tag_named(self.name, key, value)

    def release(self) -> None:
        """Let others have it; one that ran out is left to those who wait for it."""
        self._ended.set()
        if self._abandoned:
            return
        with self._lock:
            try:
                self.check()
                mine = (self._registry.read_named(self.name) or {}).get(HOLDER) == self.id
            except PoseError:
                return
            if mine:
                self._registry.delete_named(self.name)

    def abandon(self) -> None:
        """Give no more signs of life, but leave the lease and its notes to whoever comes next."""
        self._abandoned = True
        self._ended.set()

    def _live(self) -> None:
        while not self._ended.wait(self._term / _SIGNS):
            with self._lock:
                if self._ended.is_set() or not self._give_sign():
                    return

    def _give_sign(self) -> bool:
        asked = time.monotonic()
        try:
            if (self._registry.read_named(self.name) or {}).get(HOLDER) != self.id:
                self._lost = True
                return False
            self._sign += 1
            self._registry.tag_named(self.name, BEAT, str(self._sign))
        except PoseError:
            return True  # the server may come back before the term is over
        self._good_until = asked + self._term
        return True


class _Sighting(msgspec.Struct):
    """A holder as another process sees it: its sign of life, and since when that one has stood."""

    holder: str
    beat: str
    since: float


@contextmanager
def hold(
    registry: Registry,
    purpose: str,
    who: str,
    *,
    term: float = TERM_SECONDS,
    patience: float = 3 * TERM_SECONDS,
    on_dead: OnDead = lambda _tags: None,
) -> Iterator[Lease]:
    """Hold a lease while the block runs.

    Args:
        registry: the registered model that the lease is about.
        purpose: what it is for, such as ``moves``; other purposes have leases of their own.
        who: tells others who holds it.
        term: seconds without a sign of life after which the holder counts as dead.
        patience: seconds to wait for another holder; 0: only a dead one is waited for.
        on_dead: called with what a dead holder left.

    Raises:
        HeldError: another process holds it.
    """
    lease = _acquire(registry, f"{registry.name}.lease.{purpose}", who, term, patience, on_dead)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(registry: Registry, name: str, who: str, term: float, patience: float, on_dead: OnDead) -> Lease:
    lease = Lease(registry, name, who, term)
    began = time.monotonic()
    seen: _Sighting | None = None
    while not lease.try_acquire():
        tags = registry.read_named(name)
        if tags is None:
            continue  # released just now
        now = time.monotonic()
        if seen is None or (seen.holder, seen.beat) != (tags.get(HOLDER), tags.get(BEAT)):
            seen = _Sighting(tags.get(HOLDER, ""), tags.get(BEAT, ""), now)
        if _is_over(tags, now - seen.since):
            _remove_dead(registry, name, tags, who, term, on_dead)
        elif now - began > patience and not _may_be_dead(tags):
            raise HeldError(f"{tags.get(WHO, 'another process')} holds {name} since {tags.get(SINCE, 'a while')}")
        else:
            time.sleep(_POLL_SECONDS)
    return lease


def _is_over(tags: Mapping[str, str], silent_seconds: float) -> bool:
    term = float(tags.get(TERM, TERM_SECONDS))
    # A process of the same name and number on a machine of the same name may be another's: one sign must be missing.
    return silent_seconds > term or (_may_be_dead(tags) and silent_seconds > 1.5 * term / _SIGNS)


def _may_be_dead(tags: Mapping[str, str]) -> bool:
    return process_is_dead(tags.get(PROCESS, ""))


def _remove_dead(
    registry: Registry, name: str, tags: Mapping[str, str], who: str, term: float, on_dead: OnDead
) -> None:
    claim = _acquire(registry, f"{name}.{tags.get(HOLDER, '')[:8]}", who, term, 3 * term, lambda _tags: None)
    try:
        now = registry.read_named(name)
        if now is not None and (now.get(HOLDER), now.get(BEAT)) == (tags.get(HOLDER), tags.get(BEAT)):
            on_dead(now)
            claim.check()
            registry.delete_named(name)
    finally:
        claim.release()
