"""How far something is that a person waits for: one form for all that tell and all that show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tasks.workspace.program import say

Progress = Callable[[str, int, int], None]
"""Gets what is being done, how many are done, and how many there are."""

SAY_EVERY_S = 2.0
_BAR = 20

Item = TypeVar("Item")


def tell_nobody(_what: str, _done: int, _total: int) -> None:
    """Take the place of a ``Progress`` where nobody waits."""


def tell_in_lines(name: str, say: Callable[[str], None] = say, every_s: float = SAY_EVERY_S) -> Progress:
    """Return what says in a line now and then how far things are, for logs.

    Args:
        name: of what they are a part of, such as a stage; comes first in a line.
        say: gets the lines; default: they are printed.
        every_s: seconds between lines at least, and before the first.
    """
    started = said = time.monotonic()
    told = ""

    def tell(what: str, done: int, total: int) -> None:
        nonlocal started, said, told
        now = time.monotonic()
        if what != told:
            started = said = now if told else started
            told = what
        if now - said < every_s or not 0 < done < total:
            return
        said = now
        bar = "█" * round(_BAR * done / total)
        left = (now - started) * (total - done) / done
        say(f"{name}: {bar:░<{_BAR}} {done} of {total} {what}, {left:.0f} s left")

    return tell


def follow(items: Sequence[Item], what: str, progress: Progress) -> Iterator[Item]:
    """Yield items and tell how many are done: none before the first, all of them after the last.

    Args:
        items: what is worked on, one after the other.
        what: is being done with them, such as ``copying images``.
        progress: is told.
    """
    for done, item in enumerate(items):
        progress(what, done, len(items))
        yield item
    progress(what, len(items), len(items))
