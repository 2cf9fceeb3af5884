"""Tables in a terminal, of which no word is ever cut: where a table is too wide, a paragraph for each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from keypipe.printable import to_printable

if TYPE_CHECKING:
    from rich.console import Console


def print_table(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings.

    File names and names of keypoints are copied from what is printed, so they are never wrapped.

    Args:
        console: where to.
        headings: of the columns.
        rows: cells as rich's markup.
    """
    from rich.table import Table

    cells = [[to_printable(cell) for cell in row] for row in rows]
    widths = _fit(headings, cells, console.width)
    if widths is not None:
        table = Table()
        for heading, width in zip(headings, widths, strict=True):
            table.add_column(heading, width=width)
        for row in cells:
            table.add_row(*row)
        console.print(table)
        return
    for first, *others in cells:
        console.print(f"[bold]{first}[/]", soft_wrap=True)
        for heading, cell in zip(headings[1:], others, strict=True):
            if cell:
                console.print(f"  {heading}: {cell}", soft_wrap=True)


def _fit(headings: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Return how wide the columns of a table are; None where their longest words do not fit beside each other.

    Rich would narrow the widest columns first, and cut words of theirs while others have room to spare.
    """
    from rich.cells import cell_len
    from rich.text import Text

    columns = [
        [heading, *(Text.from_markup(row[number]).plain for row in cells)] for number, heading in enumerate(headings)
    ]
    widths = [max(cell_len(word) for text in texts for word in text.split() or [""]) for texts in columns]
    wanted = [max(cell_len(line) for text in texts for line in text.splitlines() or [""]) for texts in columns]
    spare = width - sum(widths) - 3 * len(widths) - 1  # a line and two blanks for each column, and the last line
    if spare < 0:
        return None
    while spare > 0 and widths != wanted:
        number = max(range(len(widths)), key=lambda index: wanted[index] - widths[index])
        widths[number] += 1
        spare -= 1
    return widths
