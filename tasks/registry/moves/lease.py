"""Only one process at a time, among all machines that share a registry.

MLflow has no lock and no compare-and-swap, but of several who create a registered model of one name at once only one
succeeds. So a lease is a registered model of an agreed name: its holder is who created it, tags say who that is, and a
tag that changes again and again says that the holder lives. A waiting process takes a holder for dead whose tag has not
changed for the lease's whole term by its own clock, so that clocks need not agree; sooner where the holder's process is
known to be gone. Removing the lease of a dead holder is itself done under a lease, named after that holder: of several
who wait, one does it.

A holder that gave no sign for a whole term, suspended or cut off, keeps a lease that nobody is taking. Who takes it
says so in a tag and looks at the sign of life once more; who wakes up gives a sign and looks at that tag. Whichever of
the two comes second sees the other.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from keypipe.errors import PoseError
from tasks.tracking.machine import own_process, process_is_alive, process_is_dead
from tasks.tracking.models.registry import Registry

HOLDER = "keypipe.lease.holder"
PROCESS = "keypipe.lease.process"
WHO = "keypipe.lease.who"
SINCE = "keypipe.lease.since"
TERM = "keypipe.lease.term"
BEAT = "keypipe.lease.beat"
TAKER = "keypipe.lease.taker"

TERM_SECONDS = 60.0
"""How long a lease holds without a sign of life: a machine that is too busy for one in a minute hardly works at all."""

_SIGNS = 12  # of life in a term
_POLL_SECONDS = 0.3

OnDead = Callable[[Mapping[str, str]], None]
"""Gets the tags of a dead holder's lease, before it is removed and while nobody else holds it."""


def _now() -> float:
    """Return seconds that no correction of the clock moves; on Linux a sleep of the machine is part of them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


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
        self._lock = threading.RLock()

    def try_acquire(self) -> bool:
        """Acquire it unless somebody holds it."""
        asked = _now()
        tags = {HOLDER: self.id, PROCESS: own_process(), WHO: self._who, SINCE: self._since}
        tags |= {TERM: f"{self._term:g}", BEAT: "0"}
        made = self._registry.create_named(self.name, tags, f"Held by {self._who} since {self._since}; keypipe's lock.")
        if made:
            self._good_until = asked + self._term
            threading.Thread(target=self._live, name=f"lease {self.name}", daemon=True).start()
        return made

    def check(self) -> None:
        """Make sure that it is still ours; the registry is asked where that is not certain.

        Raises:
            LostError: it ran out, and another process took it or the registry does not answer.
        """
        if not self._lost and _now() >= self._good_until:
            with self._lock:
                self._give_sign()
        if self._lost or _now() >= self._good_until:
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
        """Write something into the lease for whoever finds it if this process dies.

        Raises:
            LostError: it is no longer ours.
        """
        self.check()
        self.confirm()  # or it would be written into the lease of another
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
        """Tell that this process lives; False where the lease is lost."""
        asked = _now()
        late = asked >= self._good_until
        try:
            if not self._is_ours(late):
                return False
            self._sign += 1
            self._registry.tag_named(self.name, BEAT, str(self._sign))
            if late and not self._is_ours(late):
                return False
        except PoseError:
            return True  # the server may come back before the term is over
        self._good_until = asked + self._term
        return True

    def _is_ours(self, late: bool) -> bool:
        tags = self._registry.read_named(self.name) or {}
        # In time, a taker is one who is mistaken about us: it sees the next sign and steps back.
        self._lost = tags.get(HOLDER) != self.id or (late and bool(tags.get(TAKER)))
        return not self._lost


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
        patience: seconds to wait for another holder; 0: only until it is known whether it lives.
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
    began = _now()
    seen: _Sighting | None = None
    lives = False
    while not lease.try_acquire():
        tags = registry.read_named(name)
        if tags is None:
            continue  # released just now
        now = _now()
        if seen is None or (seen.holder, seen.beat) != (tags.get(HOLDER), tags.get(BEAT)):
            lives = seen is not None or process_is_alive(tags.get(PROCESS, ""))
            seen = _Sighting(tags.get(HOLDER, ""), tags.get(BEAT, ""), now)
        if _is_over(tags, now - seen.since):
            _remove_dead(registry, name, tags, who, term, on_dead)
        elif lives and now - began > patience:
            raise HeldError(f"{tags.get(WHO, 'another process')} holds {name} since {tags.get(SINCE, 'a while')}")
        else:
            time.sleep(_POLL_SECONDS)
    return lease


def _is_over(tags: Mapping[str, str], silent_seconds: float) -> bool:
    term = float(tags.get(TERM, TERM_SECONDS))
    # A process of the same name and number on a machine of the same name may be another's: one sign must be missing.
    dead = process_is_dead(tags.get(PROCESS, ""))
    return silent_seconds > term or (dead and silent_seconds > 1.5 * term / _SIGNS)


def _remove_dead(
    registry: Registry, name: str, tags: Mapping[str, str], who: str, term: float, on_dead: OnDead
) -> None:
    claim = _acquire(registry, f"{name}.{tags.get(HOLDER, '')[:8]}", who, term, 3 * term, lambda _tags: None)
    try:
        registry.tag_named(name, TAKER, claim.id)
        now = registry.read_named(name) or {}
        if (now.get(HOLDER), now.get(BEAT), now.get(TAKER)) == (tags.get(HOLDER), tags.get(BEAT), claim.id):
            on_dead(now)
            claim.check()
            registry.delete_named(name)
        elif now.get(TAKER) == claim.id:
            registry.tag_named(name, TAKER, "")
    finally:
        claim.release()
