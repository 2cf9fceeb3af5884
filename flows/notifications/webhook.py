"""JSON by POST to an address, with a bearer token, a signature, both or neither."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import time
import urllib.error
import urllib.request
from typing import Any

from flows.notifications.errors import DeliveryError
from flows.notifications.notice import Notice, to_body
from keypipe import __version__
from tasks.retraining.notification import Webhook, look_up

_WORTH_ANOTHER_TRY = {408, 425, 429}
_PREFIX = "whsec_"


def post(notice: Notice, webhook: Webhook, timeout_s: float) -> None:
    """Send a notice once.

    Raises:
        ConfigError: a variable is not set.
        DeliveryError: nobody took it.
    """
    body = to_body(notice)
    headers = {"Content-Type": "application/json", "User-Agent": f"keypipe/{__version__}", "Webhook-Id": notice.id}
    if webhook.token:
        headers["Authorization"] = f"Bearer {look_up(webhook.token)}"
    if webhook.secret:
        now = int(time.time())
        headers["Webhook-Timestamp"] = str(now)
        headers["Webhook-Signature"] = sign(body, notice.id, now, look_up(webhook.secret))
    request = urllib.request.Request(look_up(webhook.url), data=body, headers=headers, method="POST")
    try:
        with _OPENER.open(request, timeout=timeout_s) as reply:
            reply.read(1 << 16)
    except urllib.error.HTTPError as error:
        with error:
            again = error.code >= 500 or error.code in _WORTH_ANOTHER_TRY
            raise DeliveryError(f"the server answered {error.code} {error.reason}", again=again) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise DeliveryError(str(reason), again=not isinstance(error, ValueError)) from error


def sign(body: bytes, id_: str, timestamp: int, secret: str) -> str:
    """Return the signature of a body.

    See https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.

    Args:
        body: as it is sent.
        id_: of the notice.
        timestamp: seconds since 1970.
        secret: any text; after ``whsec_``, base64 of the key.
    """
    key = secret.encode()
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error as error:
            raise DeliveryError("the secret begins with whsec_ and is no base64 after it", again=False) from error
    digest = hmac.new(key, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
