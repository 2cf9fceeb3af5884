"""The same work on many things in several threads, taken in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from keypipe.batch.sources import Source
from keypipe.images.opencv import import_cv2

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""Things a thread that are begun before the oldest is taken, so that no thread waits for a slow one."""

FRAMES_AHEAD = 1
"""The same of a video's frames, which are large, and lie in memory until they are taken."""


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_workers(sources: Sequence[Source], threads: int | None) -> int:
    """Return how many threads predict at the same time; one of them has all cores to itself.

    Args:
        sources: what is predicted on. A single image, and a stream, whose frames come one by one, have one worker.
        threads: to compute with; None: one for each core.
    """
    if any(source.stream for source in sources):
        return 1
    most = threads or count_cores()
    return most if any(source.is_video for source in sources) else min(most, len(sources))


@contextmanager
def opencv_in_one_thread(wanted: bool) -> Iterator[None]:
    """Let OpenCV compute in the thread that calls it, where others keep the cores busy: its own would wait for them."""
    if not wanted:
        yield
        return
    cv2 = import_cv2()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class InOrder(Generic[Item, Result]):
    """Results in the order of their items, made by several threads a little ahead of who takes them.

    onnxruntime, OpenCV and the encoders let other threads run while they compute, so a thread a core keeps all of them
    busy. With one worker everything happens in the thread that takes the results.
    """

    def __init__(self, work: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = AHEAD) -> None:
        """Take the work; nothing begins before the first result is asked for.

        Args:
            work: is called with one item, in any thread; what it raises is raised where its result is taken.
            items: are asked for by who takes the results, a few ahead.
            workers: threads.
            ahead: things a thread that are begun before the oldest is taken.
        """
        self._ahead = ahead
        self._work, self._items, self._workers = work, items, workers
        self._begun: deque[Future[Result]] = deque()

    def __iter__(self) -> Generator[Result]:
        """Yield the results; where that is left early, what is not begun is dropped and what is, waited for."""
        if self._workers <= 1:
            yield from map(self._work, self._items)
            return
        with ThreadPoolExecutor(self._workers, "keypipe-predict") as pool:
            try:
                for item in self._items:
                    self._begun.append(pool.submit(self._work, item))
                    if len(self._begun) > self._ahead * self._workers:
                        yield self._take()
                while self._begun:
                    yield self._take()
            finally:
                self._begun = deque(future for future in self._begun if not future.cancel())

    def rest(self) -> Iterator[Result]:
        """Yield what was finished all the same after results were left early, in order."""
        while self._begun:
            future = self._begun.popleft()
            if future.exception() is None:
                yield future.result()

    def _take(self) -> Result:
        result = self._begun[0].result()  # who is interrupted here finds it in the rest
        self._begun.popleft()
        return result
