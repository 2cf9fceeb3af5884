"""How long models take beside each other, and which of them a machine should use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

ROUNDS = 5
"""How often each program gets its turn, so that a machine that slows down meets all of them."""

MIN_RUNS = 2
MAX_RUNS = 200
"""Runs in a turn, at least and at most, however long one takes."""

CLOSE = 1.1
"""Programs within this factor of the fastest count as equally fast: less is noise on a machine that does other work."""

Program = Callable[[], object]


class Timing(msgspec.Struct, frozen=True):
    """How long a program takes: median and 95th percentile in milliseconds over so many runs."""

    median_ms: float
    p95_ms: float
    runs: int


class Setting(msgspec.Struct, frozen=True, order=True):
    """What was measured: images in a batch, and threads to compute with."""

    batch: int
    threads: int


class Measured(msgspec.Struct, frozen=True):
    """The forward passes of some models in one setting.

    Attributes:
        setting: batch and threads.
        timings: for each model its time for the whole batch.
    """

    setting: Setting
    timings: dict[str, Timing]


def measure(
    programs: Mapping[str, Program], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Time programs in turn.

    Each has ``ROUNDS`` turns; a turn is one run that does not count, which wakes threads and fills caches after the
    others, and then as many runs as fit.

    Args:
        programs: by name, in the order of their turns.
        seconds: about how long each may take in all.
        clock: gives the time in seconds.

    Returns:
        The timing of each.
    """
    runs = {name: _choose_runs(program, seconds, clock) for name, program in programs.items()}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            program()
            times[name] += [_time(program, clock) for _ in range(runs[name])]
    return {name: _to_timing(values) for name, values in times.items()}


def _choose_runs(program: Program, seconds: float, clock: Callable[[], float]) -> int:
    program()  # the first run allocates
    took = max(_time(program, clock), 1e-6)
    return int(min(MAX_RUNS, max(MIN_RUNS, seconds / ROUNDS / took)))


def _time(program: Program, clock: Callable[[], float]) -> float:
    started = clock()
    program()
    return clock() - started


def _to_timing(seconds: Sequence[float]) -> Timing:
    median, p95 = np.percentile(seconds, [50, 95]) * 1000
    return Timing(float(median), float(p95), len(seconds))


class Advice(msgspec.Struct, frozen=True):
    """Which model to use for batches of a size.

    Attributes:
        setting: the batch, and the number of threads that the model is fastest with.
        best: the model to use.
        median_ms: its time for the batch.
        speedup: how many times faster it is than the reference with the threads that the reference is fastest with.
        equals: others that are about as fast.
    """

    setting: Setting
    best: str
    median_ms: float
    speedup: float
    equals: list[str]


def advise(measured: Sequence[Measured], reference: str, preferred: Sequence[str]) -> Advice:
    """Choose the fastest model, or of several that are about as fast the one that is liked best.

    Args:
        measured: timings of all candidates and of the reference for one batch size, with one or more numbers of
            threads; every model counts with the one that suits it best.
        reference: the model that speed is told in multiples of.
        preferred: candidates, the one that is liked best first; the reference may be among them.

    Returns:
        The advice.
    """
    fastest: dict[str, tuple[float, Setting]] = {}
    for item in measured:
        for name, timing in item.timings.items():
            fastest[name] = min(fastest.get(name, (timing.median_ms, item.setting)), (timing.median_ms, item.setting))
    limit = CLOSE * min(fastest[name][0] for name in preferred if name in fastest)
    close = [name for name in preferred if name in fastest and fastest[name][0] <= limit]
    median_ms, setting = fastest[close[0]]
    return Advice(setting, close[0], median_ms, fastest[reference][0] / median_ms, close[1:])
