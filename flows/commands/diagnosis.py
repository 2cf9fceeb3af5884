"""The command doctor, as a person sees it in a terminal."""

from __future__ import annotations

from pathlib import Path

from flows.system.progress_bar import progress_bar
from tasks.commands.doctor import Examined

FOUND = 2
"""Exit code when there are findings as grave as ``doctor.fail_on`` says."""

_COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


def doctor_main(root: Path, folder: Path | None, *, as_json: bool, encoding: str | None = None) -> int:
    """Examine the data and print what was found.

    Args:
        root: the workspace.
        folder: another folder than the workspace's own.
        as_json: print the machine-readable report instead of a table.
        encoding: of files that are neither UTF-8 nor UTF-16, instead of ``convert.encoding``.

    Returns:
        The exit code: 0, or 2 when a finding is as grave as ``doctor.fail_on`` says.
    """
    from tasks.commands.doctor import examine

    with progress_bar("reading annotations") as progress:
        examined = examine(root, folder, progress, encoding)
    if as_json:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(examined.summary, order="deterministic"), indent=2)
        print(text.decode())  # noqa: T201 - the command's output
    else:
        _show(root, examined)
    return FOUND if examined.stops else 0


def _show(root: Path, examined: Examined) -> None:
    from rich.console import Console
    from rich.table import Table

    from keypipe.diagnosis.findings import describe_kind

    console = Console(highlight=False)
    counts = examined.summary["counts"]
    if examined.findings:
        table = Table("severity")
        for name in ("kind", "count"):
            table.add_column(name, no_wrap=True)
        for name in ("what", "for example"):
            table.add_column(name, overflow="fold")
        for severity, kinds in counts.items():
            for kind, count in kinds.items():
                example = next(f for f in examined.findings if (f.kind, f.severity) == (kind, severity))
                place = example.file + ("" if example.shape is None else f" shape {example.shape}")
                title = describe_kind(kind).title
                table.add_row(f"[{_COLOURS[severity]}]{severity}[/]", kind, str(count), title, place)
        console.print(table)
    page = examined.page.relative_to(root)
    console.print(f"{examined.headline}; the page with pictures: {page}", markup=False, soft_wrap=True)
