"""How numbers are said in messages."""

from __future__ import annotations


def format_count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 box``, ``2 boxes``.

    Args:
        number: how many.
        noun: of one.
        plural: of more; the noun with an s by default.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def format_seconds(seconds: float) -> str:
    """Format a duration roughly: ``0.8 s``, ``12 s``, ``7 min``, ``3.5 h``."""
    if seconds < 99.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"
