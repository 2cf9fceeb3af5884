"""Which registered versions are still needed, and how the others go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.registry.moves import history
from tasks.registry.moves.aliases import MovedError, State, holding, open_registry, read_state
from tasks.registry.moves.approvals import find_waiting

RECENT = "moved lately"
WAITING = "waits for a person's word"
BEHIND = "a rollback leads to it"
BEST = "the best that was in use"
"""The gate compares with it, so that many small losses do not add up; by the OKS AP that its test split gave."""

_FIGURE = "test.oks_AP"


def find_needed(root: Path, last: int, rollbacks: int = 1) -> dict[str, str]:
    """Return why each version of the workspace's registered model is needed.

    Args:
        root: the workspace.
        last: versions that the last so many moves of an alias speak of are needed.
        rollbacks: so many of the versions that stand behind the one in use are needed.

    Returns:
        For each version, such as ``cow v3``, its aliases, ``WAITING``, ``BEHIND``, ``BEST`` or ``RECENT``; "" where
        nothing needs it.
    """
    return _find_needed(read_state(root), last, rollbacks)


def _find_needed(state: State, last: int, rollbacks: int) -> dict[str, str]:
    waiting = find_waiting(state.entries)
    behind = history.champions(state.entries)[-1 - rollbacks :]
    moved = [entry for entry in state.entries if entry.moves]
    recent = history.versions_of(moved[max(0, len(moved) - last) :])
    used = history.ever_champions(state.entries)
    measured = [version for version in state.versions if version.number in used and _FIGURE in version.tags]
    best = max(measured, key=lambda version: float(version.tags[_FIGURE]), default=None)
    found: dict[str, str] = {}
    for version in state.versions:
        aliases = sorted(alias for alias, number in state.aliases.items() if number == version.number)
        otherwise = {
            WAITING: waiting is not None and waiting.version == version.number,
            BEHIND: version.number in behind,
            BEST: version is best,
            RECENT: version.number in recent,
        }
        why = ", ".join(aliases) or next((reason for reason, holds in otherwise.items() if holds), "")
        found[f"{state.name} v{version.number}"] = why
    return found


def delete_versions(root: Path, numbers: Sequence[str], last: int, rollbacks: int = 1) -> None:
    """Delete versions that nothing needs, and write down that they went.

    Args:
        root: the workspace.
        numbers: the versions.
        last: see ``find_needed``.
        rollbacks: likewise.

    Raises:
        MovedError: one of them has become needed in the meantime; nothing is deleted.
    """
    if not numbers:
        return
    registry = open_registry(root)
    with holding(registry, history.me()) as held:
        state = State(registry.name, registry.versions(), held.aliases, held.entries)
        needed = _find_needed(state, last, rollbacks)
        again = [number for number in numbers if needed.get(f"{registry.name} v{number}")]
        if again:
            raise MovedError(f"v{', v'.join(again)} of {registry.name} came into use just now; prune again")
        for number in numbers:
            registry.delete_version(number)
        names = ", ".join(f"v{number}" for number in numbers)
        held.record(history.new_entry("prune", history.me(), note=f"deleted {names}"[:4000]))
