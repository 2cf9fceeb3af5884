"""``keypipe gc``: what it lets go of, and that the champion and what a rollback leads to can be made again after it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flows.history import cleaning, prefect_runs
from flows.history.known_runs import list_runs
from flows.history.reproduction import RESULTS, reproduce
from flows.services import server
from keypipe.errors import PoseError
from tasks.drift.settings import LOG
from tasks.registry.moves.aliases import open_registry, promote, read_state, rollback
from tasks.registry.moves.approvals import ask, reject
from tasks.registry.retention import find_needed
from tasks.registry.settings import RetentionParams
from tasks.tracking.history import fetch_artifact
from tasks.versions import snapshots
from tasks.versions.store import list_folders
from tests.flows.history.test_retention import cached
from tests.flows.toy import Api, Toy
from tests.patience import PATIENCE
from tests.workspace import set_params

DAY = 86400.0


def register(root: Path, *run_ids: str) -> None:
    """Register a version of each training, v1 first."""
    registry = open_registry(root)
    registry.create("for a test", {})
    for run_id in run_ids:
        registry.add_version(run_id, lambda folder: (folder.mkdir(), (folder / "MLmodel").write_text("{}")), "", {})


def clean(root: Path, *, remove: bool = True, **policy: Any) -> cleaning.Cleaned:
    wanted = RetentionParams(**{"trainings": 1, "days": 0.0, "rollbacks": 1} | policy)
    return cleaning.clean(root, wanted, remove=remove, say=print)


@pytest.mark.timeout(3600)
def test_champion_and_what_a_rollback_leads_to_can_be_made_again(history: Toy) -> None:
    root = history.root
    fourth, _, _, second, first = list_runs(root)
    register(root, second.id, first.id)
    promote(root, "1", why="the first")
    promote(root, "2", why="better")
    for name in ("data/raw", "data/coco", "models", "exports", "reports"):  # the cache and the snapshots have them
        shutil.rmtree(root / name)
    history.keypipe("gc", "--keep", "1", "--yes")
    assert [run.id for run in list_runs(root)] == [fourth.id, second.id, first.id]

    champion = reproduce(root, first.name, check=False, tolerance=0.02, say=print)
    assert (champion.same, champion.trained) == (True, False), "its results come from the cache"
    assert all(line.same for line in champion.lines)
    again = reproduce(root, first.name, check=True, tolerance=0.02, say=print)
    assert (again.same, again.trained, again.exact) == (True, True, True), "and its data are there to train anew"

    rollback(root)
    assert read_state(root).aliases["champion"] == "1"
    before = reproduce(root, second.name, check=True, tolerance=0.02, say=print)
    assert (before.same, before.trained) == (True, True)
    for run in (first, second):
        assert fetch_artifact(root, run.id, "models/best.pt", root.parent) is not None


def test_without_its_place_in_the_registry_a_training_goes(history: Toy) -> None:
    """What the test above would say if the champion were not protected."""
    root = history.root
    fourth, _, _, _, first = list_runs(root)
    clean(root)
    assert [run.id for run in list_runs(root)] == [fourth.id]
    assert "no training's id begins so" in history.keypipe("reproduce", first.name, code=2)


def test_nothing_is_removed_unless_that_is_said(history: Toy) -> None:
    root = history.root
    objects, runs = cached(root), list_runs(root)
    set_params(root, **{"retention.trainings": 1, "retention.days": 0.0})
    output = history.keypipe("gc")
    assert "would remove 4 trainings" in output
    assert output.rstrip().endswith("nothing was removed; --yes does it")
    told = gc(history)
    assert (told["removed"], told["policy"]["trainings"]) == (False, 1)
    sizes = [told["trainings"]["cache"]["size_bytes"], *told["trainings"]["artifact_bytes"].values()]
    assert told["size_bytes"] == sum(sizes) > 100_000
    assert (cached(root), list_runs(root)) == (objects, runs)

    done = gc(history, "--yes")
    assert done["removed"] is True
    assert done["size_bytes"] == told["size_bytes"]
    assert len(objects - cached(root)) == told["trainings"]["cache"]["objects"]


def test_young_trainings_stay_by_the_shipped_policy(history: Toy) -> None:
    assert clean(history.root, **RetentionParams(trainings=1).model_dump()).trainings.versions == ()  # type: ignore[union-attr]
    assert len(list_runs(history.root)) == 5


def test_what_waits_for_a_word_and_what_further_rollbacks_lead_to_stay(history: Toy) -> None:
    root = history.root
    fourth, _, third, second, first = list_runs(root)
    register(root, first.id, second.id, third.id, fourth.id)
    for number in ("1", "2", "3"):
        promote(root, number, why="better")
    ask(root, "4", "undecided", 7.0, ["anna@example.org"])
    name = open_registry(root).name
    assert find_needed(root, 0, 1) == {
        f"{name} v4": "waits for a person's word",
        f"{name} v3": "champion",
        f"{name} v2": "previous",
        f"{name} v1": "",
    }
    assert find_needed(root, 0, 2)[f"{name} v1"] == "a rollback leads to it"
    reject(root, "4", "no better")
    assert find_needed(root, 0, 1)[f"{name} v4"] == ""
    rollback(root)
    rollback(root)
    assert read_state(root).aliases["champion"] == "1"


def test_raw_data_of_a_champion_without_a_snapshot_here_stay(history: Toy) -> None:
    """As of one that was trained on another machine: its snapshot is a ref of that machine's git."""
    root = history.root
    *_, first = list_runs(root)
    register(root, first.id)
    promote(root, "1", why="the first")
    assert first.data
    files = set(list_folders(root, [first.data])[first.data].values())
    assert files <= cached_names(root)
    snapshots.drop(root, first.id)
    done = clean(root)
    assert done.trainings is not None
    assert done.trainings.without_snapshot == (first.name,)
    assert files | {first.data} <= cached_names(root)
    assert any("have no snapshot here" in line for line in cleaning.describe(done))


