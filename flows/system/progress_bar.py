"""A bar in the terminal while a person waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.progress import Progress

_SECONDS_BETWEEN_UPDATES = 0.05  # there may be thousands a second


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """Show a bar on stderr, where a person looks at it; nothing where that is no terminal.

    Args:
        what: comes first, until more is known.

    Yields:
        What is to be told how far things are.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task, told, shown = bar.add_task(what, total=None), what, 0.0

        def tell(what: str, done: int, total: int) -> None:
            nonlocal told, shown
            now = time.monotonic()
            if what == told and done < total and now - shown < _SECONDS_BETWEEN_UPDATES:
                return
            told, shown = what, now
            bar.update(task, description=what, completed=done, total=total)

        yield tell
