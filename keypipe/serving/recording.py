"""A sample of what a server answers goes into the prediction log, when the answer is made already."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from keypipe.drift.log import PredictionLog
from keypipe.errors import PoseError
from keypipe.serving.model import ServedModel, ServedResult

_WAITING = 8  # images that wait at most; each holds an image file
_PATIENCE_S = 10.0  # for the thread to come to an end
_IDLE_S = 30.0  # rows are not kept in memory for longer


class Recorded(msgspec.Struct, frozen=True):
    """How a log does.

    Attributes:
        logged: images that were logged.
        dropped: images that were left out because others still waited.
        failed: images that could not be looked at again.
        problem: why rows cannot be written; empty if they can.
    """

    logged: int
    dropped: int
    failed: int
    problem: str


class _Answer(NamedTuple):
    model: ServedModel
    content: bytes
    result: ServedResult
    group: str


class Recorder:
    """Writes answers to a log from a thread of its own; no request waits for it, and none fails of it."""

    def __init__(self, log: PredictionLog, say: Callable[[str], None]) -> None:
        """Take a log, which ends with the recorder."""
        self._log = log
        self._say = say
        self._answers: queue.Queue[_Answer | None] = queue.Queue(_WAITING)
        self._dropped = 0
        self._failed = 0
        self._said = ""
        self._thread = threading.Thread(target=self._run, name="keypipe-log", daemon=True)

    def offer(self, model: ServedModel, content: bytes, result: ServedResult, group: str) -> None:
        """Log an image that has been answered, by chance; never waits.

        Args:
            model: that answered.
            content: the image's file.
            result: the answer.
            group: what the client says that it belongs to, or "".
        """
        if not self._log.wants():
            return
        try:
            self._answers.put_nowait(_Answer(model, content, result, group))
        except queue.Full:
            self._dropped += 1  # of the event loop's thread alone

    def now(self) -> Recorded:
        """Return how it does."""
        return Recorded(self._log.logged, self._dropped, self._failed, self._log.problem)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Log what waits, and stop."""
        with contextlib.suppress(queue.Full):
            self._answers.put(None, timeout=_PATIENCE_S)
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        self._log.close()

    def _run(self) -> None:
        while True:
            try:
                answer = self._answers.get(timeout=_IDLE_S)
            except queue.Empty:
                self._log.flush()
                continue
            if answer is None:
                return
            try:
                self._record(answer)
            except Exception as error:  # noqa: BLE001 - whatever happens here, the server answers on
                self._failed += 1
                if not isinstance(error, PoseError):
                    self._tell(f"an image could not be logged: {type(error).__name__}: {error}")
            if self._log.problem:
                self._tell(f"predictions are not logged: {self._log.problem}")

    def _record(self, answer: _Answer) -> None:
        result = answer.result
        row = self._log.look(
            answer.model.predictor,
            answer.model.decode(answer.content),
            result.predictions,
            model=result.model,
            thresholds=result.thresholds,
            source="serve",
            group=answer.group,
            image=f"sha256:{hashlib.sha256(answer.content).hexdigest()}",
        )
        if row:
            self._log.keep(row)

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
