"""One self-contained HTML page out of tables, charts, pictures and notes, for every stage.

The page opens from the disk: no server, no network, no file beside it. Nothing in it depends on the time or
the machine, so equal reports are equal files.
"""

from __future__ import annotations

import base64
import io
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from keypipe.errors import Fault

Cell = str | int | float | None
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
        side: side of the split, or "".
        jpeg: a picture of it, or None.
    """

    severity: str
    kind: str
    place: str
    found: str
    fix: str
    command: str = ""
    class_name: str = ""
    side: str = ""
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


class Report(msgspec.Struct, frozen=True):
    """A page.

    Attributes:
        title: heading of the page.
        headline: its result in one sentence.
        sections: the parts, in the order to show.
        figures: the few figures that sum it up.
        kicker: a word over the title, such as the stage's name.
    """

    title: str
    headline: str
    sections: Sequence[Section] = ()
    figures: Sequence[Figure] = ()
    kicker: str = "keypipe"


def render_report(report: Report) -> str:
    """Render a report as one HTML page.

    Args:
        report: the page's parts; all text in it is escaped.

    Returns:
        HTML, to be written as UTF-8.

    Raises:
        ValueError: a row or a series has another length than its columns, labels or positions; or a note has an
            unknown severity.
    """
    for section in report.sections:
        _check_section(section)
    return _environment().get_template("report.html.j2").render(report=report)


def _check_section(section: Section) -> None:
    severities = [severity for severity, _ in section.notes] if isinstance(section, Notes) else []
    if isinstance(section, Findings):
        severities = [card.severity for group in section.groups for card in group.cards]
    for severity in severities:
        if severity not in SEVERITIES:
            raise ValueError(f"{section.title}: severity {severity!r} is none of {', '.join(SEVERITIES)}")
    charts = section.charts if isinstance(section, LineCharts) else ()
    for chart in charts:
        _check_section(chart)
    expected, parts = 0, {}
    if isinstance(section, Table):
        expected, parts = len(section.columns), {f"row {i}": len(row) for i, row in enumerate(section.rows)}
    elif isinstance(section, GroupedBarChart):
        expected, parts = len(section.labels), {name: len(values) for name, values in section.series.items()}
    elif isinstance(section, Matrix):
        expected, parts = len(section.columns), {n: len(r) for n, r in zip(section.rows, section.counts, strict=True)}
    elif isinstance(section, LineChart):
        expected, parts = len(section.x), {name: len(values) for name, values in section.series.items()}
    for name, length in parts.items():
        if length != expected:
            raise ValueError(f"{section.title}: {name} has {length} values, expected {expected}")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("keypipe"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "cell": format_cell,
        "data_uri": _to_data_uri,
        "percent": _format_percent,
        "svg_point": _format_point,
    }
    environment.globals |= {
        "kind": _kind,
        "numeric_columns": _numeric_columns,
        "aspect_of": _common_aspect,
        "lay_out_bars": lay_out_bars,
        "lay_out_lines": lay_out_lines,
        "lay_out_skeleton": lay_out_skeleton,
        "grouped": _to_grouped,
        "table_of_faults": _to_table,
    }
    return environment


def _kind(section: Section) -> str:
    """Name of the template's macro for a section."""
    return str(section.__struct_config__.tag)


# ----------------------------------------------------------------------------------------- cells


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


class NumericColumn(msgspec.Struct, frozen=True):
    """How a column of numbers is written."""

    decimals: int | None


def _numeric_columns(table: Table) -> list[NumericColumn | None]:
    """Describe each column, None for one of text."""
    columns: list[NumericColumn | None] = []
    for index in range(len(table.columns)):
        values = [row[index] for row in table.rows if row[index] is not None]
        numeric = bool(values) and all(type(value) in {int, float} for value in values)
        columns.append(NumericColumn(common_decimals(values)) if numeric else None)
    return columns


def _to_grouped(chart: BarChart) -> GroupedBarChart:
    values = {"": [value for _, value in chart.bars]}
    return GroupedBarChart(chart.title, [label for label, _ in chart.bars], values, chart.unit)


def _to_table(section: Faults) -> Table:
    rows = [[fault.file, fault.shape, fault.kind, fault.found, fault.fix] for fault in section.faults]
    return Table(section.title, ["file", "shape", "kind", "found", "what to do"], rows, section.note)