def cached_names(root: Path) -> set[str]:
    """Return the names of the cache's objects as DVC has them."""
    places = (path.relative_to(root / ".dvc/cache/files/md5") for path in (root / ".dvc/cache/files/md5").glob("*/*"))
    return {f"{place.parent.name}{place.name}" for place in places}


def test_runs_in_prefect_go_with_logs_and_artifacts_and_those_of_others_stay(history: Toy, fresh: Toy) -> None:
    assert history.flow().states == ["Cached"] * 5
    fresh.flow(until="convert")
    assert clean(history.root, prefect_days=1).prefect.ids == ()  # type: ignore[union-attr]
    told = clean(history.root, remove=False, prefect_days=0)
    assert told.prefect is not None
    assert len(told.prefect.ids) == 1
    assert told.prefect.size_bytes is None
    assert len(history.api._flow_runs(history.root)) == 1
    assert clean(history.root, prefect_days=0).prefect == told.prefect
    assert history.api._flow_runs(history.root) == []
    assert len(history.api._flow_runs(fresh.root)) == 1
    assert logs_of(told.prefect.ids) == 0


def logs_of(ids: tuple[str, ...]) -> int:
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    which = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(one) for one in ids]))
    with get_client(sync_client=True) as client:
        return len(client.read_logs(log_filter=which))


