"""What every request passes: counted, read to its end, let in, and its answer stamped with the model."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keypipe.serving.following.in_use import InUse
from keypipe.serving.following.webhook import WEBHOOK
from keypipe.serving.metrics import Metrics

OPEN_TO_ALL = "/healthz"
"""What is answered without the token: what watches a server should not hold its secrets."""

MODEL_HEADER = "Keypipe-Model"
"""Header of every answer: the version, such as ``models:/cows/3``, or the name of the file, percent-encoded."""

_READ_ON_SECONDS = 5.0  # how long a refused body is read on; nginx's lingering_timeout


class ReadOn:
    """Reads what a client still sends of a refused body before the answer goes out, for some seconds.

    A connection that is closed on unread data is reset, and the client loses the answer with it. uvicorn itself reads
    on only where the connection is kept, which ``urllib`` for one does not ask for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Whoever asked first is told instead of being asked to send.
        done = (b"expect", b"100-continue") in [(name, value.lower()) for name, value in scope["headers"]]

        async def receive_noted() -> Message:
            nonlocal done
            message = await receive()
            done = message["type"] == "http.disconnect" or not message.get("more_body", False)
            return message

        async def send_after(message: Message) -> None:
            if message["type"] == "http.response.start" and not done:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_READ_ON_SECONDS):
                        while not done:
                            await receive_noted()
            await send(message)

        await self._app(scope, receive_noted, send_after)


class Counted:
    """Counts the answers to ``POST /predict`` by their status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count its answer."""
        if scope["type"] != "http" or scope["path"] != "/predict":
            await self._app(scope, receive, send)
            return
        status = 500  # of an error that nothing here answers

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._metrics.count(status)


class Guarded:
    """Lets in who knows the token: ``Authorization: Bearer TOKEN``, or ``Basic`` with the token as the password.

    The latter is what a browser sends after it has asked its user, with every request of the page.
    """

    def __init__(self, app: ASGIApp, token: Callable[[], str]) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it before its body is read."""
        if scope["type"] != "http" or scope["path"] in (OPEN_TO_ALL, WEBHOOK) or self._knows(scope):
            await self._app(scope, receive, send)
            return
        message = "the token is missing or wrong; send the header Authorization: Bearer TOKEN"
        refusal = JSONResponse({"error": message}, 401)
        for kind in ("Bearer", 'Basic realm="keypipe, any name, the token as password"'):
            refusal.headers.append("WWW-Authenticate", kind)
        await refusal(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, given = header.partition(b" ")
        if kind.lower() == b"basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind.lower() != b"bearer":
            return False
        # Hashes of equal length: the time that it takes tells neither the length nor the beginning of the token.
        return hmac.compare_digest(_digest(given.strip()), _digest(self._token().encode()))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class Stamped:
    """Gives every answer the name of the model in use, unless it names the one that it is from."""

    def __init__(self, app: ASGIApp, in_use: InUse) -> None:
        self._app = app
        self._in_use = in_use

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault(MODEL_HEADER, header_name(self._in_use.model.stamp.path))
            await send(message)

        await self._app(scope, receive, send_stamped)


def header_name(model: str) -> str:
    """Return a model's name as a header has it."""
    return quote(model, safe="/:@")
