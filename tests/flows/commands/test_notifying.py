"""``keypipe notify`` on a small workspace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import cli
from flows.commands.status import read_status, show_status
from keypipe.errors import ConfigError
from tests.flows.notifications.receivers import mailbox, receiving
from tests.flows.toy import Api
from tests.workspace import make_workspace, set_params


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("notify") / "cows", n_images=0)


@pytest.fixture
def root(template: Path) -> Path:
    set_params(template, **{"retrain.notify": {}})
    (template / ".keypipe/told.json").unlink(missing_ok=True)
    return template


def invoke(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["notify", *arguments], obj=root, catch_exceptions=False)


def test_nobody_is_told_as_shipped(root: Path) -> None:
    assert "nobody is told" in invoke(root).output
    for event, message in (("failed", "nobody is told of failed"), ("sunrise", "no such event")):
        with pytest.raises(ConfigError, match=message):
            invoke(root, "--test", event)


def test_a_test_goes_by_every_way_that_wants_the_event(root: Path, api: Api) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    with receiving() as server, mailbox() as box:
        block = CustomWebhookNotificationBlock(name="x", url=f"{server.url}/b", json_data={"text": "{{subject}}"})
        block.save("notify-command", overwrite=True, _sync=True)
        ways = {
            "webhooks": [{"url": server.url}, {"url": f"{server.url}/quiet", "events": ["skipped"]}],
            "mail": [{"to": ["a@example.org"], "sender": "k@example.org", "server": f"smtp://127.0.0.1:{box.port}"}],
            "blocks": [{"name": "custom-webhook/notify-command"}],
        }
        set_params(root, **{"retrain.notify": ways})
        assert f"webhook at 127.0.0.1:{server.port}: skipped" in invoke(root).output
        done = invoke(root, "--test", "rejected")
    assert done.exit_code == 0, done.output
    assert sorted(post.path for post in server.posts) == ["/", "/b"]
    assert json.loads(server.posts[0].body)["test"] is True
    ((_, message),) = box.mails
    assert message["Subject"] == "[cows] (test) a test of what is told of rejected"
    assert "mail to a@example.org: sent" in invoke(root).output


def test_what_does_not_arrive_is_an_exit_code_and_stands_in_the_status(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(root, **{"retrain.notify": {"webhooks": [{"url": "env:NO_HOOK"}]}})
    assert invoke(root, "--test", "failed").exit_code == 2
    show_status(read_status(root))
    assert "told       webhook of NO_HOOK: not sent after 1 try" in " ".join(capsys.readouterr().out.split(" "))
