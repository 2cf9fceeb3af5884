"""Prefect's notification blocks, of a real server, to a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.notifications.delivery import notify
from flows.notifications.record import TOLD, Delivery, Told
from flows.system.state_files import read_record
from tasks.retraining.notification import NotifyParams
from tests.flows.notifications.receivers import Receiver, receiving
from tests.flows.notifications.samples import sample
from tests.flows.toy import Api


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def send(root: Path, name: str) -> Delivery:
    params = NotifyParams.model_validate({"blocks": [{"name": name}], "tries": 2})
    (delivery,) = notify(root, params, sample(), wait_seconds=0.01)
    return delivery


def test_a_chat_and_a_custom_webhook_are_told(api: Api, receiver: Receiver, tmp_path: Path) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, MattermostWebhook

    chat = MattermostWebhook(hostname="127.0.0.1", port=receiver.port, token="abcdef")
    chat.save("herd", overwrite=True, _sync=True)
    CustomWebhookNotificationBlock(
        name="herd", url=f"{receiver.url}/custom", json_data={"text": "{{subject}}: {{body}}"}
    ).save("herd", overwrite=True, _sync=True)
    for name, path in (("mattermost-webhook/herd", "/hooks/abcdef"), ("custom-webhook/herd", "/custom")):
        assert send(tmp_path, name).describe() == f"block {name}: sent"
        post = receiver.posts[-1]
        assert post.path == path
        text = json.loads(post.body)["text"]
        assert "[cows] v7 is in use" in text
        assert "-0.006 to +0.031" in text
    told = read_record(tmp_path / TOLD, Told)
    assert told is not None
    assert [delivery.arrived for delivery in told.deliveries] == [True]


def test_what_a_service_refuses_is_said_without_its_address(api: Api, receiver: Receiver, tmp_path: Path) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, MattermostWebhook

    chat = MattermostWebhook(hostname="127.0.0.1", port=receiver.port, token="abcdef")
    chat.save("wrong", overwrite=True, _sync=True)
    CustomWebhookNotificationBlock(name="wrong", url=f"{receiver.url}/abcdef", json_data={"text": "{{body}}"}).save(
        "wrong", overwrite=True, _sync=True
    )
    for name in ("mattermost-webhook/wrong", "custom-webhook/wrong"):
        receiver.answers = [500] * 8
        delivery = send(tmp_path, name)
        assert (delivery.arrived, delivery.tries) == (False, 2)
        assert "500" in delivery.detail
        assert "abcdef" not in delivery.detail


def test_a_block_that_is_not_there_or_notifies_nobody(api: Api, tmp_path: Path) -> None:
    from prefect.blocks.system import Secret

    Secret(value="x").save("herd", overwrite=True, _sync=True)  # type: ignore[call-arg]
    assert "no block slack-webhook/none" in send(tmp_path, "slack-webhook/none").detail
    assert "notifies nobody" in send(tmp_path, "secret/herd").detail
