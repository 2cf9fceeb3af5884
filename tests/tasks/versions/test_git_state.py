"""What is here that no commit holds."""

from __future__ import annotations

from pathlib import Path

from tasks.versions.git_state import GitState, git_state
from tasks.versions.stages.state import stage_version
from tests.flows.toy import Toy, run


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


def test_a_workspace_outside_git(tmp_path: Path, ran: Toy) -> None:
    run(["rm", "-rf", ".git"], ran.root)
    run(["sh", "-c", "printf '[core]\\n    no_scm = True\\n' > .dvc/config"], ran.root)
    assert git_state(ran.root) == GitState(None, dirty=False)
    assert stage_version(ran.root, "train").clean
