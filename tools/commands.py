"""Write docs/commands.md from the commands themselves: the tree, then usage, options, examples and exit codes of each.

``python tools/commands.py`` writes it; a test holds that the page is what this program would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from textwrap import fill

import click

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "commands.md"
sys.path.insert(0, str(ROOT))

from flows.cli import EXIT_CODES, cli  # noqa: E402  (needs the path above)
from flows.command_line.menu import PROGRAM, Command, Group  # noqa: E402

INTRO = """\
# Commands

Made from the code by `tools/commands.py`; edit the commands in `flows/command_line/`, not this page.

Commands work from any folder of the workspace. A command of a group has two names, the full one and a short one:
`keypipe runs keep` is `keypipe keep`. `keypipe --help` shows what is used every day, `keypipe data --help` and
`keypipe runs --help` the rest. A name that is misspelt ends with exit code 2 and the names that are like it; so does a
parameter's.

Commands that report have `--json`: one JSON document on stdout and nothing else, messages on stderr, the same exit
code; figures are numbers, what is absent is null. Without it a terminal gets tables; one that is too narrow for the
longest word of a table gets a paragraph for each row instead, so that names of files are never cut. `NO_COLOR=1` leaves
colours out. `keypipe completion bash`, `zsh` or `fish` prints what lets a shell complete commands, options and stages.
"""

PLANNED = {
    "sweep": ("sweep", "Pipeline", "Search parameters; each trial is a run."),
}
"""Names that are decided and not there yet; each leaves the page when its command comes."""


def render() -> str:
    """Return the page."""
    context = click.Context(cli, info_name=PROGRAM)
    parts = [INTRO, *_tree(), *_exit_codes()]
    for heading in cli.sections:
        parts.append(f"## {heading}\n")
        for name, entry in _entries(heading):
            parts += _command(entry, click.Context(entry, info_name=name, parent=context))
            if isinstance(entry, Group):
                inner = click.Context(entry, info_name=name, parent=context)
                for short, sub in entry.commands.items():
                    parts += _command(sub, click.Context(sub, info_name=short, parent=inner))
    parts += _planned()
    return "\n".join(parts)


def _entries(heading: str) -> Iterator[tuple[str, click.Command]]:
    """Yield what a heading holds, a group as one: its commands are told after it."""
    groups = [cli.commands[name] for name in cli.sections[heading] if isinstance(cli.commands[name], Group)]
    grouped = [id(command) for group in groups for command in group.commands.values()]
    for name in cli.sections[heading]:
        if id(cli.commands[name]) not in grouped:
            yield name, cli.commands[name]


def _tree() -> Iterator[str]:
    yield "## The tree\n\n```text"
    for heading in cli.sections:
        yield heading
        for name, entry in _entries(heading):
            yield f"  {PROGRAM + ' ' + name:<26}{entry.get_short_help_str(200)}"
            for sub in entry.commands.values() if isinstance(entry, Group) else ():
                assert isinstance(sub, Command)
                yield f"    {sub.full:<24}{PROGRAM} {sub.short}"
    yield "```\n"


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n\n| code | meaning |\n|---|---|"
    for code, text in EXIT_CODES.items():
        yield f"| {code} | {text} |"
    yield ""


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"### {context.command_path}\n"
    if isinstance(command, Command) and command.short != context.command_path.removeprefix(f"{PROGRAM} "):
        yield f"Short: `{PROGRAM} {command.short}`\n"
    yield "\n\n".join(fill(part, 120) for part in cleandoc(command.help or "").split("\n\n")) + "\n"
    yield f"```text\n{context.get_usage().removeprefix('Usage: ')}\n```\n"
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    if options := [record for record in records if record is not None]:
        yield "| option | what |\n|---|---|"
        for names, text in options:
            yield f"| `{_cell(names)}` | {_cell(text)} |"
        yield ""
    assert isinstance(command, Command | Group)
    if command.exit_codes:
        yield (
            "Exit codes of its own: "
            + "; ".join(f"{code}, {text}" for code, text in command.exit_codes.items())
            + ".\n"
        )
    if command.examples:
        yield "```sh\n" + "\n".join(command.examples) + "\n```\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _planned() -> Iterator[str]:
    names = {name: entry for name, entry in PLANNED.items() if name not in cli.commands}
    if not names:
        return
    yield "## Planned\n\nThese names are decided; the commands are not there yet.\n"
    yield "| name | full name | heading | what |\n|---|---|---|---|"
    for name, (full, heading, text) in names.items():
        yield f"| `{name}` | {f'`{PROGRAM} {full}`' if full != 'none' else 'none of its own'} | {heading} | {text} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
