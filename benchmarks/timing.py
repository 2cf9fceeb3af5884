"""Runs commands in turn and reports medians, ratios and peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil


class Run(NamedTuple):
    """What one command took.

    Attributes:
        seconds: wall time.
        largest_mb: peak memory of its largest process, MB.
        total_mb: and of all together.
        processor_s: processor time of all its processes that were waited for, user and system.
    """

    seconds: float
    largest_mb: float
    total_mb: float
    processor_s: float = 0.0


def run(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> Run:
    """Run a command that must succeed.

    Memory is sampled twenty times a second over the command and its children, as proportional set size where
    the system tells it, so that memory shared between processes counts once.
    """
    before = os.times()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(env or os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    peak = [0.0, 0.0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak))
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    after = os.times()
    processor_s = after.children_user - before.children_user + after.children_system - before.children_system
    return Run(seconds, peak[0], peak[1], processor_s)


def _watch(pid: int, peak: list[float]) -> None:
    while True:
        try:
            parent = psutil.Process(pid)
            if parent.status() == psutil.STATUS_ZOMBIE:
                return
            sizes = [_size_mb(process) for process in (parent, *parent.children(recursive=True))]
        except psutil.NoSuchProcess:
            return
        peak[:] = max(peak[0], *sizes), max(peak[1], sum(sizes))
        time.sleep(0.05)


def _size_mb(process: psutil.Process) -> float:
    try:
        info = process.memory_full_info()
        return float(getattr(info, "pss", info.rss)) / 1e6
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0.0


def alternate(a: Callable[[], Run], b: Callable[[], Run], times: int) -> tuple[list[Run], list[Run]]:
    """Run two things in turn, so that a machine's drift meets both."""
    first: list[Run] = []
    second: list[Run] = []
    for _ in range(times):
        first.append(a())
        second.append(b())
    return first, second


def median(runs: Sequence[Run]) -> float:
    """Return the median of the wall times."""
    return statistics.median(item.seconds for item in runs)


def ratios(first: Sequence[Run], second: Sequence[Run]) -> str:
    """Return the median and the range of the ratio of pairs of runs."""
    values = sorted(a.seconds / b.seconds for a, b in zip(first, second, strict=True))
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"
