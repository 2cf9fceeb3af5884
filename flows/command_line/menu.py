"""Commands with examples, groups of commands, and the menu that ``keypipe --help`` shows.

A command of a group has two names: a full one (``keypipe runs keep``) and a short one (``keypipe keep``). Both are the
same command. The menu shows the short names of every day; ``keypipe runs --help`` shows the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

PROGRAM = "keypipe"
COMPLETION_VARIABLE = "_KEYPIPE_COMPLETE"
"""Environment variable by which a shell asks for completions, as click has it."""


class _Exemplified(click.Command):
    """What commands and groups share: examples and exit codes, shown at the end of ``--help``.

    Attributes:
        examples: whole command lines.
        exit_codes: what this command's own exit codes mean; those of every command are told elsewhere.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        exit_codes: Mapping[int, str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.exit_codes = dict(exit_codes or {})

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write exit codes and examples; lines of examples are never wrapped."""
        super().format_epilog(ctx, formatter)
        if self.exit_codes:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), text) for code, text in self.exit_codes.items()])
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Command(_Exemplified):
    """A command.

    Attributes:
        short: its name at the top level, where it belongs to a group.
        everyday: the menu shows it; otherwise only its group does.
        full: its full name, such as ``keypipe runs keep``; a group sets it.
    """

    def __init__(self, *args: Any, short: str = "", everyday: bool = True, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.short = short or str(self.name)
        self.everyday = everyday
        self.full = f"{PROGRAM} {self.name}"

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the other name of a command that has two."""
        super().format_help_text(ctx, formatter)
        others = {self.full, f"{PROGRAM} {self.short}"} - {ctx.command_path}
        if ctx.command_path.startswith(PROGRAM) and len(others) == 1:
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(f"The same as `{others.pop()}`.")


GONE = {
    "prune": "`keypipe gc` tells what the past may let go of, with --keep N of trainings, and removes it with --yes",
}
"""Names of before, and what does it now."""


class _Remembering(click.Group):
    """A group that says what became of a command that it had."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command by its name."""
        if args and args[0] in GONE:
            raise click.UsageError(f"{args[0]} is gone: {GONE[args[0]]}.", ctx)
        return super().resolve_command(ctx, args)


class Group(_Exemplified, _Remembering):
    """Commands on one noun, in the order in which they are declared."""

    command_class = Command

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, and tell it its full name."""
        super().add_command(cmd, name)
        if isinstance(cmd, Command):
            cmd.full = f"{PROGRAM} {self.name} {name or cmd.name}"

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of declaration."""
        return list(self.commands)


class Menu(_Remembering):
    """The top level: commands and groups under headings.

    Attributes:
        sections: of each heading the names that are shown, in order.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.sections: dict[str, list[str]] = {}

    def add_section(self, heading: str, *entries: Command | Group) -> None:
        """Add commands under a heading; of a group, itself and the short name of each of its commands."""
        shown = self.sections.setdefault(heading, [])
        for entry in entries:
            if isinstance(entry, Group):
                commands = [command for command in entry.commands.values() if isinstance(command, Command)]
                for command in commands:
                    self._add(command.short, command)
                shown += [command.short for command in commands if command.everyday]
            else:
                entry.full = f"{PROGRAM} {entry.name}"
            self._add(str(entry.name), entry)
            shown.append(str(entry.name))

    def _add(self, name: str, entry: click.Command) -> None:
        if name in self.commands:
            raise ValueError(f"{name}: two commands of this name")
        self.add_command(entry, name)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return every name of the top level, those that are shown first."""
        shown = [name for names in self.sections.values() for name in names]
        return [*shown, *sorted(set(self.commands) - set(shown))]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the headings with their commands, all in the same columns."""
        width = max(len(name) for names in self.sections.values() for name in names)
        for heading, names in self.sections.items():
            with formatter.section(heading):
                rows = [(f"{name:<{width}}", self.commands[name].get_short_help_str(200)) for name in names]
                formatter.write_dl(rows)


def command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a command that belongs to no group; see ``Command`` for the settings."""
    return click.command(name, cls=Command, **settings)


def group(name: str, **settings: Any) -> Callable[[Callable[..., Any]], Group]:
    """Make a group of commands; see ``click.Group`` for the settings."""
    return click.group(name, cls=Group, **settings)


def complete_stage(context: click.Context, _param: click.Parameter, begun: str) -> list[str]:
    """Return the stages of the workspace that begin so, for a shell's completion."""
    path = context.find_root().obj / "dvc.yaml"
    text = path.read_text(encoding="utf-8").partition("stages:")[2] if path.is_file() else ""
    return [name for name in re.findall(r"^  (\w+):", text, flags=re.MULTILINE) if name.startswith(begun)]


def json_option(what: str = "it") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option ``--json`` of a command that reports; its function gets ``as_json``.

    What every such command keeps to: one JSON document on stdout and nothing else, messages on stderr, the same exit
    code, figures as numbers and absent ones as null.

    Args:
        what: is printed.
    """
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON, and nothing else.")
