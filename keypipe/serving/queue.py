"""A bounded queue in front of a few worker threads, for a server that rather refuses than swells."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from keypipe.errors import PoseError

T = TypeVar("T")

_NEWEST_SHARE = 0.2  # weight of the latest job in the running mean of their seconds


class FullError(PoseError):
    """The queue is full.

    Attributes:
        retry_after_s: whole seconds, at least 1, after which the queue will have moved on.
    """

    def __init__(self, places: int, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"all {places} places are taken; try again in {retry_after_s} s")


class GoneError(Exception):
    """Whoever waited has left before the turn came."""


class BoundedQueue:
    """Takes jobs in the order of their coming; of the event loop's thread alone."""

    def __init__(self, workers: int, waiting: int) -> None:
        """Start the threads.

        Args:
            workers: jobs that run at the same time, at least 1.
            waiting: jobs that wait at most, at least 0.
        """
        self.places = workers + waiting
        self.taken = 0
        self._workers = workers
        self._free = asyncio.Semaphore(workers)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="predict")
        self._mean_s = 0.0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place, from before anything is read until the answer is made: that bounds the memory.

        Raises:
            FullError: all places are taken.
        """
        if self.taken >= self.places:
            raise FullError(self.places, self._seconds_to_pass())
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def run(self, job: Callable[[float], T], has_left: Callable[[], Awaitable[bool]]) -> T:
        """Wait for the turn and run a job in a thread.

        Args:
            job: takes the seconds that it has waited.
            has_left: tells, when the turn has come, whether nobody wants the result any more.

        Returns:
            What the job returns; its errors pass through.

        Raises:
            GoneError: nobody wants the result.
        """
        came = time.perf_counter()
        async with self._free:
            if await has_left():
                raise GoneError
            started = time.perf_counter()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._executor, job, started - came)
            finally:
                self._note(time.perf_counter() - started)

    def close(self) -> None:
        """End the threads, after the jobs that run."""
        self._executor.shutdown(wait=True)

    def _note(self, seconds: float) -> None:
        self._mean_s += _NEWEST_SHARE * (seconds - self._mean_s) if self._mean_s else seconds

    def _seconds_to_pass(self) -> int:
        return max(1, math.ceil(self.taken * self._mean_s / self._workers))
