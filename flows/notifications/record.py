"""What became of the last notice, as other commands see it."""

from __future__ import annotations

import msgspec

from tasks.workspace.places import STATE

TOLD = STATE / "told.json"


class Delivery(msgspec.Struct, frozen=True):
    """What became of a notice on one way.

    Attributes:
        way: such as ``mail to anna@example.org``.
        arrived: whether it was taken.
        tries: how often it was tried.
        detail: what kept it from arriving, or whom it did not reach.
    """

    way: str
    arrived: bool
    tries: int
    detail: str = ""

    def describe(self) -> str:
        """Return it as a line."""
        if self.arrived:
            return f"{self.way}: sent{f', but {self.detail}' if self.detail else ''}"
        tried = f"after {self.tries} {'try' if self.tries == 1 else 'tries'}"
        return f"{self.way}: not sent {tried}: {self.detail}"


class Told(msgspec.Struct, frozen=True):
    """The last notice and what became of it, for ``keypipe status``.

    Attributes:
        at: when, ISO 8601.
        event: what kind of thing it was.
        title: it, in one line.
        deliveries: one for each way.
    """

    at: str
    event: str
    title: str
    deliveries: list[Delivery]
