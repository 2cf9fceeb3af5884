"""The stages as DVC sees them."""

from __future__ import annotations

import pytest

from keypipe.errors import PoseError
from tasks.versions.stages.state import (
    Output,
    restore_outputs,
    stage_fingerprint,
    stage_names,
    stage_outputs,
    stage_version,
)
from tests.flows.toy import STAGES, Toy, run


def test_the_stages_come_in_the_order_in_which_they_run(ran: Toy) -> None:
    assert stage_names(ran.root) == STAGES


def test_the_fingerprint_follows_from_command_deps_and_params(ran: Toy) -> None:
    before = {stage: stage_fingerprint(ran.root, stage) for stage in STAGES}
    assert len(set(before.values())) == len(STAGES)
    assert before == {stage: stage_version(ran.root, stage).fingerprint for stage in STAGES}

    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 40", "epochs: 41"))
    after = {stage: stage_fingerprint(ran.root, stage) for stage in STAGES}
    assert {stage for stage in STAGES if after[stage] != before[stage]} == {"train"}

    code = ran.root / "tasks" / "export.py"
    code.write_text(code.read_text() + "\n# another\n")
    assert stage_fingerprint(ran.root, "export") != before["export"]


def test_changes_are_told_in_words(ran: Toy) -> None:
    assert stage_version(ran.root, "train").clean
    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 40", "epochs: 41"))
    (ran.root / "models" / "best.pt").unlink()
    version = stage_version(ran.root, "train")
    assert version.changes == ("modified: params.yaml train", "modified: models")
    assert version.known


def test_outputs_come_back_from_the_cache(ran: Toy) -> None:
    run(["rm", "-r", "models"], ran.root)
    assert restore_outputs(ran.root, "train")
    assert (ran.root / "models" / "best.pt").exists()
    run(["rm", "-r", "models", ".dvc/cache"], ran.root)
    with pytest.raises(PoseError, match="not in DVC's cache"):
        restore_outputs(ran.root, "train")


def test_outputs_are_listed_with_how_they_are_kept(ran: Toy) -> None:
    assert stage_outputs(ran.root, "split") == [
        Output("data/dataset/annotations", cached=True, persist=False),
        Output("data/dataset/manifest.csv", cached=False, persist=True),
    ]
    assert stage_outputs(ran.root, "validate") == [Output("metrics/validate.json", False, False)]
