"""What pruning removes, and that what it keeps can still be brought back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.history import retention
from flows.history.known_runs import Child, Run, list_runs
from flows.history.retention import Pruned, decide
from flows.services import server
from flows.system.process import Tree
from tasks.registry.moves.aliases import MovedError, challenge, open_registry, promote, read_state, rollback
from tasks.registry.retention import delete_versions
from tasks.registry.settings import RetentionParams
from tasks.tracking import runs as tracking
from tasks.tracking.client import open_client
from tasks.tracking.history import artifact_bytes, read_packages, remove_run
from tasks.tracking.history import list_runs as list_tracked_runs
from tasks.versions import snapshots
from tasks.versions.raw import raw_changes
from tasks.versions.stages.state import stage_version
from tasks.versions.store import checkout, opened_commit, share_cache
from tasks.workspace.models import TrainingRecord
from tests.flows.recorded import copy_recorded
from tests.flows.toy import Api, Toy, dvc
from tests.imports import ROOT
from tests.workspace import git

pytestmark = pytest.mark.timeout(3600)  # the first that asks for them has five trainings run


def training(name: str, started: float, status: str = "FINISHED", **extra: Any) -> Run:
    return Run(**{"id": name, "status": status, "started": started, "fingerprint": f"of {name}"} | extra)


RUNS = [
    training("e", 5, "FAILED"),
    training("d", 4),
    training("c", 3, "KILLED"),
    training("b", 2),
    training("a", 1),
]


@pytest.mark.parametrize(
    ("runs", "keep", "registered", "needed", "stays"),
    [
        (RUNS, 1, {}, {}, {"d": "the last one", "e": "begun since"}),
        (RUNS, 2, {}, {}, dict.fromkeys("db", "one of the last 2") | dict.fromkeys("ec", "begun since")),
        (RUNS, 9, {}, {}, dict.fromkeys("dba", "one of the last 9") | dict.fromkeys("ec", "begun since")),
        (RUNS, 1, {"a": ["cow v3"]}, {}, {"a": "registered as cow v3", "d": "the last one", "e": "begun since"}),
        (RUNS, 1, {}, {"of b": ["tag v1"]}, {"b": "tag v1", "d": "the last one", "e": "begun since"}),
        ([training("b", 2), training("a", 1, kept=True)], 1, {}, {}, {"b": "the last one", "a": "kept"}),
        ([training("b", 2), training("a", 1, "RUNNING")], 1, {}, {}, {"b": "the last one", "a": "running"}),
        # of equal trainings one is enough for a branch: the newest that finished
        (
            [training("z", 9), *(training(name, at, status, fingerprint="x") for name, at, status in
             (("c", 3, "FAILED"), ("b", 2, "FINISHED"), ("a", 1, "FINISHED")))],
            1, {}, {"x": ["branch main"]}, {"z": "the last one", "b": "branch main"},
        ),
        (
            [training("b", 2), training("a", 1, children=(Child("x", "export", "FINISHED", 1),))],
            1, {"x": ["cow v1"]}, {}, {"b": "the last one", "a": "registered as cow v1"},
        ),
    ],
)  # fmt: skip
def test_what_stays_and_why(runs: Any, keep: int, registered: Any, needed: Any, stays: dict[str, str]) -> None:
    verdicts = decide(runs, keep, registered, needed)
    assert {v.run.id: ", ".join(v.reasons) for v in verdicts if v.stays} == stays
    assert [v.run for v in verdicts] == runs


def test_what_began_lately_stays() -> None:
    verdicts = decide(RUNS, 1, {}, {}, young_since=1.5)
    assert {v.run.id: ", ".join(v.reasons) for v in verdicts} == {
        "e": "begun since", "d": "the last one", "c": "begun lately", "b": "begun lately", "a": "",
    }  # fmt: skip


def test_what_was_made_elsewhere_stays_and_takes_no_place_of_the_newest() -> None:
    old = tuple(Child(name, "validate", "FINISHED", at) for name, at in (("newer", 9), ("older", 8)))
    runs = [training("z", 9, children=old), training("y", 8, fingerprint="x"), *RUNS, training("x", 0, fingerprint="x")]
    verdicts = decide(runs, 1, {}, {"of b": ["tag v1"], "x": ["branch main"]}, elsewhere={"z", "y"})
    assert {v.run.id: ", ".join(v.reasons) for v in verdicts} == {
        "z": "made elsewhere", "y": "made elsewhere", "e": "begun since", "d": "the last one", "c": "", "b": "tag v1",
        "a": "", "x": "branch main",
    }  # fmt: skip
    assert not any(v.superseded for v in verdicts)


def test_what_was_measured_again_goes_from_a_training_that_stays() -> None:
    children = tuple(
        Child(name, stage, status, at)
        for name, stage, status, at in [
            ("failed since", "validate", "FAILED", 9),
            ("newest", "validate", "FINISHED", 8),
            ("older", "validate", "FINISHED", 7),
            ("failed", "validate", "FAILED", 6),
            ("registered", "export", "FINISHED", 2),
            ("exported", "export", "FINISHED", 5),
        ]
    )
    (verdict,) = decide([training("a", 1, children=children)], 1, {"registered": ["cow v1"]}, {})
    assert [child.id for child in verdict.superseded] == ["older", "failed"]


def prune(root: Path, keep: int, *, remove: bool = False) -> Pruned:
    policy = RetentionParams(trainings=keep, days=0, rollbacks=1)
    return retention.prune(root, policy, remove=remove, say=print)


def cached(root: Path) -> set[str]:
    return {path.name for path in (root / ".dvc/cache/files").rglob("*") if path.is_file()}


PRUNE = """
import sys
from pathlib import Path
from tests.faults.kills import kill_before
root, event, word, number = sys.argv[1:]
kill_before(event, word, int(number))
sys.argv = ["keypipe", "gc", "--keep", "1", "--yes"]
from flows.cli import main
main(Path(root))
"""


@pytest.mark.parametrize(
    ("event", "word", "number"),
    [
        ("subprocess.Popen", "update-ref", 2),
        pytest.param("shutil.rmtree", "mlartifacts", 2, marks=pytest.mark.faults),
        pytest.param("os.remove", ".dvc/cache/files", 3, marks=pytest.mark.faults),
    ],
    ids=["snapshots", "artifacts", "cache"],
)
def test_a_pruning_that_is_killed_takes_nothing_that_stays_and_the_next_makes_it_good(
    history: Toy, history_template: Path, tmp_path: Path, api: Api, event: str, word: str, number: int
) -> None:
    undisturbed = copy_recorded(history_template, tmp_path / "undisturbed", api)
    undisturbed.keypipe("gc", "--keep", "1", "--yes")
    process = subprocess.run(
        [sys.executable, "-c", PRUNE, str(history.root), event, word, str(number)],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL, process.stdout + process.stderr

    def left(root: Path) -> dict[str, set[str]]:
        artifacts = {path.name for path in (root / "mlartifacts").iterdir()}
        kept = {snapshot.run_id for snapshot in snapshots.list_snapshots(root)}
        return {"objects": cached(root), "artifacts": artifacts, "snapshots": kept}

    wanted, now = left(undisturbed.root), left(history.root)
    assert now != wanted, "it was killed too late"
    for what, names in wanted.items():
        assert names <= now[what], f"{what} that stay are gone"
    history.keypipe("gc", "--keep", "1", "--yes")
    assert left(history.root) == wanted
    assert [run.id for run in list_runs(history.root)] == [run.id for run in list_runs(undisturbed.root)]


def test_pruning_keeps_what_kept_runs_need_and_nothing_else(history: Toy) -> None:
    root = history.root
    fourth, failed, third, second, first = list_runs(root)
    assert failed.status == "FAILED"
    assert all(run.snapshot is not None and run.snapshot.complete for run in (fourth, third, second, first))
    assert [run.headline for run in (first, second, third, fourth)] == ["2 epochs", "3 epochs", "3 epochs", "4 epochs"]
    assert list_tracked_runs(root)[-1].tags[snapshots.TAG] == first.snapshot.commit
    objects, artifacts = (cached(root), {path.name for path in (root / "mlartifacts").iterdir()})

    assert f"{second.name} is kept" in history.keypipe("keep", second.name)
    output = history.keypipe("gc", "--keep", "1")
    assert "would remove 3 trainings and 2 of their child runs" in output
    assert "would remove 0 files" not in output
    assert cached(root) == objects
    assert {path.name for path in (root / "mlartifacts").iterdir()} == artifacts
    assert len(list_runs(root)) == 5

    before = {path: path.read_bytes() for path in (root / "dvc.lock", root / ".git/index", root / "models/best.pt")}
    told = prune(root, 1)
    done = prune(root, 1, remove=True)
    assert done == told
    assert len(objects - cached(root)) == done.cache.objects > 0
    assert {path: path.read_bytes() for path in before} == before
    assert [run.id for run in list_runs(root)] == [fourth.id, second.id]
    assert {snapshot.run_id for snapshot in snapshots.list_snapshots(root)} == {fourth.id, second.id}
    left = {path.name for path in (root / "mlartifacts").iterdir() if any(path.rglob("*.*"))}
    assert not {run.id for run in (first, third)} & left
    assert {second.id, fourth.id} <= left

    # what stays can be brought back, as it was
    for run in (second, fourth):
        place = root.parent / run.name
        git(root, "worktree", "add", "--quiet", "--detach", str(place), run.snapshot.commit)
        share_cache(place, root)
        assert checkout(place) == []
        assert raw_changes(place) == (0, 0, 0)
        assert stage_version(place, "train").clean
    # what went is gone
    for run in (first, third):
        lock = git(root, "show", f"{run.snapshot.commit}:dvc.lock")
        models = lock[lock.index("path: models\n") :].split("md5: ", 1)[1].split("\n", 1)[0]
        assert models.removesuffix(".dir")[2:] + ".dir" not in cached(root)
    again = prune(root, 1, remove=True)
    assert (again.cache.objects, again.artifact_bytes) == (0, {})
    assert history.flow().states == ["Cached"] * 5


def test_on_a_shared_server_a_workspace_removes_its_own_trainings_alone(
    history: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = history.root
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.move(root / 'mlflow.db', tmp_path / 'shared.db')}")
    fourth, failed, third, second, first = list_runs(root)
    for run in (first, second):  # as of another workspace, whose snapshots lie in its own git
        snapshots.drop(root, run.id)
    done = prune(root, 1, remove=True)
    assert {verdict.run.id: ", ".join(verdict.reasons) for verdict in done.verdicts} == {
        fourth.id: "workspace, the last one",
        failed.id: "",
        third.id: "",
        second.id: "made elsewhere",
        first.id: "made elsewhere",
    }
    assert [run.id for run in list_runs(root)] == [fourth.id, second.id, first.id]
    assert artifact_bytes(root, first.id) > 0
    assert "made elsewhere" in {reason for verdict in retention.list_kept(root) for reason in verdict.reasons}


def test_a_pruning_of_a_shared_server_that_broke_off_is_made_good_by_the_next(
    history: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = history.root
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.move(root / 'mlflow.db', tmp_path / 'shared.db')}")
    runs = list_runs(root)

    def stop(text: str) -> None:
        raise KeyboardInterrupt(text)

    with pytest.raises(KeyboardInterrupt):
        retention.prune(root, RetentionParams(trainings=1, days=0, rollbacks=1), remove=True, say=stop)
    assert [run.snapshot is None for run in list_runs(root)] == [False, True, True, True, True]
    prune(root, 1, remove=True)
    assert [run.id for run in list_runs(root)] == [runs[0].id]
    assert not (root / ".keypipe/going.json").exists()


def test_branches_tags_and_the_registry_keep_their_trainings(history: Toy) -> None:
    root = history.root
    fourth, failed, third, second, first = list_runs(root)
    git(root, "branch", "old", f"refs/keypipe/{first.id}")
    git(root, "tag", "v1", f"refs/keypipe/{second.id}")
    client = open_client(root)
    client.create_registered_model("cow")
    client.create_model_version("cow", f"runs:/{third.id}/models", run_id=third.id)
    verdicts = prune(root, 1).verdicts
    reasons = {verdict.run.id: ", ".join(verdict.reasons) for verdict in verdicts}
    assert reasons == {
        fourth.id: "workspace, the last one",
        failed.id: "",
        third.id: "registered as cow v1",
        second.id: "tag v1",
        first.id: "branch old",
    }
    for command in ("keep", "runs"):
        assert "branch old" in history.keypipe(command)


def test_what_other_servers_know_stays(history: Toy) -> None:
    root = history.root
    git(root, "update-ref", "refs/keypipe/0123456789abcdef", f"refs/keypipe/{list_runs(root)[-1].id}")
    before = cached(root)
    done = prune(root, 1, remove=True)
    assert done.strangers == ("0123456789abcdef",)
    lost = before - cached(root)
    assert lost
    with opened_commit(root, "refs/keypipe/0123456789abcdef") as read:
        assert read("models/best.pt") is not None


def test_a_cache_that_others_may_share_is_left_alone(history: Toy, tmp_path: Path) -> None:
    shutil.move(history.root / ".dvc/cache", tmp_path / "cache")
    dvc(history.root, "cache", "dir", "--local", str(tmp_path / "cache"))
    before = sum(1 for _ in (tmp_path / "cache").rglob("*"))
    verdicts = prune(history.root, 1).verdicts
    output = history.keypipe("gc", "--keep", "1", "--yes")
    assert "DVC's cache is left alone" in output
    assert sum(1 for _ in (tmp_path / "cache").rglob("*")) == before
    assert [run.id for run in list_runs(history.root)] == [item.run.id for item in verdicts if item.reasons]


def test_outside_git_nothing_tells_what_a_training_needs(history: Toy) -> None:
    shutil.rmtree(history.root / ".git")
    before = cached(history.root)
    assert "left alone: trainings: needs git" in history.keypipe("gc", "--keep", "1", "--yes")
    assert len(list_runs(history.root)) == 5
    assert cached(history.root) == before


def test_versions_that_no_alias_and_no_late_move_needs_go_with_their_trainings(history: Toy) -> None:
    root = history.root
    fourth, _, third, second, first = list_runs(root)
    registry = open_registry(root)
    registry.create("for a test", {})
    for run in (first, second, third):
        registry.add_version(run.id, lambda folder: (folder.mkdir(), (folder / "MLmodel").write_text("{}")), "", {})
    promote(root, "2", why="the first")
    promote(root, "1", why="better")
    promote(root, "3", why="best")
    challenge(root, "3", why="once more")
    name = registry.name
    told = prune(root, 2)
    why = {verdict.run.id: ", ".join(verdict.reasons) for verdict in told.verdicts}
    assert why[third.id] == f"registered as {name} v3 (challenger, champion), one of the last 2"
    assert why[first.id] == f"registered as {name} v1 (previous)"
    assert why[second.id] == f"registered as {name} v2 (moved lately)"  # by the move from 2 to 1
    told = prune(root, 1)
    assert told.versions == ("2",)
    for number, figure in (("1", "0.6"), ("2", "0.8"), ("3", "0.7")):
        registry.tag_version(number, {"test.oks_AP": figure})
    told = prune(root, 1)
    assert told.versions == (), "the gate compares every challenger with the best that was ever in use"
    why = {verdict.run.id: ", ".join(verdict.reasons) for verdict in told.verdicts}
    assert why[second.id] == f"registered as {name} v2 (the best that was in use)"
    registry.tag_version("2", {"test.oks_AP": "0.5"})
    done = prune(root, 1, remove=True)
    assert done.versions == ("2",)
    state = read_state(root)
    assert [version.number for version in state.versions] == ["3", "1"]
    assert (state.entries[-1].what, state.entries[-1].note) == ("prune", "deleted v2")
    assert {run.id for run in list_runs(root)} == {fourth.id, third.id, first.id}
    with pytest.raises(MovedError, match=r"v1 of .* came into use just now"):
        delete_versions(root, ["1"], 1)
    rollback(root)
    assert read_state(root).aliases == {"champion": "1", "challenger": "3"}


@pytest.mark.slow
def test_a_tracking_server_elsewhere_lets_go_of_artifacts_and_marks_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, log = server.free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{tmp_path / 's.db'}", "--artifacts-destination", str(tmp_path / "art")]
    with log.open("wb") as output:
        tree = Tree(
            [*command, *places],
            cwd=tmp_path,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            output=output,
            grace=5,
        )
        try:
            server.wait_for_page(log, tree, f"http://127.0.0.1:{port}/health")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
            weights = tmp_path / "best.pt"
            weights.write_bytes(bytes(1000))
            live = tracking.start_training(tmp_path, TrainingRecord("fingerprint", {}, {}, "", {}))
            live.log_files(weights, "models")
            live.end("FINISHED")
            assert read_packages(tmp_path, live.run_id)["mlflow"]
            assert artifact_bytes(tmp_path, live.run_id) > 1000
            assert remove_run(tmp_path, live.run_id) is False
            assert list_tracked_runs(tmp_path) == []
            assert not [path for path in (tmp_path / "art").rglob("*") if path.is_file()]
        finally:
            tree.end()
