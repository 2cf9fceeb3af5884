"""A retraining whose process is killed is told of by its schedule, and one that has a bug by itself."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.outcome import Outcome
from flows.pipeline.lease import read_lease
from flows.retraining.crash import tell_crash
from flows.retraining.record import read_outcome, write_outcome
from tests.flows.notifications.receivers import receiving
from tests.flows.retraining.fixtures import Farm
from tests.flows.toy import Toy, wait_until
from tests.retrained import add_images
from tests.workspace import set_params


def test_a_run_that_is_killed_is_told_of(farm: Farm) -> None:
    with receiving() as told:
        set_params(farm.root, **{"retrain.notify.webhooks": [{"url": told.url}]})
        add_images(farm.root, range(40), prefix="new")
        schedule = Toy(farm.root, farm.api).start("schedule", "--on-change", "--quiet", "1s")
        try:
            wait_until(lambda: (held := read_lease(farm.root)) is not None and held.stage, "a stage to run")
            held = read_lease(farm.root)
            assert held is not None
            os.kill(held.pid, signal.SIGKILL)
            wait_until(lambda: told.posts, "somebody to be told")
        finally:
            schedule.terminate()
            schedule.communicate()
    body = json.loads(told.posts[0].body)
    assert (body["event"], body["title"]) == ("failed", "retraining was killed")
    outcome = read_outcome(farm.root)
    assert outcome is not None
    assert outcome.kind == "failed"


def test_a_run_that_was_killed_after_its_end_keeps_its_outcome(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("retrain: {}\n")
    ended = Outcome(kind="promoted", title="v2 is in use", reason="every rule is kept", flow_run="retraining 1")
    write_outcome(tmp_path, ended)
    run = SimpleNamespace(parameters={"root": str(tmp_path)}, deployment_id="a schedule", name="retraining 1")
    state = SimpleNamespace(message="killed while it told people")
    tell_crash(None, run, state)
    assert read_outcome(tmp_path) == ended
    run.name = "retraining 2"
    tell_crash(None, run, state)
    later = read_outcome(tmp_path)
    assert later is not None
    assert (later.kind, later.flow_run) == ("failed", "retraining 2")


def test_a_bug_is_told_of(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("flows.retraining.flow.read_settings", broken)
    with receiving() as told:
        set_params(farm.root, **{"retrain.notify.webhooks": [{"url": told.url}]})
        with pytest.raises(ZeroDivisionError):
            farm.retrain()
    (post,) = told.posts
    assert "ZeroDivisionError: a bug" in json.loads(post.body)["reason"]
