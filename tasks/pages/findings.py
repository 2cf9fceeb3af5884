"""The section of a page that lists findings of the diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keypipe.diagnosis.findings import Finding, describe_kind
from keypipe.report.page import Card, CardGroup, Findings

MAX_LISTED = 200
"""Findings of one kind that a page lists; the JSON has all of them."""


def to_section(findings: Sequence[Finding], pictures: Mapping[Finding, bytes], raw: str, note: str = "") -> Findings:
    """Build the section of a page that lists findings.

    Args:
        findings: sorted.
        pictures: JPEG files for some of them.
        raw: the raw folder as it is typed in a command, from the workspace.
        note: what the reader should know.
    """
    by_kind: dict[tuple[str, str], list[Finding]] = {}
    for found in findings:
        by_kind.setdefault((found.severity, found.kind), []).append(found)
    groups = []
    for (_, kind), members in by_kind.items():
        about = describe_kind(kind)
        cards = [_to_card(found, pictures.get(found), raw) for found in members[:MAX_LISTED]]
        groups.append(CardGroup(kind, about.title, about.why, cards, len(members) - len(cards)))
    return Findings("Findings", groups, note)


def _to_card(found: Finding, jpeg: bytes | None, raw: str) -> Card:
    place = found.file or "the whole dataset"
    place += "" if found.shape is None else f", shape {found.shape}"
    path = f"{raw}/{found.file}"
    quoted = path if all(c.isalnum() or c in "._-/" for c in path) else "'" + path.replace("'", "'\\''") + "'"
    return Card(
        found.severity,
        found.kind,
        place,
        found.message,
        found.fix,
        f"labelme {quoted}" if found.file else "",
        found.class_name,
        found.split,
        jpeg,
    )
