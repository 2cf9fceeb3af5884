"""Commands that keep services up."""

from __future__ import annotations

from pathlib import Path

import click

from flows.command_line.menu import COMPLETION_VARIABLE, PROGRAM, command


@command("ui", examples=["keypipe ui"])
@click.pass_obj
def ui(root: Path) -> None:
    """Keep the dashboards of Prefect and MLflow up, until Ctrl-C."""
    from flows.commands import dashboards

    dashboards.serve(root, click.echo)


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
