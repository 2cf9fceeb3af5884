"""Where the bars, curves, circles and names of a report's charts lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from keypipe.report.formatting import common_decimals, format_cell
from keypipe.report.sections import GroupedBarChart, LineChart, SkeletonPlot


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
