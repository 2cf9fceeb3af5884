"""``keypipe status`` while nothing runs; tests of runs ask it while something does."""

from __future__ import annotations

import json

from flows.commands.status import read_status
from tests.flows.toy import Toy, write_raw


def test_a_fresh_workspace(fresh: Toy) -> None:
    status = read_status(fresh.root)
    assert {stage.state for stage in status.stages} == {"missing"}
    assert status.raw_changes == "not versioned yet"
    assert status.last_run is None


def test_what_changed_is_told(ran: Toy) -> None:
    assert [stage.state for stage in read_status(ran.root).stages] == ["up to date"] * 5
    write_raw(ran.root, "9.json", label="new")
    write_raw(ran.root, "0.json", label="other")
    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 40", "epochs: 41"))
    (ran.root / "exports" / "best.onnx").unlink()
    status = read_status(ran.root)
    stages = {stage.stage: (stage.state, stage.detail) for stage in status.stages}
    assert stages == {
        "convert": ("stale", "modified: data/raw"),
        "split": ("up to date", "unless convert comes out differently"),
        "train": ("stale", "modified: params.yaml train"),
        "validate": ("up to date", "unless convert comes out differently"),
        "export": ("stale", "modified: exports"),
    }
    assert status.raw_changes == "1 new, 1 changed"
    assert status.last_run is not None
    assert status.last_run.state == "Completed"


def test_the_command(ran: Toy) -> None:
    assert json.loads(ran.keypipe("status", "--json"))["stages"][0]["state"] == "up to date"
    output = ran.keypipe("status")
    assert "raw data   version" in output
    assert "schedule   none" in output
