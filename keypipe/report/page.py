"""One self-contained HTML page out of tables, charts, pictures and notes, for every stage.

The page opens from the disk: no server, no network, no file beside it. Nothing in it depends on the time or
the machine, so equal reports are equal files.
"""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Sequence
from functools import cache

import msgspec
from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined
from PIL import Image

from keypipe.report.charts import lay_out_bars, lay_out_lines, lay_out_skeleton
from keypipe.report.formatting import Cell, common_decimals, format_cell
from keypipe.report.sections import (
    SEVERITIES,
    BarChart,
    Card,
    CardGroup,
    Chapter,
    Faults,
    Figure,
    Findings,
    Gallery,
    GroupedBarChart,
    KeyValues,
    LineChart,
    LineCharts,
    Matrix,
    Note,
    Notes,
    Picture,
    ScatterPlot,
    ScatterPlots,
    Section,
    SkeletonDot,
    SkeletonPlot,
    SkeletonPlots,
    Table,
)

__all__ = [
    "SEVERITIES",
    "BarChart",
    "Card",
    "CardGroup",
    "Cell",
    "Chapter",
    "Faults",
    "Figure",
    "Findings",
    "Gallery",
    "GroupedBarChart",
    "KeyValues",
    "LineChart",
    "LineCharts",
    "Matrix",
    "Note",
    "Notes",
    "Picture",
    "Report",
    "ScatterPlot",
    "ScatterPlots",
    "Section",
    "SkeletonDot",
    "SkeletonPlot",
    "SkeletonPlots",
    "Table",
    "format_cell",
    "render_report",
]


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


def _bytecode_cache() -> FileSystemBytecodeCache | None:
    """Keep the compiled template among the user's temporary files: compiling takes longer than all other work."""
    try:
        return FileSystemBytecodeCache()
    except (RuntimeError, OSError):  # no folder there that is this user's alone
        return None


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("keypipe.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        bytecode_cache=_bytecode_cache(),
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
