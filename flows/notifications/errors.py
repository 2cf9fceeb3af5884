"""What keeps a notice from arriving."""

from __future__ import annotations


class DeliveryError(Exception):
    """A notice did not arrive.

    Attributes:
        again: another try may help.
    """

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again
