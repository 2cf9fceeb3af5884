"""Commands on registered versions of the model."""

from __future__ import annotations

from pathlib import Path

import click

from flows.command_line.menu import group, json_option
from flows.system.json_output import echo_json


@group(
    "models",
    invoke_without_command=True,
    examples=["keypipe models", "keypipe models register"],
)
@click.option("--history", is_flag=True, help="Show every move of an alias: who, when, why.")
@json_option("all of it")
@click.pass_context
def models(context: click.Context, history: bool, as_json: bool) -> None:
    """List the registered versions and which one is in use."""
    if context.invoked_subcommand is not None:
        return
    from flows.models import registered as module
    from tasks.registry.moves.aliases import read_state

    state = read_state(context.obj)
    if as_json:
        echo_json(module.to_json(state))
    elif history:
        module.show_history(state)
    else:
        module.show_models(state)


@models.command("register", examples=["keypipe register", 'keypipe register latest --why "new barn"'])
@click.argument("name", metavar="[RUN]", default="workspace")
@click.option("--why", default="", help="The reason, for the history.")
@click.pass_obj
def register(root: Path, name: str, why: str) -> None:
    """Register a training as a version.

    RUN is the start of an MLflow run's id, or `latest`; default: what the workspace holds. The alias `challenger` then
    names the version; `keypipe promote` puts it into use.
    """
    from flows.models.registered import register as register_run
    from flows.pipeline import lease

    with lease.claim(root):  # nothing changes what is registered meanwhile
        made = register_run(root, name, why)
    known = "" if made.new else ", which was registered before"
    click.echo(f"v{made.version} of {made.name}{known}: {made.headline}")
    click.echo(f"put it into use with `keypipe promote {made.version} --why …`")


@models.command("promote", examples=['keypipe promote 3 --why "fewer hooves missed"'])
@click.argument("version", metavar="VERSION")
@click.option("--why", required=True, help="The reason, for the history.")
@click.pass_obj
def promote(root: Path, version: str, why: str) -> None:
    """Put a version into use.

    VERSION is a number, or an alias such as `challenger`. `champion` then names it, and `previous` the one before.
    """
    from tasks.registry.moves import aliases

    for move in aliases.promote(root, version, why).moves:
        click.echo(str(move))


@models.command("rollback", examples=["keypipe rollback", 'keypipe rollback --why "misses calves"'])
@click.option("--why", default="", help="The reason, for the history.")
@click.pass_obj
def rollback(root: Path, why: str) -> None:
    """Put the version of before into use again.

    Once more leads further back.
    """
    from tasks.registry.moves import aliases

    for move in aliases.rollback(root, why).moves:
        click.echo(str(move))


@models.command("approve", examples=["keypipe approve", 'keypipe approve 4 --why "looked at the pictures"'])
@click.argument("version", metavar="[VERSION]", default="")
@click.option("--why", default="", help="The reason, for the history; default: what the gate said.")
@click.pass_obj
def approve(root: Path, version: str, why: str) -> None:
    """Put the version into use that waits for a person's word.

    VERSION makes sure that it is the one that is meant.
    """
    from tasks.registry.moves import approvals

    for move in approvals.approve(root, version, why).moves:
        click.echo(str(move))


@models.command("reject", examples=['keypipe reject 4 --why "misses calves"'])
@click.argument("version", metavar="VERSION")
@click.option("--why", required=True, help="The reason, for the history.")
@click.pass_obj
def reject(root: Path, version: str, why: str) -> None:
    """Refuse the version that waits for a person's word."""
    from tasks.registry.moves import approvals

    entry = approvals.reject(root, version, why)
    click.echo(f"v{entry.version} is not put into use")
