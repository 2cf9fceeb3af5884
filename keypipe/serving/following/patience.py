"""When a version that failed may be tried again."""

from __future__ import annotations

import time

from keypipe.serving.following.source import Version

_LONGEST_WAIT_S = 3600.0


class Patience:
    """Remembers one version that failed: it is tried again after 2, 4, 8 … polls, and after an hour at the latest."""

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        self.forget()

    def forget(self) -> None:
        """Let all be tried."""
        self._version: Version | None = None
        self._tries, self._not_before = 0, 0.0

    def allows(self, version: Version) -> bool:
        """Tell whether a version may be tried now."""
        return version != self._version or time.monotonic() >= self._not_before

    def note_failure(self, version: Version) -> None:
        """Take down that a version failed."""
        self._tries = self._tries + 1 if version == self._version else 1
        self._version = version
        self._not_before = time.monotonic() + min(self._poll_s * 2**self._tries, _LONGEST_WAIT_S)
