"""What DVC and git tell of a workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.errors import PoseError
from tasks import git, versions
from tests.flows.toy import STAGES, Toy, dvc, run, write_raw


def test_the_stages_come_in_the_order_in_which_they_run(ran: Toy) -> None:
    assert versions.stage_names(ran.root) == STAGES


def test_the_fingerprint_follows_from_command_deps_and_params(ran: Toy) -> None:
    before = {stage: versions.stage_fingerprint(ran.root, stage) for stage in STAGES}
    assert len(set(before.values())) == len(STAGES)
    assert before == {stage: versions.stage_version(ran.root, stage).fingerprint for stage in STAGES}

    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 40", "epochs: 41"))
    after = {stage: versions.stage_fingerprint(ran.root, stage) for stage in STAGES}
    assert {stage for stage in STAGES if after[stage] != before[stage]} == {"train"}

    code = ran.root / "tasks" / "export.py"
    code.write_text(code.read_text() + "\n# another\n")
    assert versions.stage_fingerprint(ran.root, "export") != before["export"]


def test_changes_are_told_in_words(ran: Toy) -> None:
    assert versions.stage_version(ran.root, "train").clean
    params = ran.root / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 40", "epochs: 41"))
    (ran.root / "models" / "best.pt").unlink()
    version = versions.stage_version(ran.root, "train")
    assert version.changes == ("modified: params.yaml train", "modified: models")
    assert version.known


def test_raw_changes_are_counted(ran: Toy) -> None:
    assert versions.raw_changes(ran.root) == (0, 0, 0)
    write_raw(ran.root, "new/one.json", label="x")
    write_raw(ran.root, "1.json", label="other")
    (ran.root / "data/raw/2.json").unlink()
    assert versions.raw_changes(ran.root) == (1, 1, 1)
    version = versions.version_raw(ran.root)
    assert (version.files, version.changed) == (4, True)
    assert versions.raw_version(ran.root) == version.md5
    assert versions.version_raw(ran.root) == version._replace(changed=False)
    assert versions.raw_changes(ran.root) == (0, 0, 0)


def test_dirty_is_what_no_commit_holds(fresh: Toy) -> None:
    root = fresh.root
    assert git.git_state(root).commit is None
    run(["git", "add", "."], root)
    run(["git", "commit", "-qm", "start"], root)
    assert git.git_state(root).dirty is False

    fresh.flow()
    state = git.git_state(root)
    assert (state.dirty, state.changes) == (True, ("data/raw",))
    run(["git", "add", "."], root)
    run(["git", "commit", "-qm", "data"], root)
    assert git.git_state(root).dirty is False

    (root / "README.md").write_text("words")
    fresh.edit(label="cow0", comment="another")
    assert fresh.flow().states[0] == "Ran"
    assert git.git_state(root).changes == ("data/raw",)
    run(["git", "add", "."], root)
    run(["git", "commit", "-qm", "data"], root)

    assert fresh.flow(force=["validate", "split"]).result.exit_code == 0
    assert git.git_state(root).dirty is False
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "# words\n")
    (root / "tasks" / "extra.py").write_text("")
    assert git.git_state(root).changes == ("params.yaml", "tasks/extra.py")


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
        _ = [versions.stage_version(ran.root, stage) for stage in versions.stage_names(ran.root)]


def test_outputs_come_back_from_the_cache(ran: Toy) -> None:
    run(["rm", "-r", "models"], ran.root)
    assert versions.restore_outputs(ran.root, "train")
    assert (ran.root / "models" / "best.pt").exists()
    run(["rm", "-r", "models", ".dvc/cache"], ran.root)
    with pytest.raises(PoseError, match="not in DVC's cache"):
        versions.restore_outputs(ran.root, "train")


def test_stale_locks_of_dvc_are_dropped(ran: Toy) -> None:
    lock = ran.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text('{"read": {}, "write": {"' + str(ran.root / "models") + '": {"pid": 1, "cmd": "dvc repro"}}}')
    import os

    os.utime(lock, (1, 1))  # written before the process that has this number now
    versions.clear_stale_locks(ran.root)
    assert "models" not in lock.read_text()


def test_outputs_are_listed_with_how_they_are_kept(ran: Toy) -> None:
    assert versions.stage_outputs(ran.root, "split") == [
        versions.Output("data/dataset/annotations", cached=True, persist=False),
        versions.Output("data/dataset/manifest.csv", cached=False, persist=True),
    ]
    assert versions.stage_outputs(ran.root, "validate") == [versions.Output("metrics/validate.json", False, False)]


def test_no_lock_of_dvc_is_left_held(ran: Toy) -> None:
    versions.stage_version(ran.root, "train")
    assert "up to date" in dvc(ran.root, "status")


def test_a_workspace_outside_git(tmp_path: Path, ran: Toy) -> None:
    run(["rm", "-rf", ".git"], ran.root)
    run(["sh", "-c", "printf '[core]\\n    no_scm = True\\n' > .dvc/config"], ran.root)
    assert git.git_state(ran.root) == git.GitState(None, dirty=False)
    assert versions.stage_version(ran.root, "train").clean
