"""A bar in the terminal while a person waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.progress import Progress


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """Show a bar on stderr, where a person looks at it; nothing where that is no terminal.

    Args:
        what: comes first, until more is known.

    Yields:
        What is to be told how far things are; rich draws ten times a second, however often it is told.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield tell
