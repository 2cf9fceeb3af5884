"""``keypipe models`` and what belongs to it: the registered versions, which one is in use, and how it came to be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from flows.history.known_runs import WORKSPACE, find_run, find_snapshot, list_runs
from flows.system.tables import print_table
from tasks.registry.moves.aliases import State
from tasks.registry.moves.approvals import find_waiting
from tasks.registry.moves.history import CHALLENGER, CHAMPION, PREVIOUS, last_champion_move
from tasks.registry.registration import Registered
from tasks.registry.registration import register as register_files
from tasks.tracking.models.registry import Version

_FIRST = (CHAMPION, CHALLENGER, PREVIOUS)


def register(root: Path, name: str, why: str) -> Registered:
    """Register a training as a version.

    Args:
        root: the workspace.
        name: as ``find_run`` takes it, or ``workspace``.
        why: the reason, for the history.
    """
    if name == WORKSPACE:
        return register_files(root, why=why)
    return register_files(root, commit=find_snapshot(root, find_run(list_runs(root), name)).commit, why=why)


def to_json(state: State) -> dict[str, Any]:
    """Return what a registry holds, for programs."""
    return {
        "model": state.name,
        "aliases": state.aliases,
        "versions": [
            {
                "version": version.number,
                "registered": _iso(version.created),
                "aliases": _aliases_of(state.aliases, version.number),
                "status": version.status,
                "tags": dict(version.tags),
            }
            for version in state.versions
        ],
        "history": msgspec.to_builtins(state.entries),
    }


def show_models(state: State) -> None:
    """Print the versions, and which one is in use."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    if not state.versions:
        console.print(f"{state.name} has no version yet; `keypipe register` makes the first", markup=False)
        return
    rows: list[list[str]] = []
    for version in state.versions:
        aliases = ", ".join(_aliases_of(state.aliases, version.number))
        rows.append(
            [
                f"v{version.number}",
                datetime.fromtimestamp(version.created).strftime("%Y-%m-%d %H:%M"),
                f"[green]{escape(aliases)}[/]" if CHAMPION in aliases else escape(aliases),
                _figure(version, "oks_AP"),
                _figure(version, "within_0.1_diagonals"),
                version.tags.get("keypipe.run", version.run_id)[:8],
            ]
        )
    print_table(console, ("version", "registered", "alias", "OKS AP (95 %)", "close (95 %)", "run"), rows)
    console.print("figures on the test images of each; close: keypoints within 0.1 box diagonals", markup=False)
    for line in describe_use(state):
        console.print(line, markup=False)


def describe_use(state: State) -> list[str]:
    """Return which version is in use, since when and why, and what a rollback would lead to."""
    champion, previous = state.aliases.get(CHAMPION), state.aliases.get(PREVIOUS)
    last = last_champion_move(state.entries)
    if champion is None:
        lines = ["in use     none; `keypipe promote VERSION --why …` puts one into use"]
    else:
        when = f" since {_local(last.at)}, by {last.who}" if last else ""
        lines = [f"in use     v{champion}{when}{f': {last.why}' if last and last.why else ''}"]
    if previous is not None:
        lines.append(f"before     v{previous}; `keypipe rollback` puts it into use again")
    waiting = find_waiting(state.entries)
    if waiting is not None:
        over = " (over)" if waiting.is_over() else ""
        lines.append(
            f"waits      v{waiting.version}, for a person's word until {_local(waiting.until)}{over}: {waiting.reason}"
        )
        lines.append(f"           `keypipe approve {waiting.version}`, or `keypipe reject {waiting.version} --why …`")
    return lines + ([f"           {state.remark}"] if state.remark else [])


def show_history(state: State) -> None:
    """Print every move of an alias, the newest last."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    rows = [
        [
            _local(entry.at),
            escape(entry.who),
            entry.what,
            escape("\n".join(map(str, entry.moves))),
            escape("; ".join(part for part in (entry.why, entry.note) if part)),
        ]
        for entry in state.entries
    ]
    if rows:
        print_table(console, ("when", "who", "what", "moves", "why"), rows)
    else:
        console.print(f"{state.name} has no history yet")
    if state.remark:
        Console(highlight=False).print(state.remark, markup=False)


def _figure(version: Version, name: str) -> str:
    """Return a figure with its interval as far as the version's tags have them, on test or else on val."""
    split = "test" if f"test.{name}" in version.tags else "val"
    value, low, high = (version.tags.get(f"{split}.{name}{end}", "")[:5] for end in ("", "_low", "_high"))
    return (value + (f" ({low} to {high})" if low and high else "")) + (" on val" if value and split == "val" else "")


def _aliases_of(aliases: Mapping[str, str], number: str) -> list[str]:
    names = [alias for alias, version in aliases.items() if version == number]
    return sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _local(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
