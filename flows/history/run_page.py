"""``keypipe report``: one page of a run, of the workspace as it is or of an earlier training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from flows.history.known_runs import WORKSPACE, Run, find_run, find_snapshot, list_runs
from flows.retraining.record import read_outcome, to_table
from keypipe.errors import PoseError
from keypipe.report.page import Cell, KeyValues, Note, Notes, Section, Table
from tasks.registry.moves.aliases import State, read_state
from tasks.run_report import MEGA, Files, Step, files_of, render_within, to_report
from tasks.tracking.client import server_name
from tasks.tracking.history import registered_models
from tasks.versions.store import opened_tree
from tasks.workspace.models import read_run_id
from tasks.workspace.places import REPORT_HTML, report_folder

FOLDER = report_folder("run")
SMALL_MB = 10.0
"""What mail servers take with room to spare: an attachment grows by a third on its way."""

_SEVERITIES = {"promoted": "good", "rejected": "error", "undecided": "warning", "approval wanted": "warning"}
_GATE = "keypipe.gate."


class Written(msgspec.Struct, frozen=True):
    """A page that was written.

    Attributes:
        path: the page.
        size_bytes: of it.
        reduced: how its pictures were reduced.
        run: id of the training's MLflow run.
    """

    path: str
    size_bytes: int
    reduced: Step
    run: str


def write_page(
    root: Path, name: str = WORKSPACE, *, output: Path | None = None, limit_mb: float | None = None
) -> Written:
    """Write the page of a run.

    Args:
        root: the workspace.
        name: as ``find_run`` takes it; default: the workspace as it is.
        output: the file; default: ``reports/run/report.html``.
        limit_mb: megabytes at most, by smaller and fewer pictures; None: none.

    Raises:
        PoseError: no such run, nothing was trained, or its results are gone.
    """
    with _opened(root, name) as (files, run_id, commit):
        lineage: dict[str, Cell] = {"Workspace": root.name, "MLflow": server_name(root)}
        if commit:
            lineage["Snapshot (git)"] = commit
        versions = _registered(root, run_id)
        lineage |= _use(versions)
        report = to_report(files, root.name, _gate(root, run_id, versions), lineage)
    page, step = render_within(report, None if limit_mb is None else int(limit_mb * MEGA))
    path = output or root / FOLDER / REPORT_HTML
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return Written(str(path), len(page.encode()), step, run_id)


@contextmanager
def _opened(root: Path, name: str) -> Iterator[tuple[Files, str, str]]:
    """Yield the files of a run, its id and the commit of its snapshot."""
    if name == WORKSPACE:
        yield files_of(root), read_run_id(root), ""
        return
    run: Run = find_run(list_runs(root), name)
    commit = find_snapshot(root, run).commit
    with opened_tree(root, commit) as (read, names):
        yield Files(read, names), run.id, commit


def _registered(root: Path, run_id: str) -> State | None:
    """Return the registered model as far as it has to do with a training; None where its server does not answer."""
    try:
        state, registered = read_state(root), registered_models(root)
        children = [child.id for run in list_runs(root) if run.id == run_id for child in run.children]
    except PoseError:
        return None
    # A version comes of the training itself, or of the child run in which it was registered.
    names = [name for one in (run_id, *children) for name in registered.get(one, ())]
    versions = [version for version in state.versions if f"{state.name} v{version.number}" in names]
    return State(state.name, versions, state.aliases, state.entries, state.remark)


def _use(state: State | None) -> dict[str, Cell]:
    if state is None:
        return {"Registered as": "unknown: the registry does not answer"}
    told = []
    for version in state.versions:
        aliases = sorted(alias for alias, number in state.aliases.items() if number == version.number)
        told.append(f"{state.name} v{version.number}" + (f" ({', '.join(aliases)})" if aliases else ""))
    return {"Registered as": ", ".join(told) or "not registered"}


def _gate(root: Path, run_id: str, state: State | None) -> list[Section]:
    """Return what the gate said of a training's model, and what people did with it."""
    sections: list[Section] = []
    outcome = read_outcome(root)
    if outcome is not None and outcome.training == run_id:
        said = f"{outcome.title}. {outcome.reason}"
        sections.append(Notes("Verdict", [Note(_SEVERITIES.get(outcome.kind, "info"), said)]))
        if outcome.rows:
            rows = to_table(outcome.rows)
            cells: list[list[Cell]] = [list(row.values()) for row in rows]
            sections.append(Table("Rules", list(rows[0]), cells, "The model in use beside the one of this run."))
    for version in state.versions if state else ():
        told = {key.removeprefix(_GATE): value for key, value in version.tags.items() if key.startswith(_GATE)}
        if told and not sections:
            sections.append(KeyValues(f"What the gate said of v{version.number}", told))
    numbers = {version.number for version in state.versions} if state else set()
    happened: list[list[Cell]] = [
        [entry.at, entry.what, entry.who, "; ".join(map(str, entry.moves)), entry.why]
        for entry in (state.entries if state else ())
        if entry.version in numbers or any(move.after in numbers or move.before in numbers for move in entry.moves)
    ]
    if happened:
        columns = ["When (UTC)", "What", "Who", "Aliases", "Why"]
        sections.append(Table("What was done with its versions", columns, happened))
    return sections


def describe(written: Written) -> Iterator[str]:
    """Yield where a page is and what it cost its pictures."""
    yield f"page: {written.path}, {written.size_bytes / MEGA:.1f} MB"
    step = written.reduced
    if step.most == 0:
        yield "without pictures, which would have been too large"
    elif step.side_px is not None:
        fewer = f", {step.most} of a kind at most" if step.most < Step().most else ""
        yield f"pictures reduced to {step.side_px} pixels{fewer}"
