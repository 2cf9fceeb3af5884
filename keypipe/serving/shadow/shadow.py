"""A sample of what the model in use is asked goes to a challenger as well, when the answer is made already."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import queue
import random
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import ModelError, PoseError
from keypipe.serving.following.fetching import fetch_version
from keypipe.serving.following.in_use import InUse
from keypipe.serving.following.patience import Patience
from keypipe.serving.following.source import AwayError, ModelRef, ModelSource, Version
from keypipe.serving.model import Registered, ServedResult
from keypipe.serving.shadow.journal import Journal
from keypipe.serving.shadow.worker import Line, Opening, Sample, run

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Upper bounds of the buckets in which distances are counted, box diagonals."""

_WAITING = 4  # samples that wait at most; each holds an image file
_ANSWER_S = 60.0  # a challenger that takes longer is ended
_PATIENCE_S = 10.0  # for the thread to come to an end


class Shadowing(msgspec.Struct, frozen=True):
    """How a challenger does.

    Attributes:
        ref: what is asked as well, such as ``models:/cows@challenger``.
        version: the version that runs; empty if none does.
        problem: why none does; empty if one does.
        compared: images that both models have seen.
        dropped: images that were left out because others still waited.
        failed: images on which the challenger failed.
        unwritten: images that were compared, and whose lines could not be written.
        matched: objects that both found.
        unmatched: objects that one of them found alone.
        medians: images by the median distance of their keypoints: up to each of ``BOUNDS``, then above.
        largest: the same by the largest distance.
        median_sum: sum of the medians, box diagonals.
        largest_sum: sum of the largest ones.
    """

    ref: str
    version: str = ""
    problem: str = ""
    compared: int = 0
    dropped: int = 0
    failed: int = 0
    unwritten: int = 0
    matched: int = 0
    unmatched: int = 0
    medians: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    largest: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    median_sum: float = 0.0
    largest_sum: float = 0.0


