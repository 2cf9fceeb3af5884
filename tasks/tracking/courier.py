"""Sends what a run records: at once, or beside a training that must not wait for a server."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from keypipe.errors import PoseError
from tasks.tracking.client import AwayError, first_line, server_name
from tasks.tracking.delivery import reach, send
from tasks.tracking.outbox import Box
from tasks.workspace.places import OUTBOX
from tasks.workspace.program import say

_SHARE = 0.02
_sending = threading.RLock()
"""Held while a thread sends. A fork, as of a training's loader processes, waits for it: whatever lock the thread holds
at that moment would stay held in the child for ever."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_sending.acquire, after_in_parent=_sending.release, after_in_child=_sending.release)


class Courier:
    """Sends what a box holds, and tells when a server is away and when it is back.

    While it is away, trying takes at most 2 % of the time that has gone by; beside a training, in a thread of its own,
    it takes nothing of the training's.

    Attributes:
        away: why the server could not be told, one line; empty while it can.
    """

    def __init__(self, root: Path, box: Box) -> None:
        """Take a box, held by this process."""
        self.away = ""
        self._root, self._box = root, box
        self._began = time.monotonic()
        self._spent = self._last = 0.0
        self._reached = False
        self._thread: threading.Thread | None = None
        self._wake, self._over = threading.Event(), threading.Event()

    def introduce(self) -> None:
        """Have the server know the run, if it answers at once.

        Raises:
            PoseError: the address or the experiment is wrong; a server that does not answer is no error.
        """
        started = time.monotonic()
        try:
            send(self._root, self._box, patient=False)
        except Exception as error:
            if isinstance(error, PoseError) and not isinstance(error, AwayError):
                raise
            self._note_away(error, started)
        else:
            self._reached = True

    def go_beside(self) -> None:
        """Send in a thread from now on, whenever there is something new."""
        self._over.clear()
        self._thread = threading.Thread(target=self._work, name="keypipe-courier", daemon=True)
        self._thread.start()

    def come_back(self) -> None:
        """Send no longer beside what goes on; what is being sent is waited for."""
        if self._thread is not None:
            self._over.set()
            self._wake.set()
            self._thread.join()
            self._thread = None

    def deliver(self) -> None:
        """Send what the box holds, as far as the server takes it; beside a training, without waiting."""
        if self._thread is not None:
            self._wake.set()
        else:
            self._try(patient=True)

    def finish(self) -> bool:
        """Send what the box holds, also where the server was away; returns whether all of it is told."""
        self.come_back()
        return self._try(patient=True, insist=True)

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._over.is_set():
                return
            with _sending:
                self._try(patient=False)

    def _try(self, *, patient: bool, insist: bool = False) -> bool:
        """Send.

        Args:
            patient: nothing waits for it: give the server time.
            insist: also where trying has taken its share of the time.
        """
        if self.away and not insist and self._spent + self._last > _SHARE * (time.monotonic() - self._began):
            return False
        started = time.monotonic()
        try:
            if patient and (self.away or not self._reached):
                reach(self._root)
            send(self._root, self._box, patient=patient)
        except Exception as error:  # noqa: BLE001 - whatever fails of recording, what is recorded must not suffer
            self._note_away(error, started)
            return False
        if self.away:
            say(f"MLflow answers again: {server_name(self._root)}")
        self.away, self._last, self._reached = "", 0.0, True
        return True

    def _note_away(self, error: Exception, started: float) -> None:
        self._last = time.monotonic() - started
        self._spent += self._last
        if not self.away:
            say(f"warning: {first_line(error)}; what it is not told waits in {OUTBOX}")
        self.away = first_line(error)
