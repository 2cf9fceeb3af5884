"""A bar in the terminal while a person waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Shown:
    """A ``Progress`` that is shown as a bar; it can step aside while a person is asked."""

    def __init__(self, bar: Bar, what: str) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=None)

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how far things are; rich draws ten times a second, however often it is told."""
        self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=total)

    def pause(self) -> None:
        """Take the bar off the terminal until more is told."""
        self._bar.stop()


@contextmanager
def progress_bar(what: str) -> Iterator[Shown]:
    """Show a bar on stderr, where a person looks at it; nothing where that is no terminal.

    Args:
        what: comes first, until more is known.

    Yields:
        What is to be told how far things are.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        yield Shown(bar, what)
