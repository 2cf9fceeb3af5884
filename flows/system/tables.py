"""Tables in a terminal, of which no word is ever cut: where a table is too wide, a paragraph for each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from keypipe.printable import to_printable

if TYPE_CHECKING:
    from rich.console import Console

_ANY_WIDTH = 10_000


def print_table(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings.

    File names and names of keypoints are copied from what is printed, so they are never wrapped.

    Args:
        console: where to.
        headings: of the columns.
        rows: cells as rich's markup.
    """
    from rich.measure import Measurement
    from rich.table import Table

    cells = [[to_printable(cell) for cell in row] for row in rows]
    table = Table(*headings)
    for row in cells:
        table.add_row(*row)
    narrowest = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), table).minimum
    if narrowest <= console.width:
        console.print(table)
        return
    for first, *others in cells:
        console.print(f"[bold]{first}[/]", soft_wrap=True)
        for heading, cell in zip(headings[1:], others, strict=True):
            if cell:
                console.print(f"  {heading}: {cell}", soft_wrap=True)
