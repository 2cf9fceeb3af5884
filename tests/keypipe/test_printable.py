from __future__ import annotations

import pytest

from keypipe.printable import to_printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x00\x7f\x9b31m", r"a\rb\x00\x7f\x9b31m"),
        ("cow\u202egnp.exe", r"cow\u202egnp.exe"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("奶牛\u3000Kühe ‘a’ → b 🐄", "奶牛\u3000Kühe ‘a’ → b 🐄"),
    ],
)
def test_what_a_terminal_takes_for_commands_is_shown_as_it_is_written(text: str, shown: str) -> None:
    assert to_printable(text) == shown
