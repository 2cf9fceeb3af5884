"""One at a time over a real server: holders that live, are killed, are suspended, on this machine and another one.

What is of "another machine" is a process of this one whose lease names another host, so that nobody can ask whether it
lives.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping

import pytest

from tasks.registry.moves import lease
from tasks.registry.moves.lease import TAKER, HeldError, LostError, hold
from tasks.tracking.models.registry import Registry
from tests.flows.toy import wait_until
from tests.patience import PATIENCE
from tests.tasks.registry.moves.test_aliases import start

HOLDS = """
import time
from tasks.registry.moves import lease
from tasks.registry.moves.aliases import open_registry
from tasks.registry.moves.lease import LostError
from tasks.tracking.models.registry import Registry

if {elsewhere}:
    lease.own_process = lambda: "another-machine:7:a mark"
with lease.hold(Registry(root, {name!r}), "test", "anna", term={term}) as mine:
    print("holds", flush=True)
    sys.stdin.readline()
    if {step}:
        time.time = lambda real=time.time: real() + {step}
    try:
        mine.note("what", "anna was here")
        print("still", flush=True)
    except LostError as error:
        print(f"lost: {{error}}", flush=True)
    sys.stdin.readline()
"""


class Holder:
    """A process that holds the lease, and does something with it when it is told to."""

    def __init__(self, registry: Registry, *, elsewhere: bool = False, term: float = 60.0, step: float = 0.0) -> None:
        code = HOLDS.format(elsewhere=elsewhere, term=term, step=step, name=registry.name)
        self.process = start(registry, code, stdin=subprocess.PIPE)
        assert self.line() == "holds"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def act(self) -> str:
        """Have it write into its lease; returns what became of that."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)


@pytest.fixture
def holders(registry: Registry) -> Iterator[list[Holder]]:
    found: list[Holder] = []
    yield found
    for holder in found:
        holder.process.kill()
        holder.process.communicate(timeout=PATIENCE)
    registry.delete_named(named(registry))


def named(registry: Registry) -> str:
    return f"{registry.name}.lease.test"


def beat(registry: Registry) -> str:
    return (registry.read_named(named(registry)) or {})[lease.BEAT]


def test_a_holder_on_this_machine_that_was_killed_is_followed_within_seconds(
    registry: Registry, holders: list[Holder]
) -> None:
    holders.append(Holder(registry))
    with pytest.raises(HeldError, match=r"^anna holds "), hold(registry, "test", "ben", patience=0):
        raise AssertionError
    assert holders[0].act() == "still"
    holders[0].send(signal.SIGKILL)
    holders[0].process.wait(PATIENCE)
    left: list[Mapping[str, str]] = []
    with hold(registry, "test", "ben", patience=0, on_dead=left.append):
        assert [tags["what"] for tags in left] == ["anna was here"]
    assert registry.read_named(named(registry)) is None


def test_a_holder_on_a_machine_that_is_gone_is_followed_by_who_has_no_patience(
    registry: Registry, holders: list[Holder]
) -> None:
    """A retraining has none; a lease of a container that was removed would keep every later night from training."""
    holders.append(Holder(registry, elsewhere=True))
    with pytest.raises(HeldError, match=r"^anna holds "), hold(registry, "test", "ben", patience=0):
        raise AssertionError("its signs of life are seen")
    holders[0].process.kill()
    registry.delete_named(named(registry))
    holders.append(Holder(registry, elsewhere=True, term=6.0))
    holders[1].send(signal.SIGKILL)
    with hold(registry, "test", "ben", patience=0) as mine:
        mine.check()


@pytest.mark.slow
def test_a_holder_that_was_suspended_keeps_what_nobody_wanted_and_loses_what_another_took(
    registry: Registry, holders: list[Holder]
) -> None:
    holders.append(Holder(registry, elsewhere=True, term=15.0))
    holders[0].send(signal.SIGSTOP)
    time.sleep(17.0)  # longer than the term
    holders[0].send(signal.SIGCONT)
    assert holders[0].act() == "still"

    holders[0].process.kill()
    holders.append(Holder(registry, elsewhere=True, term=15.0))
    holders[1].send(signal.SIGSTOP)
    with hold(registry, "test", "ben", patience=0) as mine:
        holders[1].send(signal.SIGCONT)
        assert holders[1].act().startswith(f"lost: {named(registry)}: ")
        mine.check()
        assert "what" not in (registry.read_named(named(registry)) or {}), "it wrote into the lease of another"
    assert registry.read_named(named(registry)) is None


def test_a_holder_whose_lease_is_just_being_taken_gives_it_up(registry: Registry, holders: list[Holder]) -> None:
    """Between the taker's last look at its sign of life and the end of the lease."""
    holders.append(Holder(registry, elsewhere=True, term=6.0))
    holders[0].send(signal.SIGSTOP)

    def wake(_tags: Mapping[str, str]) -> None:
        holders[0].send(signal.SIGCONT)
        assert holders[0].act().startswith("lost: ")

    with hold(registry, "test", "ben", patience=0, on_dead=wake) as mine:
        mine.check()


def test_a_taker_who_is_mistaken_steps_back(registry: Registry, holders: list[Holder]) -> None:
    """It saw no sign of life for a while, and then there is one."""
    holders.append(Holder(registry, elsewhere=True))
    tags = registry.read_named(named(registry)) or {}
    wait_until(lambda: beat(registry) != tags[lease.BEAT], "a sign of life")
    lease._remove_dead(registry, named(registry), tags, "ben", 60.0, pytest.fail)
    assert (registry.read_named(named(registry)) or {})[TAKER] == ""
    assert holders[0].act() == "still"


@pytest.mark.slow
@pytest.mark.parametrize("step", [86400.0, -86400.0])
def test_a_clock_that_steps_moves_no_lease(registry: Registry, holders: list[Holder], step: float) -> None:
    holders.append(Holder(registry, step=step))
    assert holders[0].act() == "still"
    before = beat(registry)
    wait_until(lambda: beat(registry) != before, "a sign of life")
    with pytest.raises(HeldError), hold(registry, "test", "ben", patience=0):
        raise AssertionError


def test_a_server_that_is_away_for_a_while_costs_no_lease(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(registry, "test", "anna", term=10.0) as mine:
        with monkeypatch.context() as away:
            away.setattr(registry, "read_named", _fail)
            time.sleep(10.5)
            with pytest.raises(LostError, match="did not reach the registry for 10 s"):
                mine.check()
        mine.check()
    assert registry.read_named(named(registry)) is None


def _fail(_name: str) -> None:
    raise lease.PoseError("it does not answer")
