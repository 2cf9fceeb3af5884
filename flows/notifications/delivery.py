"""Sends a notice by every way that wants it; what fails is tried again, then told, and fails nothing else."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from flows.notifications import blocks, mail, webhook
from flows.notifications.errors import DeliveryError
from flows.notifications.notice import Notice
from flows.notifications.record import TOLD, Delivery, Told
from flows.system.state_files import write_record
from keypipe.errors import ConfigError
from tasks.retraining.notification import Event, NotifyParams

WAIT_SECONDS = 2.0
"""Before the second try; each later wait is twice as long."""

_ADDRESS = re.compile(r"[\w+.-]+://\S+")
"""Addresses of services often are secrets themselves."""

Say = Callable[[str], None]


class Way(msgspec.Struct, frozen=True):
    """A way by which people are told.

    Attributes:
        name: what may be shown of it, such as ``mail to anna@example.org``.
        events: what is told by it.
        send: sends a notice once; returns what else there is to say.
        secrets: values that no message may show, or ``env:NAME``.
    """

    name: str
    events: tuple[Event, ...]
    send: Callable[[Notice], str | None]
    secrets: tuple[str, ...] = ()


def notify(
    root: Path,
    params: NotifyParams,
    notice: Notice,
    say: Say = lambda _line: None,
    wait_seconds: float = WAIT_SECONDS,
) -> list[Delivery]:
    """Send a notice by every way that its event is told by.

    Args:
        root: the workspace; what became of it is written down there.
        params: the section ``retrain.notify``.
        notice: what is told.
        say: gets a line for each way.
        wait_seconds: before the second try; each later wait is twice as long.

    Returns:
        What became of it, one for each way. Nothing is raised.
    """
    found: list[Delivery] = []
    for way in ways(params):
        if notice.event not in way.events:
            continue
        delivery = _deliver(way, notice, params.tries, wait_seconds)
        say(delivery.describe())
        found.append(delivery)
    if found:
        try:
            write_record(root / TOLD, Told(notice.at, notice.event, notice.title, found))
        except OSError as error:
            say(f"{TOLD}: cannot be written: {error}")
    return found


def ways(params: NotifyParams) -> Iterator[Way]:
    """Return every way by which anybody is told anything."""
    for hook in params.webhooks:
        named = tuple(filter(None, (hook.url, hook.token, hook.secret)))
        send = partial(webhook.post, webhook=hook, timeout_s=params.timeout_s)
        yield Way(f"webhook {_host(hook.url)}", hook.events, send, named)
    for letter in params.mail:
        named = (letter.user, letter.password)
        send_mail = partial(mail.send, mail=letter, timeout_s=params.timeout_s)
        yield Way(f"mail to {', '.join(letter.to)}", letter.events, send_mail, named)
    for block in params.blocks:
        yield Way(f"block {block.name}", block.events, partial(blocks.tell, block=block))


def _deliver(way: Way, notice: Notice, tries: int, wait_seconds: float) -> Delivery:
    detail = ""
    for number in range(1, tries + 1):
        try:
            return Delivery(way.name, True, number, _mask(way.send(notice) or "", way.secrets))
        except ConfigError as error:
            return Delivery(way.name, False, number, str(error))
        except DeliveryError as error:
            detail = _mask(str(error), way.secrets)
            if not error.again:
                return Delivery(way.name, False, number, detail)
        except Exception as error:  # noqa: BLE001 - whatever it is, the retraining went as it went
            return Delivery(way.name, False, number, _mask(f"{type(error).__name__}: {error}", way.secrets))
        if number < tries:
            threading.Event().wait(wait_seconds * 2 ** (number - 1))
    return Delivery(way.name, False, tries, detail)


def _host(url: str) -> str:
    """Return what may be shown of an address: its path is often a secret."""
    return f"of {url[4:]}" if url.startswith("env:") else f"at {urlsplit(url).netloc.rpartition('@')[2]}"


def _mask(text: str, secrets: Sequence[str]) -> str:
    """Take out of a message what may be a secret, and its line ends."""
    for name in secrets:
        value = os.environ.get(name[4:], "").strip() if name.startswith("env:") else name
        if value:
            text = text.replace(value, "…")
    return " ".join(_ADDRESS.sub("…", text).split())[:500]
