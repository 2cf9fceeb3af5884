"""Commands that keep services up."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from flows.command_line.menu import COMPLETION_VARIABLE, PROGRAM, command, json_option
from flows.system.json_output import echo_json

_PORT = click.IntRange(1, 65535)


@command("up", examples=["keypipe up", "keypipe up --prefect-port 4300 --mlflow-port 5300", "keypipe up --json"])
@click.option("--prefect-port", type=_PORT, help="Port of 127.0.0.1; default: 4200, or another if it is taken.")
@click.option("--mlflow-port", type=_PORT, help="Port of 127.0.0.1; default: 5000, or another if it is taken.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds that each server may take to start.")
@json_option("where they are, and their processes,")
@click.pass_obj
def up(root: Path, prefect_port: int | None, mlflow_port: int | None, timeout: float, as_json: bool) -> None:
    """Keep Prefect and MLflow up in the background.

    They listen on this machine alone and belong to this workspace. What ends by itself is started again. Twice does no
    harm; `keypipe status` says what runs, `keypipe down` ends it.
    """
    from flows.commands import dashboards
    from flows.services.background import Wanted

    found = dashboards.up(root, Wanted(prefect_port, mlflow_port, timeout), partial(click.echo, err=as_json))
    if as_json:
        echo_json(found)
        return
    for line in dashboards.explain(found):
        click.echo(line)


@command("down", examples=["keypipe down"])
@click.pass_obj
def down(root: Path) -> None:
    """End what `keypipe up` has started, and nothing else."""
    from flows.commands import dashboards

    dashboards.down(root, click.echo)


@command("ui", examples=["keypipe ui", "keypipe ui --no-open"])
@click.option("--open/--no-open", "show", default=None, help="Open a browser; default: in a terminal with a display.")
@click.pass_obj
def ui(root: Path, show: bool | None) -> None:
    """Open the dashboards of Prefect and MLflow.

    Where `keypipe up` keeps them, it opens them and ends; otherwise it keeps them up itself, until Ctrl-C.
    """
    from flows.commands import dashboards

    dashboards.ui(root, click.echo, show=dashboards.has_browser() if show is None else show)


@command("completion", examples=["keypipe completion bash"])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what lets a shell complete commands, options and stages.

    For bash, add the line `eval "$(keypipe completion bash)"` to ~/.bashrc; for zsh the same with zsh to ~/.zshrc. For
    fish, `keypipe completion fish > ~/.config/fish/completions/keypipe.fish`.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source())
