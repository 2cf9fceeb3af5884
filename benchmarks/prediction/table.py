"""The table of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.prediction.material import CASES
from benchmarks.prediction.programs import PROGRAMS
from benchmarks.serving.records import Records

RIVAL = "yolo"
"""What every program is compared with: with pictures, as it comes."""


class Steady(NamedTuple):
    """A round of a program: milliseconds an image at steady state, seconds of the whole, memory in MB, objects."""

    processor_ms: float
    ms: float
    whole_s: float
    peak_mb: float
    grown_mb: float
    objects: int


def read_rounds(records: Records, label: str, case: str) -> dict[str, dict[int, Steady]]:
    """Return the whole rounds of each program of a case."""
    runs: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for (of, program, turn, size), values in records.of(case):
        if of == label:
            runs.setdefault((program, turn), {})[size] = values
    found: dict[str, dict[int, Steady]] = {}
    for (program, turn), sizes in runs.items():
        if len(sizes) == 2:
            found.setdefault(program, {})[turn] = compare(sizes["few"], sizes["many"], CASES[case].more)
    return found


def compare(few: Mapping[str, Any], many: Mapping[str, Any], images: int) -> Steady:
    """Return what a run of many images says beside one that has fewer by so many."""
    return Steady(
        1000 * (many["processor_s"] - few["processor_s"]) / images,
        1000 * (many["seconds"] - few["seconds"]) / images,
        many["seconds"],
        many["total_mb"],
        many["total_mb"] - few["total_mb"],
        many["objects"],
    )


def format_table(records: Records, label: str, cases: Sequence[str]) -> str:
    """Return the table in Markdown: medians, and of ratios the range as well."""
    lines = [
        "| on | program | processor ms an image | ratio | ms an image | ratio | whole, s | peak MB (more of them) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        rounds = read_rounds(records, label, case)
        for program in (name for name in PROGRAMS if name in rounds):
            mine = list(rounds[program].values())
            cells = [CASES[case].title, f"`{program}`"]
            for field in ("processor_ms", "ms"):
                cells.append(f"{_median(getattr(item, field) for item in mine):.1f}")
                cells.append(_ratio(rounds.get(RIVAL, {}), rounds[program], field))
            cells.append(f"{_median(item.whole_s for item in mine):.1f}")
            grown = _median(item.grown_mb for item in mine)
            cells.append(f"{max(item.peak_mb for item in mine):.0f} ({grown:+.0f})")
            lines.append(f"| {' | '.join(cells)} |")
        found = {program: sorted({item.objects for item in turns.values()}) for program, turns in rounds.items()}
        lines += [f"objects: {found}"] if found else []
    return "\n".join(lines)


def _ratio(theirs: Mapping[int, Steady], mine: Mapping[int, Steady], field: str) -> str:
    ratios = sorted(getattr(theirs[turn], field) / getattr(mine[turn], field) for turn in mine if turn in theirs)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})" if ratios else ""


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
