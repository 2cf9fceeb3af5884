"""How far a command is that a person waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Progress = Callable[[str, int, int], None]
"""Gets what is being done, how many are done, and how many there are."""

Item = TypeVar("Item")


def tell_nobody(_what: str, _done: int, _total: int) -> None:
    """Take the place of a ``Progress`` where nobody waits."""


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
