"""What commands print with ``--json``."""

from __future__ import annotations

from typing import Any

import click


def echo_json(value: Any) -> None:
    """Print a value, a ``msgspec.Struct`` or plain ones, as one JSON document."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())