class Shadow:
    """Feeds a challenger, from a thread of its own, and sums up how far it is from the model in use.

    Attributes:
        state: how it does; replaced whole.
    """

    def __init__(
        self,
        source: ModelSource,
        ref: ModelRef,
        in_use: InUse,
        *,
        share: float,
        journal: Journal,
        max_megapixels: float,
        poll_s: float,
        say: Callable[[str], None],
    ) -> None:
        """Nothing is asked yet.

        Args:
            source: the registry.
            ref: the challenger.
            in_use: the model that answers.
            share: of the answered images that the challenger sees, 0 to 1.
            journal: takes a line for each.
            max_megapixels: largest image.
            poll_s: seconds between two looks where the alias leads.
            say: is told of every change, in one line.
        """
        self._source, self._ref, self._in_use = source, ref, in_use
        self._share, self._journal, self._poll_s, self._say = share, journal, poll_s, say
        self._max_megapixels = max_megapixels
        self.state = Shadowing(str(ref))
        self._dropped = 0
        self._samples: queue.Queue[Sample | None] = queue.Queue(_WAITING)
        self._version: Version | None = None
        self._process: Any = None
        self._connection: Connection | None = None
        self._patience = Patience(poll_s)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def offer(self, content: bytes, result: ServedResult) -> None:
        """Let the challenger see an image that has been answered, by chance; never waits.

        Args:
            content: the image's file.
            result: the answer.
        """
        if self._version is None or random.random() >= self._share:
            return
        sample = Sample(content, result.model.path, result.thresholds, result.predictions, result.size_wh)
        try:
            self._samples.put_nowait(sample)
        except queue.Full:
            self._dropped += 1  # of the event loop's thread alone

    def now(self) -> Shadowing:
        """Return how it does."""
        return msgspec.structs.replace(self.state, dropped=self._dropped)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop; samples that wait are left out."""
        self._end.set()
        with contextlib.suppress(queue.Full):
            self._samples.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)

    def _run(self) -> None:
        next_look = 0.0
        try:
            while not self._end.is_set():
                if time.monotonic() >= next_look:
                    self._guarded(self._look)
                    next_look = time.monotonic() + self._poll_s
                with contextlib.suppress(queue.Empty):
                    sample = self._samples.get(timeout=max(0.0, next_look - time.monotonic()))
                    if sample is not None and self._connection is not None:
                        self._guarded(functools.partial(self._compare, sample))
        finally:
            self._stop()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a step of which nothing may reach the server: a shadow that fails is a shadow less."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - see above
            if self._version:
                self._patience.note_failure(self._version)
            self._stop()
            if self._end.is_set():
                return
            self._note(problem=str(error) if isinstance(error, PoseError) else f"{type(error).__name__}: {error}")

    # ----------------------------------------------------------------------------------- which version

    def _look(self) -> None:
        try:
            found = self._source.find(self._ref)
        except AwayError as error:
            self._note(problem=f"the registry {error.short}")
            return
        except PoseError as error:  # there is none, which is how it usually is
            self._stop()
            self._note(problem=str(error))
            return
        registered = self._in_use.model.registered
        if registered and str(found) == registered.uri:
            self._stop()
            self._note(problem=f"{found} is the model in use")
        elif found == self._version:
            self._note(problem="")
        elif self._patience.allows(found):
            self._stop()
            self._begin(found)

    def _begin(self, version: Version) -> None:
        """Start a process for a version and wait until it can be asked."""
        self._version = version
        with tempfile.TemporaryDirectory(prefix="keypipe-shadow-") as folder:
            path, example = fetch_version(self._source, version, Path(folder))
            registered = Registered(version.name, version.number, self._ref.alias)
            context = multiprocessing.get_context("spawn")  # a fork would hold copies of the server's locks
            self._connection, other = context.Pipe()
            opening = Opening(path, registered, example, self._max_megapixels)
            self._process = context.Process(target=run, args=(other, opening), name="shadow", daemon=True)
            self._process.start()
            other.close()
            said = self._receive()
        if said:
            raise ModelError(f"{version}: {said}")
        self._patience.forget()
        self._note(version=str(version), problem="")
        self._tell(f"{version} is asked as well, {self._share:.0%} of what {self._in_use.model.stamp.path} is asked")

    def _receive(self) -> Any:
        assert self._connection is not None
        deadline = time.monotonic() + _ANSWER_S
        while not self._connection.poll(0.2):
            if self._end.is_set():
                raise ModelError("the server ends")
            if time.monotonic() > deadline:
                raise ModelError(f"{self._version}: no answer within {_ANSWER_S:g} s")
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join(1.0)
            raise ModelError(f"{self._version}: its process ended with {self._process.exitcode}") from error

    def _stop(self) -> None:
        """End the process, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
        self._version = self._connection = self._process = None
        if self.state.version:
            self._note(version="")

    # ----------------------------------------------------------------------------------- what it says

    def _compare(self, sample: Sample) -> None:
        assert self._connection is not None
        with contextlib.suppress(OSError):  # its process is gone, which the next line tells
            self._connection.send(sample)
        answer = self._receive()
        if isinstance(answer, Line):
            self._count(answer)
            try:
                self._journal.write(msgspec.json.encode(answer))
            except OSError as error:
                if not self.state.unwritten:
                    self._tell(f"the differences from {self._ref} cannot be written ({error.strerror})")
                self._note(unwritten=self.state.unwritten + 1)
        else:
            self._note(failed=self.state.failed + 1)

    def _count(self, line: Line) -> None:
        before = self.state
        self._note(
            compared=before.compared + 1,
            matched=before.matched + line.matched,
            unmatched=before.unmatched + line.unmatched,
            medians=_add(before.medians, line.median_diagonals),
            largest=_add(before.largest, line.max_diagonals),
            median_sum=before.median_sum + (line.median_diagonals or 0.0),
            largest_sum=before.largest_sum + (line.max_diagonals or 0.0),
        )

    def _note(self, **changes: Any) -> None:
        before = self.state
        self.state = msgspec.structs.replace(before, **changes)
        if self.state.problem and self.state.problem != before.problem:
            self._tell(f"no comparison with {self._ref}: {self.state.problem}")

    def _tell(self, text: str) -> None:
        self._say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")


def _add(counts: tuple[int, ...], value: float | None) -> tuple[int, ...]:
    """Count a value in its bucket."""
    if value is None:
        return counts
    at = next((index for index, bound in enumerate(BOUNDS) if value <= bound), len(BOUNDS))
    return (*counts[:at], counts[at] + 1, *counts[at + 1 :])
