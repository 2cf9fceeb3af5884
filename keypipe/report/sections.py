"""What a report can hold: figures, tables, charts, pictures, notes and findings, as values without any layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from keypipe.errors import Fault
from keypipe.report.formatting import Cell

SEVERITIES = ("good", "info", "warning", "error")


class Figure(msgspec.Struct, frozen=True):
    """A headline figure: a large value, what it is, and a few words on how it came about."""

    label: str
    value: Cell
    note: str = ""


class KeyValues(msgspec.Struct, frozen=True, tag="key_values"):
    """Names and values, a line each; a mapping or pairs."""

    title: str
    rows: Mapping[str, Cell] | Sequence[tuple[str, Cell]]
    note: str = ""

    def pairs(self) -> list[tuple[str, Cell]]:
        """Return the lines as pairs of name and value."""
        return list(self.rows.items() if isinstance(self.rows, Mapping) else self.rows)


class Table(msgspec.Struct, frozen=True, tag="table"):
    """A table that is sorted by a click on a column's head; columns of numbers are aligned right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


class BarChart(msgspec.Struct, frozen=True, tag="bar_chart"):
    """Horizontal bars, one for each label.

    Attributes:
        title: heading.
        bars: labels and values, 0 or above; None draws no bar.
        unit: stands behind each value.
        note: what the reader should know.
    """

    title: str
    bars: Sequence[tuple[str, float | None]]
    unit: str = ""
    note: str = ""


class GroupedBarChart(msgspec.Struct, frozen=True, tag="grouped_bar_chart"):
    """Horizontal bars: a row for each label, and in it a bar for each series.

    Attributes:
        title: heading.
        labels: names of the rows.
        series: for each series its values, one a label, 0 or above; None draws no bar.
        unit: stands behind each value.
        note: what the reader should know.
    """

    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    unit: str = ""
    note: str = ""


class LineChart(msgspec.Struct, frozen=True, tag="line_chart"):
    """Curves over a common x.

    Attributes:
        title: heading.
        x: positions in rising order, such as epochs.
        series: for each curve its values, one a position; None and NaN leave a gap.
        x_label: what x is.
        y_range: lowest and highest y to show; None takes those of the values.
        note: what the reader should know.
    """

    title: str
    x: Sequence[float]
    series: Mapping[str, Sequence[float | None]]
    x_label: str = ""
    y_range: tuple[float, float] | None = None
    note: str = ""


class LineCharts(msgspec.Struct, frozen=True, tag="line_charts"):
    """Several small line charts beside each other."""

    title: str
    charts: Sequence[LineChart]
    note: str = ""


class Picture(msgspec.Struct, frozen=True):
    """A picture as the bytes of a JPEG file (``drawing.encode_jpeg``), its caption, and a smaller second line."""

    jpeg: bytes
    caption: str
    detail: str = ""


class Gallery(msgspec.Struct, frozen=True, tag="gallery"):
    """Pictures that a click enlarges.

    Attributes:
        title: heading.
        pictures: in the order to show.
        note: what the reader should know.
        min_width_px: smallest width of a thumbnail; wide pictures want more.
    """

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    min_width_px: int = 220


class Note(NamedTuple):
    """A sentence with its weight: ``good``, ``info``, ``warning`` or ``error``."""

    severity: str
    text: str


class Notes(msgspec.Struct, frozen=True, tag="notes"):
    """Sentences that the reader should not miss; ``Note`` or plain pairs of severity and text."""

    title: str
    notes: Sequence[tuple[str, str]]
    note: str = ""


class Faults(msgspec.Struct, frozen=True, tag="faults"):
    """The faults of an input, a line each."""

    title: str
    faults: Sequence[Fault]
    note: str = ""


