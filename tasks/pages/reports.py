"""A report as files: ``report.json`` for programs, ``report.html`` for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from keypipe.report.page import Report, render_report
from tasks.workspace.formats import check_format
from tasks.workspace.places import REPORT_HTML, REPORT_JSON
from tasks.workspace.program import write_json

FORMAT = 2
"""Of ``report.json``. 1, without a number: the same values without the key ``format``."""


def write_report(folder: Path, summary: Any, page: Report) -> None:
    """Write both files.

    Args:
        folder: is there.
        summary: what programs read, a mapping or a struct; gets the number of its format.
        page: what people read.
    """
    write_json(folder / REPORT_JSON, {**msgspec.to_builtins(summary), "format": FORMAT})
    (folder / REPORT_HTML).write_text(render_report(page), encoding="utf-8")


def parse_report(content: bytes, name: str = REPORT_JSON) -> dict[str, Any]:
    """Return what a ``report.json`` of this or an older format says.

    Args:
        content: of the file.
        name: of the file, for messages.

    Raises:
        DatasetError: it is damaged, or of a newer format.
    """
    check_format(content, FORMAT, name)
    return msgspec.json.decode(content, type=dict[str, Any])
