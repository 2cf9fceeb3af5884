"""The command doctor, as a person sees it in a terminal."""

from __future__ import annotations

from pathlib import Path

from flows.system.progress_bar import progress_bar
from flows.system.tables import print_table
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
    from rich.markup import escape

    from keypipe.diagnosis.findings import describe_kind

    console = Console(highlight=False)
    counts = examined.summary["counts"]
    if examined.findings:
        rows: list[list[str]] = []
        for severity, kinds in counts.items():
            for kind, count in kinds.items():
                example = next(f for f in examined.findings if (f.kind, f.severity) == (kind, severity))
                place = example.file + ("" if example.shape is None else f" shape {example.shape}")
                title = describe_kind(kind).title
                rows.append(
                    [
                        f"[{_COLOURS[severity]}]{severity}[/]",
                        kind,
                        str(count),
                        escape(title),
                        escape(place or example.message),
                    ]
                )
        print_table(console, ("severity", "kind", "count", "what", "for example"), rows)
    page = examined.page.relative_to(root)
    console.print(f"{examined.headline}; the page with pictures: {page}", markup=False, soft_wrap=True)
