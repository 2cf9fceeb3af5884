"""The front door inside a workspace: all commands in one menu, and how the process ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from flows.command_line import models, pipeline, services
from flows.command_line.data import data
from flows.command_line.menu import PROGRAM, Menu
from flows.command_line.registered import models as registered
from flows.command_line.runs import runs
from keypipe.errors import PoseError
from keypipe.printable import to_printable
from tasks.workspace.access import explain_end, name_user

EXIT_CODES = {
    0: "done",
    1: "a bug of keypipe, or a process that was killed; the log above has the details",
    2: "the input is at fault, or the command line: one message says what to do",
    130: "stopped by Ctrl-C",
    143: "stopped by SIGTERM",
}
"""What every command ends with; some give 1 or 2 a meaning of their own."""

USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143


@click.group(
    cls=Menu,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`keypipe COMMAND --help` has options and examples; docs/commands.md has all.",
)
def cli() -> None:
    """From labelme keypoints in data/raw to a trained, measured and exported model."""


cli.add_section("Data", data)
cli.add_section(
    "Pipeline",
    pipeline.run,
    pipeline.retrain,
    pipeline.status,
    pipeline.sweep,
    pipeline.weights,
    pipeline.accept,
    pipeline.schedule,
    pipeline.notify,
)
cli.add_section("Models", models.predict, models.serve, models.drift, registered)
cli.add_section("Runs", runs)
cli.add_section("Services", services.up, services.down, services.ui, services.completion)


def main(root: Path) -> None:
    """Run the command line for a workspace and end the process."""
    signal.signal(signal.SIGTERM, _terminate)
    name_user()
    try:
        cli(obj=root, standalone_mode=False, prog_name=PROGRAM)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("keypipe: stopped", err=True)
        sys.exit(INTERRUPTED)
    except PoseError as error:
        click.echo(to_printable(f"keypipe: {error}"), err=True)
        sys.exit(USER_ERROR)
    except OSError as error:
        if (said := explain_end(error, root)) is None:
            raise
        click.echo(to_printable(f"keypipe: {said}"), err=True)
        sys.exit(USER_ERROR)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind on SIGTERM, so that servers and stages end with the command."""
    sys.exit(TERMINATED)