@pytest.mark.slow
def test_the_workspaces_own_database_gives_its_room_back(ran_template: Path, tmp_path: Path, api: Api) -> None:
    root = tmp_path / "toy"
    shutil.copytree(ran_template, root, symlinks=True)
    toy = Toy(root, api)
    for _ in range(2):
        process = toy.start("run", "--force", "convert", own_server=True)
        output, _ = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, output
    (root / "params.yaml").write_text(toy.text("params.yaml") + "\nretention:\n  prefect_days: 0\n")
    told = gc(toy, own_server=True)
    assert len(told["prefect"]["ids"]) == 2
    assert told["prefect"]["size_bytes"] > 100
    assert gc(toy, "--yes", own_server=True)["prefect"] == told["prefect"]
    assert gc(toy, own_server=True)["prefect"] == {"server": "the workspace's own database", "ids": [], "size_bytes": 0}
    with closing(sqlite3.connect(root / server.DATABASE)) as database:
        assert database.execute("PRAGMA freelist_count").fetchone() == (0,), "the room is back on the disk"
        for table in ("flow_run", "task_run", "log", "artifact"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def gc(toy: Toy, *arguments: str, own_server: bool = False) -> Any:
    """Return what ``keypipe gc --json`` prints, without the messages before it."""
    process = toy.start("gc", "--json", *arguments, own_server=own_server)
    output, _ = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, output
    return json.loads(output[output.index("{\n") :])


def test_the_log_of_predictions_and_what_was_reproduced_have_limits(fresh: Toy) -> None:
    root = fresh.root
    now = time.time()
    (root / LOG).mkdir(parents=True)
    for days, size in ((100, 700), (0, 70)):
        (root / LOG / f"{round((now - days * DAY) * 1000):013d}-a.parquet").write_bytes(bytes(size))
    for name, days in (("old", 40), ("new", 1)):
        folder = root / RESULTS / name
        folder.mkdir(parents=True)
        (folder / "best.pt").write_bytes(bytes(1000))
        os.utime(folder, (now - days * DAY, now - days * DAY))
    told = clean(root, remove=False)
    assert (told.log, told.reproduced) == (cleaning.Heap(1, 700), cleaning.Heap(1, 1000))
    done = clean(root)
    assert (done.log, done.reproduced) == (told.log, told.reproduced)
    assert [path.stat().st_size for path in (root / LOG).iterdir()] == [70]
    assert [path.name for path in (root / RESULTS).iterdir()] == ["new"]


def own_database(root: Path, *runs: tuple[str, str]) -> list[str]:
    """Make Prefect's database of the workspace, as far as it is asked, of runs that ended long ago.

    Args:
        root: the workspace.
        runs: parameters, as JSON, and state of each.

    Returns:
        Their ids.
    """
    ids = [str(uuid4()) for _ in runs]
    path = root / server.DATABASE
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE flow_run (id TEXT, state_type TEXT, end_time TEXT, parameters TEXT)")
        database.execute("CREATE TABLE log (flow_run_id TEXT, message TEXT)")
        database.execute("CREATE TABLE artifact (flow_run_id TEXT, data TEXT)")
        for one, (parameters, state) in zip(ids, runs, strict=True):
            ended = (one, state, "2020-01-01 00:00:00", parameters)
            database.execute("INSERT INTO flow_run VALUES (?, ?, ?, ?)", ended)
            database.execute("INSERT INTO log VALUES (?, ?)", (one, "twelve signs"))
    return ids


def test_runs_of_other_flows_in_the_workspaces_own_database_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "find_configured_url", lambda: None)
    given = json.dumps({"root": str(tmp_path), "until": None})
    elsewhere = json.dumps({"root": "/somewhere/else"})
    ids = own_database(
        tmp_path,
        (given, "COMPLETED"),
        ("{}", "COMPLETED"),
        (elsewhere, "FAILED"),
        (given, "RUNNING"),
        (given, "FAILED"),
    )
    assert prefect_runs.find_old_runs(tmp_path, 1) == prefect_runs.OldRuns(ids=(ids[0], ids[4]), size_bytes=24)


@pytest.mark.parametrize("kind", ["a folder", "no database"])
def test_a_database_of_prefect_that_cannot_be_read_is_told_and_the_rest_is_cleaned(
    history: Toy, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = history.root / server.DATABASE
    path.unlink(missing_ok=True)
    if kind == "a folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no database at all, but of some length" * 100)
    monkeypatch.setattr(server, "find_configured_url", lambda: None)
    done = clean(history.root)
    assert done.prefect is None
    assert [line for line in done.skipped if "cannot be read" in line]
    assert len(list_runs(history.root)) == 1


def test_runs_that_prefect_did_not_remove_are_not_told_as_removed(
    history: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away between being asked and being told to remove."""
    away = prefect_runs.OldRuns("http://somewhere", (str(uuid4()),), None)

    def fail(*_: object) -> None:
        raise PoseError("it went away")

    monkeypatch.setattr(prefect_runs, "find_old_runs", lambda *_: away)
    monkeypatch.setattr(prefect_runs, "remove_runs", fail)
    done = clean(history.root)
    assert done.prefect is None
    lines = list(cleaning.describe(done))
    assert [line for line in lines if line.startswith("left alone: Prefect: ")]
    assert not [line for line in lines if "runs from Prefect" in line]


def test_what_prefect_does_not_answer_is_left_alone_and_the_rest_is_cleaned(
    history: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.free_port()}/api")
    done = clean(history.root)
    assert done.prefect is None
    assert [line for line in done.skipped if "does not answer" in line]
    assert len(list_runs(history.root)) == 1


def test_a_wrong_policy_is_one_message(fresh: Toy) -> None:
    (fresh.root / "params.yaml").write_text(fresh.text("params.yaml") + "\nretention:\n  trainings: 0\n  day: 3\n")
    output = fresh.keypipe("gc", code=2)
    assert "trainings" in output
    assert "did you mean days" in output or "unknown parameter" in output
