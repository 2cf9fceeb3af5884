"""Commands that bring the pipeline up to date, now or on a schedule, and say how it stands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from flows.command_line.data import changing
from flows.command_line.menu import command, complete_stage, json_option
from flows.system.json_output import echo_json


@command(
    "run",
    examples=["keypipe run", "keypipe run --set train.epochs=2 --until train", "keypipe run --force export"],
)
@click.option("--until", metavar="STAGE", shell_complete=complete_stage, help="Stop after this stage.")
@click.option(
    "--force",
    metavar="STAGE",
    multiple=True,
    shell_complete=complete_stage,
    help="Run this stage even when nothing changed; repeatable.",
)
@click.option("--set", "assignments", metavar="KEY=VALUE", multiple=True, help="First write this to params.yaml.")
@json_option("what became of it")
@click.pass_obj
def run(root: Path, until: str | None, force: Sequence[str], assignments: Sequence[str], as_json: bool) -> None:
    """Bring the pipeline up to date; only what changed runs."""
    if assignments:
        from flows.pipeline import lease
        from tasks.commands.writing.set_params import set_params

        with lease.claim(root):  # the stages of a run at work read the file one after the other
            for line in set_params(root, assignments):
                click.echo(line, err=as_json)
    from flows.commands.training import run_training

    sys.exit(run_training(root, until, force, as_json=as_json))


@command("retrain", examples=["keypipe retrain --dry-run", 'keypipe retrain --force --why "new camera"'])
@click.option("--dry-run", is_flag=True, help="Decide and say why; pull nothing, train nothing.")
@click.option("--force", is_flag=True, help="Train whatever has changed; needs --why.")
@click.option("--why", default="", help="The reason for --force, for the history.")
@click.option("--no-pull", is_flag=True, help="Take code and data as they are here.")
@json_option("the decision of --dry-run")
@click.pass_obj
def retrain(root: Path, dry_run: bool, force: bool, why: str, no_pull: bool, as_json: bool) -> None:
    """Train anew where there is reason to; a model that passes is used.

    What is a reason, and which rules, says the section `retrain` of params.yaml (docs/retraining.md).
    """
    if force != bool(why.strip()):
        raise click.UsageError("--force and --why go together: the history keeps the reason")
    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run; what became of a retraining is in `keypipe status --json`")
    from flows.commands import retraining

    if dry_run:
        retraining.show_decision(root, why.strip(), as_json=as_json)
        return
    sys.exit(retraining.run_retraining(root, why.strip(), pull=False if no_pull else None))


@command("status", examples=["keypipe status", "keypipe status --json"])
@json_option()
@click.pass_obj
def status(root: Path, as_json: bool) -> None:
    """Say what is up to date, what is not and why."""
    from flows.commands import status as module

    found = module.read_status(root)
    if as_json:
        echo_json(found)
    else:
        module.show_status(found)


@command(
    "weights",
    examples=["keypipe weights ~/pose.pt", "keypipe weights ~/large-pose.pt --teacher", "keypipe weights --champion"],
)
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--champion", is_flag=True, help="The weights of the model in use, and at each retraining those of its own."
)
@click.option("--name", help="Its name in data/weights; default: its own.")
@click.option("--teacher", is_flag=True, help="Weights that the training learns from as well (train.distill_model).")
@click.pass_obj
def weights(root: Path, file: Path | None, champion: bool, name: str | None, teacher: bool) -> None:
    """Let trainings start from your own weights, or from the champion.

    FILE, a .pt or a model YAML, is copied to data/weights, where DVC keeps it and a run's fingerprint counts it, and
    params.yaml names it as train.model. Published names, such as yolov8n-pose.pt, need no file.
    """
    from tasks.commands.weights import take_weights
    from tasks.commands.writing.set_params import set_params
    from tasks.retraining import start
    from tasks.workspace.documents import format_value

    if champion:
        if file or name or teacher:
            raise click.UsageError("--champion takes neither a file nor another option.")
        with changing(root):
            fetched = start.fetch_champion(root)
            lines = set_params(root, [f"train.model={format_value(start.PLACE.as_posix())}"])
        click.echo(f"{start.PLACE}: the weights of v{fetched.version}; `keypipe retrain` keeps them those in use")
        for line in lines:
            click.echo(line)
        click.echo(f"commit {start.NOTE} and params.yaml; next: keypipe run")
        return
    if file is None:
        raise click.UsageError("Missing argument 'FILE' (or --champion).")
    with changing(root):
        taken = take_weights(root, file.absolute(), name, teacher=teacher)
        lines = set_params(root, [f"train.{taken.key}={format_value(taken.name)}"])
    click.echo(f"{taken.name}: {taken.about}")
    for line in lines:
        click.echo(line)
    click.echo(f"commit {taken.note} and params.yaml; next: keypipe run")


@command(
    "sweep",
    examples=[
        "keypipe sweep rates train.lr0=log:0.001..0.01 --set train.epochs=20",
        "keypipe sweep rates",
        "keypipe sweep rates --trials 50",
        "keypipe sweep rates --apply",
    ],
)
@click.argument("name", required=False)
@click.argument("space", metavar="[KEY=VALUES]...", nargs=-1)
@click.option("--trials", type=click.IntRange(1), help="How many there are to be, earlier ones included. [default: 20]")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Trainings at a time.")
@click.option("--set", "fixed", metavar="KEY=VALUE", multiple=True, help="What all trials have; repeatable.")
@click.option("--sampler", type=click.Choice(["tpe", "random"]), help="Who chooses. [default: tpe]")
@click.option("--seed", type=int, help="Of what is random in choosing. [default: 0]")
@click.option("--pruning/--no-pruning", "pruned", default=None, help="End trials that are behind half of the others.")
@click.option("--apply", is_flag=True, help="Write the best trial's values to params.yaml.")
@click.option("--trial", type=click.IntRange(0), help="For --apply: this trial in place of the best.")
@click.option("--forget", is_flag=True, help="Remove what the sweep is gone on with; its trainings stay.")
@json_option("the trials")
@click.pass_obj
def sweep(
    root: Path, /, name: str | None, apply: bool, trial: int | None, forget: bool, as_json: bool, **options: Any
) -> None:
    """Try values of train parameters, and take the best.

    VALUES are LOW..HIGH, log:LOW..HIGH or A|B|C. Each trial is a training of its own beside the workspace, a child of
    the sweep's run in MLflow, compared by train.best_by on the val split; the test split is not looked at. Without
    VALUES and --trials a sweep is shown; without NAME all are.
    """
    from flows.services import server

    server.configure(root)
    from flows.commands import sweeping

    if trial is not None and not apply:
        raise click.UsageError("--trial goes with --apply.")
    if (apply or forget) and (name is None or apply == forget or options["space"] or options["trials"]):
        raise click.UsageError("--apply and --forget go with the name of a sweep, and with nothing that is run.")
    if name is None:
        sweeping.list_sweeps(root, as_json=as_json)
    elif forget:
        from flows.sweeping import kept

        kept.forget(root, name)
        click.echo(f"sweep {name} is forgotten; its trainings go with `keypipe gc` when nothing else needs them")
    elif apply:
        sweeping.apply_trial(root, name, trial)
    else:
        sys.exit(sweeping.sweep_main(root, sweeping.Wish(name, as_json=as_json, **options)))


@command("accept", examples=["keypipe accept", "keypipe accept train"])
@click.argument("stages", metavar="[STAGE]...", nargs=-1, shell_complete=complete_stage)
@click.pass_obj
def accept(root: Path, stages: Sequence[str]) -> None:
    """Keep outputs as they are where only keypipe's own code changed.

    For after an upgrade; without STAGE: every stage of which nothing else changed. convert and split, which take
    seconds, are run anew. Refused where data or parameters changed as well, or today's code learns otherwise.
    """
    from flows.pipeline import acceptance

    taken = acceptance.accept(root, stages, click.echo)
    for accepted in taken:
        click.echo(f"{accepted.stage}: outputs taken as they are ({', '.join(accepted.code)} changed)")
    click.echo("recorded in dvc.lock and accepted.yaml; commit them" if taken else "nothing to accept")


@command(
    "schedule",
    examples=[
        'keypipe schedule --cron "0 3 * * *" --timezone Europe/Berlin',
        "keypipe schedule --on-change --quiet 5m",
        "keypipe schedule --every 6h --flow training",
    ],
)
@click.option("--cron", "crons", multiple=True, help='When to run, such as "0 3 * * *"; repeatable.')
@click.option("--every", metavar="TIME", help="Time between two runs, such as 30m, 6h or 1d; counted from midnight.")
@click.option("--on-change", is_flag=True, help="Run after changes of data/raw.")
@click.option("--quiet", metavar="TIME", help="For --on-change: how long nothing may have changed. [default: 60s]")
@click.option("--timezone", help="IANA name, such as Europe/Berlin, that --cron and --every count in. [default: UTC]")
@click.option(
    "--flow",
    type=click.Choice(["retraining", "training", "drift"]),
    default="retraining",
    show_default=True,
    help="What to run: as `keypipe retrain` does, as `keypipe run`, or as `keypipe drift`.",
)
@click.pass_obj
def schedule(
    root: Path,
    crons: Sequence[str],
    every: str | None,
    on_change: bool,
    quiet: str | None,
    timezone: str | None,
    flow: str,
) -> None:
    """Retrain on a schedule, until Ctrl-C.

    --cron, --every and --on-change go together. One run at a time; what fell due meanwhile, or while nobody served the
    schedule, is made up for by one run.
    """
    from flows.scheduling import schedule as scheduling
    from flows.services import server
    from flows.services.timetable import make_timetable

    server.configure(root)
    timetable = make_timetable(crons, every, on_change, quiet, timezone)
    scheduling.serve(root, timetable, flow, click.echo)


@command(
    "notify",
    examples=["keypipe notify", "keypipe notify --test failed"],
    exit_codes={2: "the section retrain.notify is at fault, or a test did not arrive"},
)
@click.option("--test", "event", metavar="EVENT", help="Send a test of this event.")
@json_option("who is told, or what became of the test,")
@click.pass_obj
def notify(root: Path, event: str | None, as_json: bool) -> None:
    """Show who is told what became of a retraining, or try it out.

    Who is told stands under `retrain.notify` in params.yaml. EVENT is promoted, rejected, undecided, failed, drift,
    approval or skipped; a test goes by every way that is told of it, and says that it is one.
    """
    from flows.commands import notifying

    if event is not None:
        deliveries = notifying.try_out(root, event, partial(click.echo, err=as_json))
        if as_json:
            echo_json(deliveries)
        if not all(delivery.arrived for delivery in deliveries):
            sys.exit(2)
        return
    who = notifying.read_who(root)
    if as_json:
        echo_json(who)
        return
    for name, events in who.ways:
        click.echo(f"{name}: {', '.join(events)}")
    if not who.ways:
        click.echo("nobody is told; docs/retraining.md shows how to name somebody")
    if who.last:
        click.echo(f"last: {who.last.title} ({who.last.at})")
        for delivery in who.last.deliveries:
            click.echo(f"  {delivery.describe()}")
