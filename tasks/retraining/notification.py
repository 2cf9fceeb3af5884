"""The section ``retrain.notify`` of ``params.yaml``: who is told what, and by which way.

No secret stands there: ``env:NAME`` names a variable of the environment that holds one.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from keypipe.errors import ConfigError
from tasks.workspace.params import Section

Event = Literal["promoted", "rejected", "undecided", "failed", "drift", "approval", "skipped"]

EVENTS: tuple[Event, ...] = get_args(Event)
ALWAYS: tuple[Event, ...] = tuple(event for event in EVENTS if event != "skipped")
"""What is told where nothing else is said: a night without a training is no news."""

_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")
_WEB = re.compile(r"https?://[^\s/]+\S*")
_SERVER = re.compile(r"smtp(s|\+starttls)?://[^\s/:@]+(:\d{1,5})?/?")


def _named(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        # the value itself may be a secret, so that no message may repeat it
        raise ValueError("expected env:NAME, a variable of the environment that holds it; secrets never stand here")
    return value


def _web_address(value: str) -> str:
    if not _VARIABLE.fullmatch(value) and not _WEB.fullmatch(value):
        raise ValueError("expected https://…, or env:NAME, a variable of the environment that holds it")
    return value


def _server(value: str) -> str:
    if not _VARIABLE.fullmatch(value) and not _SERVER.fullmatch(value):
        raise ValueError("expected smtp://HOST:25, smtp+starttls://HOST:587, smtps://HOST:465 or env:NAME")
    return value


def _mail_address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError("expected an address such as anna@example.org")
    return value


Secret = Annotated[str, AfterValidator(_named)]
Events = Annotated[tuple[Event, ...], Field(min_length=1, strict=False)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]


class Webhook(Section):
    """An address that gets JSON by POST.

    Attributes:
        url: where.
        token: sent as ``Authorization: Bearer …``.
        secret: signs the body, as Standard Webhooks does.
        events: what is told there.
    """

    url: Annotated[str, AfterValidator(_web_address)]
    token: Secret | None = None
    secret: Secret | None = None
    events: Events = ALWAYS


class Mail(Section):
    """People who get an e-mail.

    Attributes:
        to: their addresses.
        sender: the address that it comes from.
        server: scheme, host and port; the scheme says how the connection is encrypted.
        user: for the login; there is none where the variable is not set.
        password: for the login.
        attach_report: the report page comes with it, which holds no pictures.
        attach_pictures: the page of pictures comes with it, if there is one.
        events: what is told there.
    """

    to: Annotated[list[MailAddress], Field(min_length=1)]
    sender: MailAddress
    server: Annotated[str, AfterValidator(_server)] = "env:KEYPIPE_SMTP_SERVER"
    user: Secret = "env:KEYPIPE_SMTP_USER"
    password: Secret = "env:KEYPIPE_SMTP_PASSWORD"
    attach_report: bool = False
    attach_pictures: bool = False
    events: Events = ALWAYS


class NotificationBlock(Section):
    """A notification block of Prefect.

    Attributes:
        name: kind and name, such as ``slack-webhook/team``.
        events: what is told there.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")
    events: Events = ALWAYS


class NotifyParams(Section):
    """The section ``retrain.notify`` of ``params.yaml``.

    Attributes:
        webhooks: addresses that get JSON.
        mail: people who get e-mail.
        blocks: notification blocks of Prefect.
        tries: how often each is tried.
        timeout_s: seconds that a server may take to answer.
    """

    webhooks: Annotated[tuple[Webhook, ...], Field(strict=False)] = ()
    mail: Annotated[tuple[Mail, ...], Field(strict=False)] = ()
    blocks: Annotated[tuple[NotificationBlock, ...], Field(strict=False)] = ()
    tries: int = Field(default=3, ge=1, le=10)
    timeout_s: float = Field(default=10.0, gt=0, le=120)


def look_up(value: str) -> str:
    """Return a value, or what the variable that it names holds.

    Raises:
        ConfigError: the variable is not set.
    """
    if not value.startswith("env:"):
        return value
    found = os.environ.get(value[4:], "").strip()
    if not found:
        raise ConfigError(f"{value[4:]}: not set in the environment of this process")
    return found
