"""Three nights with a colleague pushing in between, with real remotes of git and DVC."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.registry.moves.aliases import read_state
from tasks.versions.raw import raw_version, version_raw
from tasks.versions.store import checkout, fetch_folder, push_data
from tests.flows.retraining.fixtures import Farm
from tests.flows.toy import dvc
from tests.retrained import add_images, edit, labels_of, move_a_little
from tests.workspace import git, set_params


class Colleague:
    """A clone of the same remotes, in which somebody annotates and programs."""

    def __init__(self, folder: Path) -> None:
        git(folder, "clone", "--quiet", "hub.git", "colleague")
        self.root = folder / "colleague"
        git(self.root, "remote", "set-url", "origin", "../hub.git")

    def pull(self) -> None:
        git(self.root, "pull", "--quiet", "--ff-only")
        assert fetch_folder(self.root, str(raw_version(self.root)))
        assert checkout(self.root, "data/raw.dvc") == []

    def push(self, message: str) -> None:
        version_raw(self.root)
        push_data(self.root)
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", message)
        git(self.root, "push", "--quiet")


@pytest.fixture
def shared(untrained: Farm) -> Farm:
    """A workspace in which nothing has run, with remotes."""
    return share(untrained)


def share(farm: Farm) -> Farm:
    """Let a workspace follow a remote of git and have one of DVC; results are pushed."""
    root, folder = farm.root, farm.root.parent
    dvc(root, "remote", "add", "-d", "store", "../store")
    set_params(root, **{"retrain.push": True})
    branch = git(root, "symbolic-ref", "--short", "HEAD").strip()
    git(root, "commit", "--quiet", "--all", "--message", "remotes")
    git(folder, "init", "--quiet", "--bare", "-b", branch, "hub.git")
    git(root, "remote", "add", "origin", "../hub.git")
    git(root, "push", "--quiet", "--set-upstream", "origin", branch)
    return farm


@pytest.mark.timeout(3600)
def test_three_nights(shared: Farm) -> None:
    root = shared.root
    first = shared.retrain()
    assert (first.kind, first.remarks) == ("promoted", ()), first
    assert git(root, "status", "--porcelain", "--branch").splitlines() == [
        f"## {_branch(root)}...origin/{_branch(root)}"
    ]

    # By day the colleague annotates new images, and people here correct two labels that nobody has versioned.
    colleague = Colleague(root.parent)
    colleague.pull()
    assert len(list((colleague.root / "data/raw").glob("*.json"))) == 120
    add_images(colleague.root, range(300, 315), prefix="theirs")
    colleague.push("15 images more")
    edited = labels_of(root, "train")[:2]
    for path in edited:
        edit(path, move_a_little)
    ours = {path: path.read_bytes() for path in edited}

    second = shared.retrain()
    assert (second.kind, second.version, second.remarks) == ("promoted", "2", ()), second
    assert len(list((root / "data/raw").glob("*.json"))) == 135
    assert {path: path.read_bytes() for path in edited} == ours
    assert raw_version(root) == raw_of(root.parent / "hub.git")  # both are pushed, and everything with them
    states = shared.api.task_states(str(shared.state.state_details.flow_run_id))
    assert (states["bring up to date"][0], states["commit results"][0]) == ("Pulled", "Committed")
    assert "17 images or labels changed" in read_state(root).entries[-3].why

    # By day the colleague takes that up, and changes code that a training depends on; here somebody edits a file.
    colleague.pull()
    assert (colleague.root / "data/raw" / edited[0].name).read_bytes() == ours[edited[0]]
    program = colleague.root / "tasks/train.py"
    program.write_text(program.read_text().replace('headline = f"{document', 'headline = f"another way, {document'))
    told = colleague.root / "flows/retraining/record.py"
    told.write_text(told.read_text().replace('"difference":', '"changed by":'))
    colleague.push("trains in another way")
    (root / "notes.txt").write_text("the camera was moved")

    third = shared.retrain()
    assert third.kind in {"promoted", "skipped"}, third  # the weights are others, and what is exported may be the same
    assert json.loads((root / "models/train.json").read_text())["headline"].startswith("another way")
    assert third.flow_run != shared_name(shared)  # a run of its own, in a process that has the new code
    assert (root / "notes.txt").read_text() == "the camera was moved"
    assert "notes.txt" not in git(root, "ls-files")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_results_that_a_push_of_a_colleague_kept_out_are_pushed_by_the_next_night(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = share(farm).root
    hub = root.parent / "hub.git"
    colleague = Colleague(root.parent)

    def push_meanwhile(workspace: Path) -> bool:
        (colleague.root / "notes.txt").write_text("the camera was moved")
        git(colleague.root, "add", "--all")
        git(colleague.root, "commit", "--quiet", "--message", "notes")
        git(colleague.root, "push", "--quiet")
        return False

    add_images(root, range(500, 516))
    with monkeypatch.context() as patch:
        patch.setattr("flows.retraining.flow.starts_from_champion", push_meanwhile)
        first = farm.retrain()
    assert (first.kind, first.version) == ("promoted", "2"), first
    (remark,) = first.remarks
    assert remark == (
        "the results were not committed or pushed: git push: others have pushed in the meantime; the next run puts the"
        " results on top of that"
    )
    assert "notes.txt" in git(hub, "ls-tree", "--name-only", "HEAD")
    results = {name: (root / name).read_bytes() for name in ("dvc.lock", "metrics/validate.json", "data/raw.dvc")}

    second = farm.retrain()
    assert (second.kind, second.title, second.remarks) == ("skipped", "nothing to train", ()), second
    assert {name: git(hub, "show", f"HEAD:{name}").encode() for name in results} == results
    assert git(hub, "show", "HEAD:notes.txt") == "the camera was moved"
    assert git(root, "status", "--porcelain", "--branch").strip() == f"## {_branch(root)}...origin/{_branch(root)}"
    subjects = git(hub, "log", "--format=%s", "-2").splitlines()
    assert subjects[1] == "notes", subjects
    colleague.pull()
    assert len(list((colleague.root / "data/raw").glob("*.json"))) == 136, "the data came with them"


def raw_of(hub: Path) -> str:
    """Return the version of the raw data that a bare repository's branch names."""
    from tasks.versions.raw import read_md5

    return str(read_md5(git(hub, "show", "HEAD:data/raw.dvc")))


def shared_name(farm: Farm) -> str:
    """Return the name of the run that was started in this process."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(farm.state.state_details.flow_run_id).name)


def _branch(root: Path) -> str:
    return git(root, "symbolic-ref", "--short", "HEAD").strip()