def _to_data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _common_aspect(pictures: Sequence[Picture]) -> str:
    """Return the median aspect ratio of some pictures as a CSS number: one shape for all thumbnails."""
    sizes = [Image.open(io.BytesIO(picture.jpeg)).size for picture in pictures]
    return f"{statistics.median(width / height for width, height in sizes):.3f}"


def _format_point(point: tuple[float, float]) -> str:
    """Format a point of a frame of -1 to 1 for an SVG of -100 to 100."""
    return f"{100 * point[0]:.1f} {100 * point[1]:.1f}"


def _format_percent(share: float) -> str:
    """Format a share, 0 to 1, as a CSS and SVG length."""
    return f"{100 * share:.2f}%"


# ---------------------------------------------------------------------------------------- charts


class Bar(msgspec.Struct, frozen=True):
    """A bar: its series' number, its value as text, and its length as a share of the longest."""

    series: int
    text: str
    share: float


class BarRow(msgspec.Struct, frozen=True):
    """A label and its bars."""

    label: str
    bars: list[Bar]


def lay_out_bars(chart: GroupedBarChart) -> list[BarRow]:
    """Compute the bars of a chart.

    Args:
        chart: the chart.

    Returns:
        A row for each label.
    """
    values = [value for series in chart.series.values() for value in series if value is not None]
    longest, decimals = max(values, default=0) or 1, common_decimals(values)
    rows = []
    for index, label in enumerate(chart.labels):
        of_label = [series[index] for series in chart.series.values()]
        texts = [format_cell(value, decimals) + (chart.unit if value is not None else "") for value in of_label]
        shares = [(value or 0) / longest for value in of_label]
        rows.append(BarRow(label, [Bar(i, *bar) for i, bar in enumerate(zip(texts, shares, strict=True))]))
    return rows


class Tick(msgspec.Struct, frozen=True):
    """A mark on an axis: its text, and its place as a share of the axis from left or from the top."""

    text: str
    share: float


class Curve(msgspec.Struct, frozen=True):
    """A curve: its name, its path in a box of 100 by 100, its last value, and all values for reading off."""

    name: str
    path: str
    last: float | None
    values: list[float | None]


class LineLayout(msgspec.Struct, frozen=True):
    """A line chart ready to be drawn."""

    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_shares: list[float]