class Card(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        severity: ``error``, ``warning`` or ``info``.
        kind: its kind's name.
        place: file and shape.
        found: what was found.
        fix: what to do about it.
        command: what opens the place, to be copied; none when empty.
        class_name: class of the object, or "".
        split: ``train``, ``val`` or ``test``, or "".
        jpeg: a picture of it, or None.
    """

    severity: str
    kind: str
    place: str
    found: str
    fix: str
    command: str = ""
    class_name: str = ""
    split: str = ""
    jpeg: bytes | None = None


class CardGroup(msgspec.Struct, frozen=True):
    """The findings of one kind and severity.

    Attributes:
        kind: its name.
        title: heading.
        why: why it matters.
        cards: the findings that are shown.
        rest: number of findings that are not.
    """

    kind: str
    title: str
    why: str
    cards: Sequence[Card]
    rest: int = 0


class Findings(msgspec.Struct, frozen=True, tag="findings"):
    """Findings by kind, with filters that the page's address keeps; at most one such section a page."""

    title: str
    groups: Sequence[CardGroup]
    note: str = ""

    def options(self, key: str) -> list[tuple[str, int]]:
        """Return the values that a filter offers, with the number of cards that each shows.

        Args:
            key: attribute of a card.
        """
        counts = Counter(getattr(card, key) for group in self.groups for card in group.cards)
        names = [value for value in counts if value]
        return [(name, counts[name]) for name in (names if key in {"severity", "kind"} else sorted(names))]

    def heading(self, kind: str) -> str:
        """Return the title of a kind."""
        return next(group.title for group in self.groups if group.kind == kind)


class ScatterPlot(msgspec.Struct, frozen=True):
    """Points in a frame of -1 to 1 both ways, y downwards.

    Attributes:
        title: heading.
        detail: a smaller second line.
        dots: the points.
        marked: points to set off.
        lines: a drawing behind them, as pairs of points.
        colour: of the points, such as ``#40a0c0``.
    """

    title: str
    dots: Sequence[tuple[float, float]]
    marked: Sequence[tuple[float, float]] = ()
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]] = ()
    detail: str = ""
    colour: str = "#7a828a"


class ScatterPlots(msgspec.Struct, frozen=True, tag="scatter_plots"):
    """Several small scatter plots beside each other."""

    title: str
    plots: Sequence[ScatterPlot]
    note: str = ""


class SkeletonDot(msgspec.Struct, frozen=True):
    """A keypoint of a skeleton plot.

    Attributes:
        name: stands in the margin with the note.
        xy: its place, in the plot's unit, y downwards.
        inner: radius of the filled circle around it, in the same unit; None draws none.
        outer: radius of the pale circle.
        note: a few words behind the name.
        colour: such as ``#40a0c0``.
    """

    name: str
    xy: tuple[float, float]
    inner: float | None
    outer: float | None
    note: str
    colour: str


class SkeletonPlot(msgspec.Struct, frozen=True):
    """An object's keypoints with circles as large as their errors.

    Attributes:
        title: heading.
        size: width and height of the object's box, in the unit of all lengths here; the box's diagonal is a good one.
        dots: the keypoints.
        edges: lines between them, as pairs of positions in ``dots``.
    """

    title: str
    size: tuple[float, float]
    dots: Sequence[SkeletonDot]
    edges: Sequence[tuple[int, int]] = ()


class SkeletonPlots(msgspec.Struct, frozen=True, tag="skeleton_plots"):
    """Skeleton plots below each other."""

    title: str
    plots: Sequence[SkeletonPlot]
    note: str = ""


class Matrix(msgspec.Struct, frozen=True, tag="matrix"):
    """A table of counts, each cell shaded by its share of its row.

    Attributes:
        title: heading.
        rows: names of the rows.
        columns: names of the columns.
        counts: a list for each row; None leaves a cell empty.
        corner: what rows and columns are.
        note: what the reader should know.
        shaded_rows: rows from the first that are shaded; None: all. Cells off the diagonal are shaded as wrong.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[int | None]]
    corner: str = ""
    note: str = ""
    shaded_rows: int | None = None

    def shares(self) -> list[list[float]]:
        """Return each count's share of its row; 0 in a row that is not shaded."""
        shaded = len(self.counts) if self.shaded_rows is None else self.shaded_rows
        totals = [sum(count or 0 for count in row) if i < shaded else 0 for i, row in enumerate(self.counts)]
        pairs = zip(self.counts, totals, strict=True)
        return [[(count or 0) / total if total else 0.0 for count in row] for row, total in pairs]


class Chapter(msgspec.Struct, frozen=True, tag="chapter"):
    """A heading over the sections that follow, with a line of its own in the list of sections."""

    title: str
    note: str = ""


Section = (
    KeyValues
    | Table
    | BarChart
    | GroupedBarChart
    | LineChart
    | LineCharts
    | Gallery
    | Notes
    | Faults
    | Findings
    | ScatterPlots
    | SkeletonPlots
    | Matrix
    | Chapter
)
