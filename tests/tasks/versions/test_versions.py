"""What DVC and git tell of a workspace."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keypipe.errors import DatasetError, PoseError
from tasks.versions import lockfile
from tasks.versions.git_state import GitState, git_state
from tasks.versions.raw import raw_changes, raw_version, version_raw
from tasks.versions.repository import clear_stale_locks
from tasks.versions.repro import Outcome, repro_command, reproduce
from tasks.versions.stages import Output, restore_outputs, stage_fingerprint, stage_names, stage_outputs, stage_version
from tests.flows.toy import STAGES, Toy, dvc, run, wait_until, write_raw


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


def test_raw_changes_are_counted(ran: Toy) -> None:
    assert raw_changes(ran.root) == (0, 0, 0)
    write_raw(ran.root, "new/one.json", label="x")
    write_raw(ran.root, "1.json", label="other")
    (ran.root / "data/raw/2.json").unlink()
    assert raw_changes(ran.root) == (1, 1, 1)
    version = version_raw(ran.root)
    assert (version.files, version.changed) == (4, True)
    assert raw_version(ran.root) == version.md5
    assert version_raw(ran.root) == version._replace(changed=False)
    assert raw_changes(ran.root) == (0, 0, 0)


def test_a_workspace_without_data_is_dirty_until_it_is_committed(fresh: Toy) -> None:
    assert git_state(fresh.root) == GitState(None, dirty=True)
    run(["git", "add", "."], fresh.root)
    run(["git", "commit", "-qm", "start"], fresh.root)
    assert git_state(fresh.root).dirty is False


def test_dirty_is_what_no_commit_holds(ran: Toy) -> None:
    root = ran.root
    run(["git", "add", ".", ":!data/raw.dvc", ":!dvc.lock", ":!data/dataset", ":!metrics"], root)
    run(["git", "commit", "-qm", "start"], root)
    state = git_state(root)
    assert (state.dirty, state.changes) == (True, ("data/raw",))
    run(["git", "add", "."], root)
    run(["git", "commit", "-qm", "data"], root)
    assert git_state(root).dirty is False

    (root / "README.md").write_text("words")
    ran.edit(label="cow0", comment="another")
    assert ran.flow().states[0] == "Ran"
    assert git_state(root).changes == ("data/raw",)
    run(["git", "add", "."], root)
    run(["git", "commit", "-qm", "data"], root)

    assert ran.flow(force=["validate", "split"]).result.exit_code == 0
    assert git_state(root).dirty is False
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "# words\n")
    (root / "tasks" / "extra.py").write_text("")
    assert git_state(root).changes == ("params.yaml", "tasks/extra.py")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["rm", "dvc.yaml"], "no dvc.yaml here"),
        (["rm", "-r", ".dvc"], "run `dvc init`"),
        (["sh", "-c", "echo 'stages: [' > dvc.yaml"], "dvc.yaml"),
        (["sh", "-c", "echo '<<<<<<< HEAD' > dvc.lock"], "dvc.lock"),
        (["sed", "-i", "s/params: .validate./params: [gone]/", "dvc.yaml"], "gone"),
    ],
)
def test_a_broken_workspace_is_one_clear_message(ran: Toy, command: list[str], message: str) -> None:
    run(command, ran.root)
    with pytest.raises(PoseError, match=message):
        _ = [stage_version(ran.root, stage) for stage in stage_names(ran.root)]


def test_outputs_come_back_from_the_cache(ran: Toy) -> None:
    run(["rm", "-r", "models"], ran.root)
    assert restore_outputs(ran.root, "train")
    assert (ran.root / "models" / "best.pt").exists()
    run(["rm", "-r", "models", ".dvc/cache"], ran.root)
    with pytest.raises(PoseError, match="not in DVC's cache"):
        restore_outputs(ran.root, "train")


def test_stale_locks_of_dvc_are_dropped(ran: Toy) -> None:
    lock = ran.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text('{"read": {}, "write": {"' + str(ran.root / "models") + '": {"pid": 1, "cmd": "dvc repro"}}}')
    os.utime(lock, (1, 1))  # written before the process that has this number now
    clear_stale_locks(ran.root)
    assert "models" not in lock.read_text()


def test_outputs_are_listed_with_how_they_are_kept(ran: Toy) -> None:
    assert stage_outputs(ran.root, "split") == [
        Output("data/dataset/annotations", cached=True, persist=False),
        Output("data/dataset/manifest.csv", cached=False, persist=True),
    ]
    assert stage_outputs(ran.root, "validate") == [Output("metrics/validate.json", False, False)]


def test_no_lock_of_dvc_is_left_held(ran: Toy) -> None:
    stage_version(ran.root, "train")
    assert "up to date" in dvc(ran.root, "status")


def test_a_workspace_outside_git(tmp_path: Path, ran: Toy) -> None:
    run(["rm", "-rf", ".git"], ran.root)
    run(["sh", "-c", "printf '[core]\\n    no_scm = True\\n' > .dvc/config"], ran.root)
    assert git_state(ran.root) == GitState(None, dirty=False)
    assert stage_version(ran.root, "train").clean


def test_the_raw_data_stay_ordinary_files_whatever_the_type_of_dvcs_cache(ran: Toy) -> None:
    """With links into the cache labelme could not save: they are read-only."""
    dvc(ran.root, "config", "cache.type", "hardlink")
    write_raw(ran.root, "new.json", label="x")
    version = version_raw(ran.root)
    assert version.changed
    for path in (ran.root / "data/raw").iterdir():
        assert path.stat().st_nlink == 1
        assert path.stat().st_mode & stat.S_IWUSR
    assert "data/raw" not in dvc(ran.root, "status", "data/raw.dvc")
    shutil.rmtree(ran.root / "data/raw")
    dvc(ran.root, "checkout", "data/raw.dvc")
    assert json.loads((ran.root / "data/raw/new.json").read_text()) == {"label": "x"}


def test_a_version_that_the_cache_has_lost_is_kept_again(ran: Toy) -> None:
    shutil.rmtree(ran.root / ".dvc/cache")
    version = version_raw(ran.root)
    assert not version.changed
    shutil.rmtree(ran.root / "data/raw")
    dvc(ran.root, "checkout", "data/raw.dvc")
    assert version_raw(ran.root) == version


def test_raw_data_that_dvc_keeps_otherwise_are_refused(fresh: Toy) -> None:
    run(["sed", "-i", "s/outs: .exports./outs: [data\\/raw\\/made]/", "dvc.yaml"], fresh.root)
    with pytest.raises(DatasetError, match="both a dependency and an output"):
        version_raw(fresh.root)
    assert raw_version(fresh.root) is None


def test_versioning_tells_how_far_it_is(ran: Toy) -> None:
    write_raw(ran.root, "new.json", label="x")
    told: list[tuple[str, int, int]] = []

    version = version_raw(ran.root, lambda *how_far: told.append(how_far))
    assert ("files hashed", version.files, version.files) in told
    assert ("new files kept", 1, 1) in told


@pytest.mark.parametrize("times", [1, 9])
def test_a_file_that_is_saved_while_it_is_versioned_is_never_kept_under_a_wrong_name(ran: Toy, times: int) -> None:
    before = raw_version(ran.root)
    left = times
    write_raw(ran.root, "new.json", label="0")

    def progress(what: str, done: int, _: int) -> None:
        nonlocal left
        if what == "new files kept" and not done and left:  # hashed, and not yet copied
            left -= 1
            write_raw(ran.root, "new.json", label=f"{left} more to come")

    if times == 1:
        version = version_raw(ran.root, progress)
        assert version.md5 == raw_version(ran.root) != before
        assert "up to date" in dvc(ran.root, "status", "data/raw.dvc")
        (ran.root / "data/raw/new.json").unlink()
        dvc(ran.root, "checkout", "data/raw.dvc")
        assert json.loads((ran.root / "data/raw/new.json").read_text()) == {"label": "0 more to come"}
    else:
        with pytest.raises(DatasetError, match=r"new\.json changes again and again"):
            version_raw(ran.root, progress)
        assert raw_version(ran.root) == before
    for path in (ran.root / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file():
            name = f"{path.parent.name}{path.name}".removesuffix(".dir")
            assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == name


def test_a_link_to_nothing_is_named(ran: Toy) -> None:
    (ran.root / "data/raw/lost.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(DatasetError, match=r"lost\.jpg"):
        version_raw(ran.root)


def test_a_file_that_is_removed_while_it_is_versioned_is_no_part_of_the_version(ran: Toy) -> None:
    before = raw_version(ran.root)
    new = ran.root / "data/raw/new.json"
    write_raw(ran.root, "new.json", label="x")

    def progress(what: str, done: int, _: int) -> None:
        if what == "new files kept" and not done:
            new.unlink(missing_ok=True)

    version = version_raw(ran.root, progress)
    assert (version.md5, version.changed) == (before, False)


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
    looking = 1  # check_raw looks whether there is any file
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
    assert process.wait(60) == {"convert": 1, "train": 0}[stage]
    assert lockfile.locked_fingerprint(ran.text("dvc.lock"), stage) == before
    edited = {"convert": "modified: data/raw", "train": "modified: params.yaml train"}[stage]
    assert edited in stage_version(ran.root, stage).changes
