"""JSON to a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.notifications.delivery import notify
from flows.notifications.record import Delivery
from flows.notifications.webhook import sign
from flows.services.server import free_port
from tasks.retraining.notification import NotifyParams
from tests.flows.notifications.receivers import Receiver, receiving
from tests.flows.notifications.samples import sample


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def send(root: Path, url: str, tries: int = 3, **settings: Any) -> Delivery:
    params = NotifyParams.model_validate({"webhooks": [{"url": url, **settings}], "tries": tries})
    (delivery,) = notify(root, params, sample(), wait_seconds=0.01)
    return delivery


def test_it_arrives_with_token_and_signature(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"{receiver.url}/hooks/abc")
    monkeypatch.setenv("HOOK_TOKEN", "t0ken")
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    delivery = send(tmp_path, "env:HOOK", token="env:HOOK_TOKEN", secret="env:HOOK_SECRET")
    assert (delivery.arrived, delivery.tries, delivery.way) == (True, 1, "webhook of HOOK")
    (post,) = receiver.posts
    assert post.path == "/hooks/abc"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["authorization"] == "Bearer t0ken"
    body = json.loads(post.body)
    assert body["id"] == post.headers["webhook-id"]
    signed = f"{body['id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    expected = base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
    assert post.headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = sign(b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, secret)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_server_that_is_busy_is_tried_again_with_the_same_id(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [503, 429]
    delivery = send(tmp_path, receiver.url)
    assert (delivery.arrived, delivery.tries) == (True, 3)
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 1


def test_one_that_refuses_is_not_asked_again(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [403]
    delivery = send(tmp_path, receiver.url)
    assert (delivery.arrived, delivery.tries, delivery.detail) == (False, 1, "the server answered 403 Forbidden")


def test_a_token_does_not_follow_a_redirect(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "t0ken")
    receiver.answers = [302]
    delivery = send(tmp_path, receiver.url, token="env:HOOK_TOKEN")
    assert not delivery.arrived
    assert len(receiver.posts) == 1


def test_nobody_there_fails_nothing_and_is_said_after_the_tries(tmp_path: Path) -> None:
    delivery = send(tmp_path, f"http://127.0.0.1:{free_port()}/hooks/secret-path")
    assert (delivery.arrived, delivery.tries) == (False, 3)
    assert "refused" in delivery.detail
    assert "secret-path" not in delivery.describe()
    assert "not sent after 3 tries" in delivery.describe()


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    delivery = send(tmp_path, "http://127.0.0.1:9/", token="env:NOT_SET")
    assert delivery.detail == "NOT_SET: not set in the environment of this process"


def test_what_is_not_wanted_is_not_sent(receiver: Receiver, tmp_path: Path) -> None:
    params = NotifyParams.model_validate({"webhooks": [{"url": receiver.url, "events": ["failed"]}]})
    assert notify(tmp_path, params, sample()) == []
    assert receiver.posts == []
