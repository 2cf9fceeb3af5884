"""Commands that keep services up."""

from __future__ import annotations

from pathlib import Path

import click

from flows.command_line.menu import command


@command("ui", examples=["keypipe ui"])
@click.pass_obj
def ui(root: Path) -> None:
    """Keep the dashboards of Prefect and MLflow up, until Ctrl-C."""
    from flows.commands import dashboards

    dashboards.serve(root, click.echo)
