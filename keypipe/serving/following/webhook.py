"""MLflow's webhooks: its server says that an alias has moved, and a server that follows it looks at once.

The signature is that of Standard Webhooks as MLflow makes it (``mlflow/webhooks/delivery.py``): HMAC-SHA256 over the
delivery's id, its time and the body. What a webhook says is never believed; it only brings the next look forward.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

import msgspec
from fastapi import FastAPI, Request, Response

from keypipe.serving.following.source import ModelRef

WEBHOOK = "/webhooks/mlflow"
"""Is answered without the token: who calls is known by a signature."""
MAX_BYTES = 1 << 16
TOLERANCE_S = 300.0
"""How old a delivery may be, and how far the clocks may be apart; Standard Webhooks' own value."""


class _Alias(msgspec.Struct, frozen=True):
    name: str = ""
    alias: str = ""


class _Delivery(msgspec.Struct, frozen=True):
    data: _Alias = _Alias()


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a delivery."""
    content = b".".join([delivery_id.encode(), timestamp.encode(), body])
    return f"v1,{base64.b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()}"


def find_fault(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """Return why a delivery is not to be trusted; empty if it is.

    Args:
        secret: shared with MLflow.
        headers: of the request, their names in any case.
        body: of the request.
        now: seconds since the epoch.
    """
    delivery, timestamp = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    given = headers.get("x-mlflow-signature", "")
    if not hmac.compare_digest(given.encode(), sign(secret, delivery, timestamp, body).encode()):
        return "the signature is missing or wrong; is the webhook's secret the server's?"
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE_S:
        return "the delivery is too old, or the clocks are too far apart"
    return ""


def concerns(ref: ModelRef, body: bytes) -> bool:
    """Tell whether a delivery speaks of what is followed, or of nothing that one can tell."""
    try:
        said = msgspec.json.decode(body, type=_Delivery).data
    except msgspec.DecodeError:
        return True
    return said.name in ("", ref.name) and said.alias in ("", ref.alias)


def answer_webhooks(app: FastAPI, secret: str, ref: ModelRef, look_now: Callable[[], None]) -> None:
    """Let MLflow's webhooks be answered.

    Args:
        app: the application.
        secret: shared with MLflow.
        ref: what is followed.
        look_now: brings the next look forward.
    """

    @app.post(WEBHOOK, response_class=Response, include_in_schema=False)
    async def receive(request: Request) -> Response:
        """Look at once where the alias leads."""
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BYTES:
                return _answer(413, {"error": f"a webhook has {MAX_BYTES} bytes at most"})
        if fault := find_fault(secret, request.headers, body, time.time()):
            return _answer(401, {"error": fault})
        ours = concerns(ref, body)
        if ours:
            look_now()
        return _answer(202, {"looks": ours})


def _answer(status: int, content: Mapping[str, object]) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
