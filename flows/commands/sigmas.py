"""The command sigmas, as a person sees it in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.system.tables import print_table
from keypipe.errors import format_count
from keypipe.evaluation.sigmas import SIGMAS_FILE


def sigmas_main(root: Path, folders: Sequence[Path], output: Path | None, encoding: str | None) -> None:
    """Estimate sigmas from folders annotated by different people, write them, and print the table.

    Args:
        root: the workspace.
        folders: one for each person.
        output: the YAML file; None for the workspace's own.
        encoding: of files that are neither UTF-8 nor UTF-16; None for ``convert.encoding``.
    """
    from rich.console import Console
    from rich.markup import escape

    from tasks.commands.sigma_estimation import estimate

    found = estimate(root, folders, output, encoding)
    rows: list[list[str]] = []
    for entry in found.sigmas:
        if entry.sigma is None:
            rows.append([escape(entry.keypoint), "0", "–", "", "", "", ""])
            continue
        rows.append(
            [
                escape(entry.keypoint),
                str(entry.repetitions),
                f"{entry.sigma:.4f}",
                f"{entry.low:.4f} to {entry.high:.4f}",
                f"{entry.median_px:.1f}",
                f"{entry.largest_px:.1f}",
                escape(entry.largest_path),
            ]
        )
    console = Console(highlight=False)
    print_table(console, ("keypoint", "repetitions", "sigma", "95 %", "median, px", "largest, px", "in"), rows)
    alone = f"; {found.alone} objects that one person alone has are left out" if found.alone else ""
    alone += f"; {format_count(found.set_aside, 'file')} with faults left out" if found.set_aside else ""
    rule = f"area {found.area_factor:g} of the box" if found.area_rule == "box" else "area of the whole box"
    console.print(
        f"{found.images} images and {found.objects} objects annotated by two people or more, {rule}{alone}",
        markup=False,
        soft_wrap=True,
    )
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if output is None:
        next_step = f"`keypipe run --set validate.sigma={SIGMAS_FILE}` measures with them"
    else:
        next_step = f"`validate.sigma: {SIGMAS_FILE}` reads them from there; or paste the mapping under validate.sigma"
    path = found.path.relative_to(root) if found.path.is_relative_to(root) else found.path
    console.print(f"{path} written; {next_step}", markup=False, soft_wrap=True)
