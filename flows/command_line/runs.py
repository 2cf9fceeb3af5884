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
    """List trainings; also `runs keep`, `runs gc`, `runs reproduce`."""
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
@click.option("--undo", is_flag=True, help="Let `gc` have them again.")
@click.pass_obj
def keep(root: Path, names: Sequence[str], undo: bool) -> None:
    """Keep trainings whatever `gc` lets go of.

    RUN is the start of an MLflow run's id, or `latest`. Without RUN all trainings are listed, and why they stay.
    """
    from flows.history import retention

    if not names:
        retention.show_runs(retention.list_kept(root))
    for run in retention.keep(root, names, undo=undo) if names else ():
        click.echo(f"{run.name} {'is no longer kept' if undo else 'is kept'}: {run.headline or run.status.lower()}")


@runs.command(
    "report", examples=["keypipe report --small", "keypipe report 3f2a91c0 --small --output run.html", "keypipe report"]
)
@click.argument("name", metavar="[RUN]", default="workspace")
@click.option("--small", is_flag=True, help="Below 10 MB, as an attachment: pictures are made smaller, then fewer.")
@click.option("--mb", type=click.FloatRange(min=0, min_open=True), help="Another limit, in megabytes.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Default: reports/run/report.html.")
@json_option("where it is, and how large,")
@click.pass_obj
def report(root: Path, name: str, small: bool, mb: float | None, output: Path | None, as_json: bool) -> None:
    """Write one page of a run, from data to lineage, to send around.

    On it are data, curves, evaluation, pictures, export, what the gate said, and where it all comes from. It needs no
    network and no other file. RUN is the start of an MLflow run's id, `latest`, or `workspace`, which is the default:
    the workspace as it is. It is sent to nobody; it shows images, so send it to those who may see them.
    """
    from flows.history import run_page

    limit = mb if mb is not None else run_page.SMALL_MB if small else None
    written = run_page.write_page(root, name, output=output, limit_mb=limit)
    if as_json:
        echo_json(written)
        return
    for line in run_page.describe(written):
        click.echo(line)


@runs.command("gc", examples=["keypipe gc", "keypipe gc --yes", "keypipe gc --keep 5 --json"])
@click.option(
    "--keep", "number", metavar="N", type=click.IntRange(1), help="How many trainings stay; default: by params.yaml."
)
@click.option("--yes", is_flag=True, help="Remove it; without it nothing is removed.")
@json_option("what goes, or went, and why the rest stays,")
@click.pass_obj
def gc(root: Path, number: int | None, yes: bool, as_json: bool) -> None:
    """Tell what of the past may go, and with --yes remove it.

    Old trainings with all that only they need (snapshots, MLflow's artifacts, registered versions, DVC's cache), runs
    in Prefect, the log of predictions, and what was reproduced, by the section `retention` of params.yaml. The
    champion, what a rollback leads to, what is kept by name, in the workspace, or on the tip of a branch or a tag
    stays.
    """
    from flows.history import cleaning

    policy = cleaning.read_policy(root, number)
    cleaned = cleaning.clean(root, policy, remove=yes, say=partial(click.echo, err=as_json))
    if as_json:
        echo_json(cleaned)
    else:
        cleaning.show(cleaned, click.echo)


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
