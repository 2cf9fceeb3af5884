"""The section ``retrain.notify``."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from keypipe.errors import ConfigError
from tasks.retraining.notification import ALWAYS, NotifyParams, look_up

MAIL = {"to": ["anna@example.org"], "sender": "keypipe@example.org"}


def test_nobody_is_told_by_default_and_a_way_is_told_all_but_quiet_nights() -> None:
    params = NotifyParams.model_validate({})
    assert (params.webhooks, params.mail, params.blocks) == ((), (), ())
    mail = NotifyParams.model_validate({"mail": [MAIL]}).mail[0]
    assert mail.events == ALWAYS == ("promoted", "rejected", "undecided", "failed", "drift", "approval")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"webhooks": [{"url": "ftp://example.org"}]}, "expected https://"),
        ({"webhooks": [{"url": "https://example.org", "events": ["promotion"]}]}, "promoted"),
        ({"webhooks": [{"url": "https://example.org", "events": []}]}, "at least 1"),
        ({"mail": [MAIL | {"to": []}]}, "at least 1"),
        ({"mail": [MAIL | {"to": ["Anna <anna@example.org>"]}]}, "expected an address"),
        ({"mail": [MAIL | {"to": ["anna@example.org\nBcc: all@example.org"]}]}, "expected an address"),
        ({"mail": [MAIL | {"server": "mail.example.org"}]}, "expected smtp://"),
        ({"blocks": [{"name": "Team"}]}, "pattern"),
        ({"tries": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NotifyParams.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"webhooks": [{"url": "https://example.org", "token": "s3cret"}]},
        {"webhooks": [{"url": "https://example.org", "secret": "s3cret"}]},
        {"mail": [MAIL | {"password": "s3cret"}]},
        {"mail": [MAIL | {"server": "smtp://me:s3cret@example.org"}]},
    ],
)
def test_a_secret_in_the_file_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="env:NAME"):
        NotifyParams.model_validate(values)


def test_a_variable_is_looked_up_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look_up("https://example.org") == "https://example.org"
    with pytest.raises(ConfigError, match="TEAM_HOOK: not set"):
        look_up("env:TEAM_HOOK")
    monkeypatch.setenv("TEAM_HOOK", " https://example.org/a ")
    assert look_up("env:TEAM_HOOK") == "https://example.org/a"
