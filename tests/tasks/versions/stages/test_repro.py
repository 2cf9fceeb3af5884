"""A stage reproduced on what it depends on when it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.versions.raw import check_raw, version_raw
from tasks.versions.stages import lockfile
from tasks.versions.stages.repro import Outcome, repro_command, reproduce
from tasks.versions.stages.state import stage_fingerprint, stage_version
from tests.flows.toy import Toy, dvc, wait_until, write_raw
from tests.patience import PATIENCE


@pytest.fixture(scope="session")
def scanned() -> list[str]:
    """Every folder that this process has listed since; such a listener cannot be taken back."""
    folders: list[str] = []
    sys.addaudithook(lambda event, found: folders.append(str(found[0])) if event == "os.scandir" else None)
    return folders


@pytest.fixture
def raw_walks(ran: Toy, scanned: list[str]) -> Callable[[], int]:
    """Return a function that counts how often the raw folder has been walked through since it was asked last."""
    raw = str(ran.root / "data/raw")

    def count() -> int:
        n = scanned.count(raw)
        scanned.clear()
        return n

    scanned.clear()
    return count


def test_a_run_walks_through_the_raw_data_once(
    ran: Toy, raw_walks: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    check_raw(ran.root)
    looking = raw_walks()  # whether there is any file; how that is seen differs between versions of Python
    version = version_raw(ran.root)
    assert raw_walks() == 1 + looking
    assert stage_version(ran.root, "convert", version).clean
    assert raw_walks() == 0

    write_raw(ran.root, "new.json", label="x")
    version = version_raw(ran.root)
    assert raw_walks() == 1 + looking
    changed = stage_version(ran.root, "convert", version)
    assert changed.changes == ("modified: data/raw",)
    monkeypatch.chdir(ran.root)
    assert reproduce(ran.root, "convert", raw=version) == Outcome("ran")
    assert raw_walks() == 1, "whether they are still what the stage was held to; its program has one of its own"
    assert stage_version(ran.root, "convert").clean
    assert changed.fingerprint == stage_fingerprint(ran.root, "convert")
    assert "up to date" in dvc(ran.root, "status", "convert")


@pytest.mark.parametrize("stage", ["convert", "train"])
def test_what_is_edited_while_a_stage_runs_is_not_taken_for_what_it_ran_on(ran: Toy, stage: str) -> None:
    """Plain DVC locks what it finds when the command has ended, so that nothing is ever run on the edit."""
    before = stage_fingerprint(ran.root, stage)
    command = repro_command(stage, ran.root.parent / "outcome.json", force=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, f"TOY_SLEEP_{stage.upper()}": "2"}
    process = subprocess.Popen(command, cwd=ran.root, env=environment, stdout=subprocess.DEVNULL)
    wait_until((ran.root / ".keypipe" / f"asleep-{stage}").exists, f"{stage} to be at work")
    ran.edit(label="calf")
    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 40", "epochs: 41"))
    # What convert read of edited raw data is unknown, and its result would be kept as that of the old ones.
    assert process.wait(PATIENCE) == {"convert": 1, "train": 0}[stage]
    assert lockfile.locked_fingerprint(ran.text("dvc.lock"), stage) == before
    edited = {"convert": "modified: data/raw", "train": "modified: params.yaml train"}[stage]
    assert edited in stage_version(ran.root, stage).changes
