"""``keypipe run``: the training flow in this process, and what a person sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.system.json_output import echo_json
from flows.system.tables import print_table
from tasks.workspace.places import BEST, EXPORTS, REPORT_HTML, REPORTS
from tasks.workspace.program import format_seconds

if TYPE_CHECKING:
    from flows.pipeline.run_result import RunResult

BUG = 1


def run_training(root: Path, until: str | None, force: Sequence[str], *, as_json: bool = False) -> int:
    """Run the training flow in this process and show what became of it; returns the exit code."""
    import msgspec

    from flows.pipeline.plan import check_start
    from flows.pipeline.run_result import RunResult
    from flows.services import server
    from flows.services.presence import is_cut_off

    # The flow checks as well; here the user is told before a server is started.
    plan = check_start(root, until, force)
    if not force and answer_at_once(root, plan, until, as_json=as_json):
        return 0
    with server.connected(root, partial(click.echo, err=as_json)):
        from flows.pipeline import flow as training

        def run() -> Any:
            return training.training_flow(str(root), until, list(force), return_state=True)

        state = training.run_to_state(root, run)
        if not is_cut_off():
            server.settle(state.state_details.flow_run_id)
        outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        # Prefect's log above has its traceback.
        click.echo(f"keypipe: this is a bug: {type(outcome).__name__}: {outcome}", err=True)
        return BUG
    result = msgspec.convert(outcome, RunResult)
    show_result(root, result, as_json=as_json)
    return result.exit_code


def answer_at_once(root: Path, plan: Sequence[str], until: str | None, *, as_json: bool = False) -> bool:
    """Show that nothing is to do, and have a process of its own tell Prefect, where a server is in use.

    Args:
        root: the workspace, checked.
        plan: the stages to go through.
        until: the last one, where one was named.
        as_json: show it as JSON.

    Returns:
        False where something is to do, or cannot be told without Prefect; nothing was shown then.
    """
    from flows.pipeline.unchanged import afterwards
    from flows.pipeline.unchanged import answer as unchanged
    from flows.services import quick_settings, server

    try:
        url = quick_settings.configured_url()
    except quick_settings.UnclearError:
        return False
    if url is not None and not server.answers(url):
        return False  # which the user is told where the flow is run
    found = unchanged.find_nothing_to_do(root, plan)
    if found is None:
        return False
    show_result(root, found[0], as_json=as_json)
    if url is not None or server.recorded_server(root):
        afterwards.tell(root, afterwards.Untold(*found, until))
    return True


def show_result(root: Path, result: RunResult, *, as_json: bool = False) -> None:
    """Print the table of stages, where things are and what to type next; or all that is known of the run as JSON."""
    if as_json:
        echo_json(result)
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    colours = {"Failed": "red", "Skipped": "yellow", "Ran": "green"}
    if result.stages:
        rows: list[list[str]] = []
        for stage in result.stages:
            colour = colours.get(stage.state, "cyan")
            seconds = format_seconds(stage.seconds) if stage.state != "Skipped" else ""
            rows.append([stage.stage, f"[{colour}]{stage.state}[/]", seconds, escape(stage.headline)])
        print_table(console, ("stage", "state", "time", "headline"), rows)
    for line in result.unrecorded:
        click.echo(f"not recorded: {line}", err=True)
    if result.message:
        click.echo(f"keypipe: {result.message}", err=True)
        return
    for name, text in places(root):
        console.print(f"{name:<11}{text}", markup=False, soft_wrap=True)


def places(root: Path) -> list[tuple[str, str]]:
    """Return where the results of a run are, as far as they are there, and what to type next."""
    model = root / BEST
    exports = sorted(path.name for path in (root / EXPORTS).glob("*.onnx"))
    reports = sorted((root / REPORTS).glob(f"*/{REPORT_HTML}"))
    lines = [("model", str(BEST))] if model.exists() else []
    lines += [("exports", ", ".join(str(EXPORTS / name) for name in exports))] if exports else []
    lines += [("reports", ", ".join(str(path.relative_to(root)) for path in reports))] if reports else []
    lines.append(("dashboards", "keypipe ui"))
    if model.exists():
        lines.append(("next", "keypipe predict PATH_TO_AN_IMAGE"))
    return lines
