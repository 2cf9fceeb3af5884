"""Groups, short names and headings."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from flows.command_line.menu import Menu, command, group


@pytest.fixture
def menu() -> Menu:
    @group("birds", examples=["keypipe birds"])
    def birds() -> None:
        """Work on birds."""

    @birds.command("ring", examples=["keypipe ring 7", "keypipe ring 8"], exit_codes={1: "it flew away"})
    @click.argument("number", type=int)
    def ring(number: int) -> None:
        """Put a ring on one."""
        click.echo(f"ringed {number}")

    @birds.command("count", short="count-birds", everyday=False)
    def count() -> None:
        """Count them."""

    @command("sing")
    def sing() -> None:
        """Sing."""

    menu = Menu("keypipe")
    menu.add_section("Animals", birds)
    menu.add_section("Music", sing)
    return menu


def ask(menu: Menu, *arguments: str) -> str:
    done = CliRunner().invoke(menu, arguments, prog_name="keypipe", terminal_width=80)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_command_answers_to_both_names(menu: Menu) -> None:
    assert ask(menu, "ring", "7") == ask(menu, "birds", "ring", "7") == "ringed 7\n"
    assert menu.commands["count-birds"].name == "count"


def test_the_menu_shows_what_is_used_every_day_under_headings(menu: Menu) -> None:
    shown = ask(menu, "--help").partition("Animals:\n")[2]
    assert [line.split() for line in shown.splitlines()] == [
        ["ring", "Put", "a", "ring", "on", "one."],
        ["birds", "Work", "on", "birds."],
        [],
        ["Music:"],
        ["sing", "Sing."],
    ]
    assert "count" in ask(menu, "birds", "--help")


def test_help_names_the_other_name_the_exit_codes_and_the_examples(menu: Menu) -> None:
    assert "The same as `keypipe birds ring`." in ask(menu, "ring", "--help")
    assert "The same as `keypipe count-birds`." in ask(menu, "birds", "count", "--help")
    assert "The same as" not in ask(menu, "sing", "--help")
    shown = ask(menu, "ring", "--help")
    assert shown.endswith("Exit codes:\n  1  it flew away\n\nExamples:\n  keypipe ring 7\n  keypipe ring 8\n")


def test_two_commands_of_one_name_are_refused(menu: Menu) -> None:
    with pytest.raises(ValueError, match="sing: two commands of this name"):
        menu.add_section("More", menu.commands["sing"])  # type: ignore[arg-type]
