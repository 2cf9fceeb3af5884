"""Which registered versions are still needed, and how the others go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.registry.moves import history
from tasks.registry.moves.aliases import MovedError, State, holding, open_registry, read_state

RECENT = "moved lately"
BEST = "the best that was in use"
"""The gate compares with it, so that many small losses do not add up; by the OKS AP that its test split gave."""

_FIGURE = "test.oks_AP"


def find_needed(root: Path, last: int) -> dict[str, str]:
    """Return why each version of the workspace's registered model is needed.

    Args:
        root: the workspace.
        last: versions that the last so many moves of an alias speak of are needed.

    Returns:
        For each version, such as ``cow v3``, its aliases, ``BEST`` or ``RECENT``; "" where nothing needs it.
    """
    return _find_needed(read_state(root), last)


def _find_needed(state: State, last: int) -> dict[str, str]:
    recent = history.versions_of([entry for entry in state.entries if entry.moves][-last:])
    used = history.ever_champions(state.entries)
    measured = [version for version in state.versions if version.number in used and _FIGURE in version.tags]
    best = max(measured, key=lambda version: float(version.tags[_FIGURE]), default=None)
    found: dict[str, str] = {}
    for version in state.versions:
        aliases = sorted(alias for alias, number in state.aliases.items() if number == version.number)
        otherwise = BEST if version is best else RECENT if version.number in recent else ""
        why = ", ".join(aliases) or otherwise
        found[f"{state.name} v{version.number}"] = why
    return found


def delete_versions(root: Path, numbers: Sequence[str], last: int) -> None:
    """Delete versions that nothing needs, and write down that they went.

    Args:
        root: the workspace.
        numbers: the versions.
        last: see ``find_needed``.

    Raises:
        MovedError: one of them has become needed in the meantime; nothing is deleted.
    """
    if not numbers:
        return
    registry = open_registry(root)
    with holding(registry, history.me()) as held:
        state = State(registry.name, registry.versions(), held.aliases, held.entries)
        needed = _find_needed(state, last)
        again = [number for number in numbers if needed.get(f"{registry.name} v{number}")]
        if again:
            raise MovedError(f"v{', v'.join(again)} of {registry.name} came into use just now; prune again")
        for number in numbers:
            registry.delete_version(number)
        names = ", ".join(f"v{number}" for number in numbers)
        held.record(history.new_entry("prune", history.me(), note=f"deleted {names}"[:4000]))
