"""Commands on trainings of the past."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from flows.command_line.menu import group, json_option
from flows.system.json_output import echo_json

DIFFERS = 1


@group(
    "runs", invoke_without_command=True, examples=["keypipe runs", "keypipe runs keep latest", "keypipe runs --json"]
)
@json_option("the trainings, and why each stays,")
@click.pass_context
def runs(context: click.Context, as_json: bool) -> None:
    """List trainings; also `runs keep`, `runs prune`, `runs reproduce`."""
    if context.invoked_subcommand is None:
        from flows.history import retention

        kept = retention.list_kept(context.obj)
        if as_json:
            echo_json(kept)
        else:
            retention.show_runs(kept)


@runs.command("compare", examples=["keypipe compare latest workspace", "keypipe compare 3f2a91c0 latest"])
@click.argument("names", metavar="RUN RUN...", nargs=-1, required=True)
@json_option()
@click.pass_obj
def compare(root: Path, names: Sequence[str], as_json: bool) -> None:
    """Compare parameters, code, data and figures of trainings.

    The first is compared with each of the others. RUN is the start of an MLflow run's id, `latest`, `workspace`, or a
    commit of git.
    """
    from flows.history import comparison

    found = comparison.compare(root, names)
    page = comparison.write_page(root, found)
    if as_json:
        echo_json(found)
        return
    comparison.show(found)
    click.echo(f"page: {page}")


@runs.command("keep", everyday=False, examples=["keypipe runs keep latest", "keypipe runs keep 3f2a91c0 --undo"])
@click.argument("names", metavar="[RUN]...", nargs=-1)
@click.option("--undo", is_flag=True, help="Let pruning have them again.")
@click.pass_obj
def keep(root: Path, names: Sequence[str], undo: bool) -> None:
    """Keep trainings whatever is pruned.

    RUN is the start of an MLflow run's id, or `latest`. Without RUN all trainings are listed, and why they stay.
    """
    from flows.history import retention

    if not names:
        retention.show_runs(retention.list_kept(root))
    for run in retention.keep(root, names, undo=undo) if names else ():
        click.echo(f"{run.name} {'is no longer kept' if undo else 'is kept'}: {run.headline or run.status.lower()}")


@runs.command("prune", everyday=False, examples=["keypipe runs prune --keep 10 --dry-run"])
@click.option("--keep", "number", metavar="N", type=click.IntRange(1), required=True, help="How many stay, the newest.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@json_option("what was removed")
@click.pass_obj
def prune(root: Path, number: int, dry_run: bool, as_json: bool) -> None:
    """Remove old trainings and all that only they need.

    With a training go its snapshot, its artifacts, and what only it needs of DVC's cache. What is kept, registered, in
    the workspace, or on the tip of a branch or a tag stays.
    """
    from flows.history import retention

    pruned = retention.prune(root, number, dry_run=dry_run, say=partial(click.echo, err=as_json))
    if as_json:
        echo_json(pruned)
        return
    retention.show_pruned(pruned, dry_run=dry_run, say=click.echo)


@runs.command(
    "reproduce",
    everyday=False,
    examples=["keypipe runs reproduce latest", "keypipe runs reproduce 3f2a91c0 --check"],
    exit_codes={0: "reproduced", DIFFERS: "something differs that should not"},
)
@click.argument("name", metavar="RUN")
@click.option("--check", is_flag=True, help="Run every stage again, the training included.")
@json_option("what was compared")
@click.option("--tolerance", default=0.02, show_default=True, help="Largest difference of a figure on another machine.")
@click.pass_obj
def reproduce(root: Path, name: str, check: bool, as_json: bool, tolerance: float) -> None:
    """Rebuild a training beside the workspace and compare results.

    RUN is the start of an MLflow run's id, or `latest`. Its code, data and results are compared with what was recorded.
    """
    from flows.history import reproduction

    say = partial(click.echo, err=as_json)
    done = reproduction.reproduce(root, name, check=check, tolerance=tolerance, say=say)
    if as_json:
        echo_json(done)
    else:
        reproduction.show(done, click.echo)
    sys.exit(0 if done.same else DIFFERS)
