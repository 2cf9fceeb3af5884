"""``keypipe retrain``: the retraining flow in this process, and what a person sees of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from flows.drift.record import reason_to_retrain
from flows.outcome import Outcome
from flows.retraining.record import read_outcome, to_table
from flows.system.json_output import echo_json

BUG = 1


def show_decision(root: Path, asked: str, *, as_json: bool = False) -> None:
    """Print whether `keypipe retrain` would train, and why; as text or as JSON."""
    from tasks.commands.accept import same_param
    from tasks.retraining.decision import decide_in
    from tasks.retraining.settings import read_settings
    from tasks.versions.repository import check_repository

    check_repository(root)
    found = decide_in(root, read_settings(root), same_param, asked, partial(reason_to_retrain, root))
    if as_json:
        echo_json(found)
        return
    click.echo(f"{'train' if found.train else 'skip'}: {found.reason}")
    for note in found.notes:
        click.echo(f"note: {note}")


def run_retraining(root: Path, asked: str, pull: bool | None) -> int:
    """Run the retraining flow in this process and show what became of it; returns the exit code.

    Args:
        root: the workspace.
        asked: why a person asks for it; "" where nobody does.
        pull: whether to bring code and data up to date first; None: as ``retrain.pull`` says.
    """
    import msgspec

    from flows.pipeline.plan import check_start
    from flows.services import server
    from flows.services.presence import is_cut_off
    from tasks.versions.raw import raw_version
    from tasks.workspace.places import RAW

    # The flow checks as well; here the user is told before a server is started. A fresh clone gets its data first.
    if (root / RAW).exists() or raw_version(root) is None or pull is False:
        check_start(root)
    before = read_outcome(root)
    with server.connected(root, click.echo):
        from flows.retraining.flow import retraining_flow

        try:
            state: Any = retraining_flow(str(root), asked, pull, return_state=True)
            server.settle(state.state_details.flow_run_id)
            found = state.result(raise_on_failure=False)
        except Exception as error:
            ended = read_outcome(root)
            if ended is None or ended == before:
                raise
            if not is_cut_off():  # of that the outcome's remarks tell
                click.echo(f"keypipe: Prefect was not told of the end ({type(error).__name__})", err=True)
            found = msgspec.to_builtins(ended)
    if isinstance(found, BaseException):
        # Prefect's log above has its traceback.
        click.echo(f"keypipe: this is a bug: {type(found).__name__}: {found}", err=True)
        return BUG
    outcome = msgspec.convert(found, Outcome)
    show_outcome(outcome)
    return outcome.exit_code


def show_outcome(outcome: Outcome) -> None:
    """Print what became of a retraining: every rule, the outcome, and what to do next."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if outcome.rows:
        rows = to_table(outcome.rows)
        colours = {"passed": "green", "failed": "red", "veto": "red"}
        table = Table(*rows[0])
        for row in rows:
            colour = colours.get(row["verdict"], "yellow")
            table.add_row(*list(row.values())[:-1], f"[{colour}]{row['verdict']}[/]")
        console.print(table)
    for remark in outcome.remarks:
        click.echo(f"note: {remark}", err=True)
    if outcome.kind == "failed":
        click.echo(f"keypipe: {outcome.title}: {outcome.reason}", err=True)
        return
    console.print(f"{outcome.kind:<11}{outcome.title}", markup=False, soft_wrap=True)
    console.print(f"{'why':<11}{outcome.reason}", markup=False, soft_wrap=True)
    if outcome.report:
        console.print(f"{'report':<11}{outcome.report}", markup=False, soft_wrap=True)
    if step := next_step(outcome):
        console.print(f"{'next':<11}{step}", markup=False, soft_wrap=True)


def next_step(outcome: Outcome) -> str:
    """Return what a person may type next; "" where nothing is to be done."""
    return {
        "promoted": 'keypipe rollback --why "…" takes it back',
        "approval wanted": f'keypipe approve {outcome.version}, or keypipe reject {outcome.version} --why "…"',
        "undecided": f'keypipe promote {outcome.version} --why "…" uses it all the same',
        "rejected": "",
        "skipped": 'keypipe retrain --force --why "…" trains all the same',
        "failed": "",
    }[outcome.kind]
