"""How a report writes values."""

from __future__ import annotations

import math
from collections.abc import Iterable

Cell = str | int | float | None


def format_cell(value: Cell, decimals: int | None = None) -> str:
    """Format a value as a reader likes it.

    Args:
        value: text stays; whole numbers get thin spaces between thousands.
        decimals: decimal places of other numbers; None: four significant digits.

    Returns:
        The text; a dash for None and NaN.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _with_thin_spaces(f"{value:,}")
    if decimals is not None:
        return _with_thin_spaces(f"{value:,.{decimals}f}")
    return _with_thin_spaces(f"{round(value):,}") if math.isfinite(value) and abs(value) >= 10_000 else f"{value:.4g}"


def _with_thin_spaces(text: str) -> str:
    return text.replace(",", "\u2009")


def common_decimals(values: Iterable[Cell]) -> int | None:
    """Choose decimal places that show the largest of some numbers with three significant digits.

    Args:
        values: numbers that stand below each other; None is passed over.

    Returns:
        0 to 6; None when all of them are whole.
    """
    floats = [abs(value) for value in values if isinstance(value, float) and math.isfinite(value)]
    if not floats:
        return None
    largest = max(floats)
    return min(6, max(0, 2 - math.floor(math.log10(largest)))) if largest > 0 else 1
