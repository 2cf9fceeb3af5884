"""What every request passes: counted, and read to its end."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keypipe.serving.metrics import Metrics

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