def lay_out_lines(chart: LineChart) -> LineLayout:
    """Compute the curves and the axes of a chart.

    Args:
        chart: the chart.

    Returns:
        Paths, ticks and positions.
    """
    series = {name: [_finite(value) for value in values] for name, values in chart.series.items()}
    known = [value for values in series.values() for value in values if value is not None]
    low, high = chart.y_range or (min(known, default=0.0), max(known, default=1.0))
    y_ticks = nice_ticks(low, high)
    if chart.y_range is None:
        low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    x_low, x_high = (chart.x[0], chart.x[-1]) if chart.x else (0.0, 1.0)
    x_shares = [_share(x, x_low, x_high) for x in chart.x]
    curves = []
    for name, values in series.items():
        heights = [None if value is None else 1 - _share(value, low, high) for value in values]
        last = next((value for value in reversed(values) if value is not None), None)
        curves.append(Curve(name, _to_path(x_shares, heights), last, values))
    return LineLayout(
        curves=curves,
        x_ticks=[
            Tick(format_cell(x), _share(x, x_low, x_high)) for x in nice_ticks(x_low, x_high) if x_low <= x <= x_high
        ],
        y_ticks=[Tick(format_cell(y), 1 - _share(y, low, high)) for y in y_ticks if low <= y <= high],
        x_shares=x_shares,
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Choose round numbers that cover a range.

    Args:
        low: lowest value.
        high: highest value.
        count: about how many steps.

    Returns:
        Multiples of 1, 2 or 5 times a power of ten, from at or below ``low`` to at or above ``high``.
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    ticks = [round(index * step, digits) for index in range(first, last + 1)]
    return [int(tick) if digits == 0 else tick for tick in ticks]


def _to_path(x_shares: Sequence[float], heights: Sequence[float | None]) -> str:
    """Format a curve as an SVG path in a box of 100 by 100; a lone point becomes a short dash."""
    parts: list[str] = []
    pen_down = False
    for index, (x, y) in enumerate(zip(x_shares, heights, strict=True)):
        if y is None:
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{100 * x:.2f} {100 * y:.2f}")
        alone = not pen_down and (index + 1 == len(heights) or heights[index + 1] is None)
        if alone:
            parts.append("h0.01")
        pen_down = True
    return "".join(parts)


# ------------------------------------------------------------------------------------- skeletons

_UNIT = 1000.0
_MARGIN = 620.0  # on either side, for the names
_LINE = 54.0  # between names in the margin
_OVERHANG = 250.0  # how far circles are shown above and below the object


class SkeletonName(msgspec.Struct, frozen=True):
    """A name in the margin of a skeleton plot: where it stands, and the line from there to its dot."""

    text: str
    note: str
    anchor: str
    xy: tuple[float, float]
    path: str


class SkeletonCircle(msgspec.Struct, frozen=True):
    """A keypoint of a skeleton plot, in the SVG's units."""

    xy: tuple[float, float]
    inner: float
    outer: float
    colour: str
    title: str


class SkeletonLayout(msgspec.Struct, frozen=True):
    """A skeleton plot ready to be drawn: the SVG's view box, the object's box, lines, circles and names."""

    view: tuple[float, float, float, float]
    box: tuple[float, float]
    lines: str
    circles: list[SkeletonCircle]
    names: list[SkeletonName]


def lay_out_skeleton(plot: SkeletonPlot) -> SkeletonLayout:
    """Compute the circles of a skeleton plot, and the names in its margins, which do not run into each other.

    Args:
        plot: the plot.

    Returns:
        Lengths in thousandths of the plot's unit.
    """
    width, height = (_UNIT * value for value in plot.size)
    places = [(_UNIT * dot.xy[0], _UNIT * dot.xy[1]) for dot in plot.dots]
    circles = [
        SkeletonCircle(xy, _UNIT * (dot.inner or 0), _UNIT * (dot.outer or 0), dot.colour, f"{dot.name}: {dot.note}")
        for dot, xy in zip(plot.dots, places, strict=True)
    ]
    by_x = sorted(range(len(places)), key=lambda index: places[index])
    half = len(by_x) // 2
    names: list[SkeletonName] = []
    low, high = 0.0, height
    for side, anchor, x in ((by_x[:half], "end", -60.0), (by_x[half:], "start", width + 60.0)):
        order = sorted(side, key=lambda index: places[index][1])
        ys = _spread([places[index][1] for index in order], _LINE)
        for index, y in zip(order, ys, strict=True):
            dot, (to_x, to_y) = plot.dots[index], places[index]
            elbow = x + (30 if anchor == "end" else -30)
            path = f"M{x + (12 if anchor == 'end' else -12):.1f} {y:.1f}L{elbow:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"
            names.append(SkeletonName(dot.name, dot.note, anchor, (round(x, 1), round(y, 1)), path))
            low, high = min(low, y), max(high, y)
    reach = [(xy[1] - circle.outer, xy[1] + circle.outer) for xy, circle in zip(places, circles, strict=True)]
    # A circle may be larger than the object: what reaches further out is cut off.
    reach = [(y - circle.outer, y + circle.outer) for (_, y), circle in zip(places, circles, strict=True)]
    top = min(low - _LINE, max(-_OVERHANG, min((edge for edge, _ in reach), default=0.0)))
    bottom = max(high + _LINE, min(height + _OVERHANG, max((edge for _, edge in reach), default=0.0)))
    lines = "".join(
        f"M{places[a][0]:.1f} {places[a][1]:.1f}L{places[b][0]:.1f} {places[b][1]:.1f}" for a, b in plot.edges
    )
    view = (-_MARGIN, round(top, 1), round(width + 2 * _MARGIN, 1), round(bottom - top, 1))
    return SkeletonLayout(view, (round(width, 1), round(height, 1)), lines, circles, names)


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Move rising positions apart until neighbours are ``gap`` away from each other, each group about its middle."""
    groups: list[tuple[float, int]] = []  # middle, members
    for value in values:
        groups.append((value, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (second, n), (first, m) = groups.pop(), groups.pop()
            groups.append(((first * m + second * n) / (m + n), m + n))
    return [middle + gap * (index - (n - 1) / 2) for middle, n in groups for index in range(n)]
