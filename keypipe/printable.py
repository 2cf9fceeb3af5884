"""Text from files, such as their names, as it may be printed."""

from __future__ import annotations

import re

# Control characters but for line ends and tabs: a terminal takes some for commands. And those that turn the direction
# of text: "cow\u202egnp.exe" would be shown as "cowexe.png" (Unicode Technical Report 36, 3.1.2).
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def to_printable(text: str) -> str:
    """Return a text in which no character is left that a terminal takes for a command."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
