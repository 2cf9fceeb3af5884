"""Sends what a run records: at once, or beside a training that must not wait for a server."""

from __future__ import annotations

import math
import os
import threading
import time
from pathlib import Path

from keypipe.errors import PoseError
from tasks.tracking.client import AwayError, first_line, load, server_name, tracking_uri
from tasks.tracking.outbox import Box
from tasks.tracking.sending.delivery import reach, send
from tasks.workspace.places import OUTBOX
from tasks.workspace.program import say

_SHARE = 0.02
_AGAIN_SECONDS = 30.0
_START_SECONDS = 2.0
_sending = threading.RLock()
"""Held while a thread sends. A fork, as of a training's loader processes, waits for it: whatever lock the thread holds
at that moment would stay held in the child for ever."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_sending.acquire, after_in_parent=_sending.release, after_in_child=_sending.release)


class Courier:
    """Sends what a box holds, and tells when a server is away and when it is back.

    While it is away, trying takes at most 2 % of the time that has gone by. Beside a training, in a thread of its own,
    it takes nothing of the training's, and tries twice a minute.

    Attributes:
        away: why the server could not be told, one line; empty while it can.
    """

    def __init__(self, root: Path, box: Box) -> None:
        """Take a box, held by this process."""
        self.away = ""
        self._root, self._box = root, box
        self._began = time.monotonic()
        self._spent = self._last = 0.0
        self._tried = -math.inf
        self._reached = False
        self._refused: PoseError | None = None
        self._thread: threading.Thread | None = None
        self._wake, self._over, self._introduced = threading.Event(), threading.Event(), threading.Event()

    def go_beside(self) -> None:
        """Send in a thread from now on, whenever there is something new.

        A database, such as the workspace's own, is waited for until it knows the run, a server for two seconds.

        Raises:
            PoseError: the server has said that the address or the experiment is wrong; nothing is sent any more.
        """
        load()  # takes seconds, whatever the server does
        self._over.clear()
        self._thread = threading.Thread(target=self._work, name="keypipe-courier", daemon=True)
        self._thread.start()
        self._introduced.wait(_START_SECONDS if tracking_uri(self._root).startswith("http") else None)
        if self._refused is not None:
            self.come_back()
            raise self._refused

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
        elif not self.away or self._spent + self._last <= _SHARE * (time.monotonic() - self._began):
            self._try(patient=True)

    def finish(self) -> bool:
        """Send what the box holds, also where the server was away; returns whether all of it is told."""
        self.come_back()
        return self._try(patient=True)

    def _work(self) -> None:
        """Send until the end; what the server refuses at the start ends it at once."""
        while not self._over.is_set():
            if not self.away or time.monotonic() - self._tried > _AGAIN_SECONDS:
                with _sending:
                    self._try(patient=False)
            self._introduced.set()
            self._wake.wait(_AGAIN_SECONDS if self.away else None)
            self._wake.clear()

    def _try(self, *, patient: bool) -> bool:
        """Send.

        Args:
            patient: nothing waits for it, not even a fork: give the server time.
        """
        self._tried = time.monotonic()
        try:
            if patient and (self.away or not self._reached):
                reach(self._root, quick=bool(self.away))
            send(self._root, self._box, patient=patient)
        except Exception as error:  # noqa: BLE001 - whatever fails of recording, what is recorded must not suffer
            if isinstance(error, PoseError) and not isinstance(error, AwayError) and not self._introduced.is_set():
                self._refused = error
            else:
                self._note_away(error)
            return False
        if self.away:
            say(f"MLflow answers again: {server_name(self._root)}")
        self.away, self._last, self._reached = "", 0.0, True
        return True

    def _note_away(self, error: Exception) -> None:
        self._last = time.monotonic() - self._tried
        self._spent += self._last
        if not self.away:
            say(f"warning: {first_line(error)}; what it is not told waits in {OUTBOX}")
        self.away = first_line(error)
