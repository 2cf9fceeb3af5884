"""A training that was there already, and stages after it that ran again."""

from __future__ import annotations

from flows.history import retention
from flows.history.known_runs import list_runs
from tasks.registry.settings import RetentionParams
from tasks.tracking.history import list_runs as list_tracked_runs
from tasks.versions import snapshots
from tests.flows.toy import Toy
from tests.workspace import set_params


def test_a_later_validation_is_kept_with_the_parameters_that_it_had(history: Toy) -> None:
    root = history.root
    before = list_runs(root)[0]
    assert before.snapshot is not None
    set_params(root, **{"validate.keypoint_conf": 0.4})
    assert history.flow().states == ["Cached", "Cached", "Cached", "Ran", "Cached"]

    after = list_runs(root)[0]
    assert after.snapshot is not None
    assert after.id == before.id
    assert after.snapshot.commit != before.snapshot.commit
    assert b"keypoint_conf: 0.4" in (snapshots.read_file(root, after.snapshot.commit, "params.yaml") or b"")
    assert snapshots.read_file(root, after.snapshot.commit, "dvc.lock") == (root / "dvc.lock").read_bytes()
    assert list_tracked_runs(root)[-1].params
    tags = {run.id: run.tags for run in list_tracked_runs(root)}
    assert tags[after.id][snapshots.TAG] == after.snapshot.commit

    # the validation of before is a child run that nothing needs any more
    told = retention.prune(root, RetentionParams(trainings=9), remove=False, say=print)
    assert [len(verdict.superseded) for verdict in told.verdicts] == [1, 0, 0, 0, 0]
    assert sum(told.artifact_bytes.values()) > 0

    assert history.flow().states == ["Cached"] * 5
    assert list_runs(root)[0].snapshot == after.snapshot


def test_a_training_that_lost_its_snapshot_gets_one_with_the_next_run(history: Toy) -> None:
    root = history.root
    run = list_runs(root)[0]
    snapshots.drop(root, run.id)
    assert history.flow(KEYPIPE_SNAPSHOTS="off").states == ["Cached"] * 5
    assert list_runs(root)[0].snapshot is None
    assert history.flow().states == ["Cached"] * 5
    found = list_runs(root)[0].snapshot
    assert found is not None
    assert found.complete
    assert history.keypipe("reproduce", run.name).rstrip().endswith("is reproduced")
