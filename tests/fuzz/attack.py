"""Gives a reader mutated files: it owes a value or a ``PoseError``, in bounded time and memory."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from keypipe.errors import PoseError
from tests.fuzz.mutations import mutate
from tests.fuzz.readers import READERS

MAX_SECONDS = 5.0
"""Time of the processor that one input of a megabyte at most may take."""
MAX_MB = 1024
"""Memory that the reading of one may take beyond what the process has."""


class Stopped(BaseException):
    """A reader took more time than it may; no error that it could catch."""


class Tally:
    """What came of the inputs of a reader."""

    def __init__(self) -> None:
        self.values = self.refusals = 0
        self.slowest_s = 0.0

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.values + self.refusals


def attack(name: str, n_inputs: int, number: int) -> Tally:
    """Give a reader mutated files.

    Args:
        name: of the reader.
        n_inputs: how many files.
        number: which ones; equal numbers give equal files.

    Raises:
        BaseException: what is no ``PoseError``; hypothesis adds the number of the file.
    """
    reader = READERS[name]()
    tally = Tally()

    @seed(number)
    @settings(
        max_examples=n_inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(st.integers(0, (1 << 64) - 1))
    def try_one(which: int) -> None:
        content = mutate(reader.seeds, which)
        started = time.process_time()
        try:
            with _stopped_after(MAX_SECONDS):
                reader.read(content)
            tally.values += 1
        except PoseError as error:
            tally.refusals += 1
            if not str(error).strip():
                raise AssertionError("a refusal without a word") from error
        tally.slowest_s = max(tally.slowest_s, time.process_time() - started)

    with _bounded_memory():
        try_one()
    return tally


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Stopped(f"more than {seconds:g} s of the processor")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Let this process have so much more address space and no more; what wants more gets a ``MemoryError``."""
    with open("/proc/self/statm") as file:  # noqa: PTH123 - of the system, not of a workspace
        now = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (MAX_MB << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
