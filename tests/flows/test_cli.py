"""The whole menu: what it shows, how fast, that examples are valid, and that the page about it is up to date."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flows.cli import EXIT_CODES, cli
from flows.command_line.menu import Command, Group
from tests.imports import ROOT
from tools.commands import PAGE, PLANNED, render

OF_BEFORE = (
    *("run", "status", "schedule", "ui", "predict", "serve", "demo", "use", "import", "export-labels", "doctor"),
    *("sigmas", "keep", "reproduce", "compare"),
)
"""Names that people have in their scripts."""


def walk(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command under every one of its names."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from walk(command, (*path, name))


COMMANDS = list(walk(cli))
EXAMPLES = sorted(
    {text for _, command in COMMANDS if isinstance(command, Command | Group) for text in command.examples}
)


def test_names_that_are_in_use_stay() -> None:
    assert {name for (name, *rest), _ in COMMANDS if not rest} >= set(OF_BEFORE)


def test_every_command_is_run_somewhere() -> None:
    """By the README, whose commands a test runs, or by a test of flows."""
    words = set(re.findall(r"^keypipe ([\w-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    for path in (ROOT / "tests" / "flows").rglob("*.py"):
        if path.name != Path(__file__).name:
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            words |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not {command.short for _, command in COMMANDS if isinstance(command, Command)} - words


def test_a_planned_name_means_one_thing() -> None:
    assert not set(PLANNED) & set(OF_BEFORE)


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_help_fits_half_a_terminal_but_for_examples_which_are_copied(
    path: tuple[str, ...], command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    done = CliRunner().invoke(cli, [*path, "--help"], terminal_width=50, color=True)
    assert "\x1b" not in done.output
    long = [line.strip() for line in done.output.splitlines() if len(line) > 50]
    assert isinstance(command, Command | Group)
    assert not [line for line in long if line not in command.examples]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_help_fits_a_narrow_terminal_and_has_an_example(path: tuple[str, ...], command: click.Command) -> None:
    done = CliRunner().invoke(cli, [*path, "--help"], terminal_width=80)
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 80
    assert "...\n" not in done.output.partition("\n\n")[2]  # nothing is cut off
    assert "Example" in done.output
    assert isinstance(command, Command | Group)
    assert set(command.exit_codes) <= set(EXIT_CODES)


def test_the_menu_shows_every_heading_on_one_line_each() -> None:
    done = CliRunner().invoke(cli, ["--help"], terminal_width=80)
    rows = done.output.partition("\n\nData:\n")[2].splitlines()
    shown = [row.split()[0] for row in rows if row.startswith("  ") and not row.startswith("  `")]
    assert shown == [name for names in cli.sections.values() for name in names]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_valid_command_line(example: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(example)
    assert program == "keypipe"
    for name in (name for name in arguments if name.startswith("~/") and "." in name):
        (tmp_path / name[2:]).touch()
    for name in (name for name in arguments if name.startswith("~/") and "." not in name):
        (tmp_path / name[2:]).mkdir()
    arguments = [name.replace("~", str(tmp_path), 1) if name.startswith("~/") else name for name in arguments]
    command: click.Command | None = cli
    context = click.Context(cli, info_name="keypipe")
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, command, arguments = command.resolve_command(context, arguments)
        assert command is not None
        context = click.Context(command, info_name=name, parent=context)
    assert command is not None
    command.make_context(context.info_name, arguments, parent=context.parent)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["comapre"], "'compare'"),
        (["runs", "reprodce"], "'reproduce'"),
        (["prune", "--keep", "3"], "prune is gone: `keypipe gc` tells"),
        (["runs", "prune"], "prune is gone: `keypipe gc` tells"),
        (["run", "--untill", "train"], "'--until'"),
        (["nonsense"], "No such command"),
        (["compare"], "Missing argument"),
    ],
)
def test_what_is_misspelt_is_a_message_with_what_is_like_it(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "keypipe", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "print('loaded', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("loaded ")[2].split())
    assert "click" in loaded
    assert not loaded & {"prefect", "dvc", "mlflow", "torch", "ultralytics", "numpy", "rich", "pydantic", "yaml"}


def test_the_page_of_commands_is_what_the_program_would_write() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python tools/commands.py`"


def _list_said() -> list[tuple[str, str]]:
    """Return every command of keypipe's that stands in backticks in the texts of the code, with its place."""
    found: dict[str, str] = {}
    for path in sorted(path for package in ("keypipe", "tasks", "flows") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else "{}" for part in parts]
            text = "".join(str(text) for text in texts)
            for said in re.findall(r"`keypipe ([a-z-][^`]*)`", text):
                found.setdefault(said, f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    return sorted(found.items())


@pytest.mark.parametrize(("said", "place"), _list_said())
def test_a_command_that_a_message_advises_exists(said: str, place: str) -> None:
    words = re.split(r"[\s{]", said)
    command: click.Command | None = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and words[0][:1].isalpha() and words[0].islower():
        command = command.get_command(context, words.pop(0))
        assert command is not None, f"{place}: there is no `keypipe {said}`"
        context = click.Context(command, parent=context)
    assert command is not None
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, place
